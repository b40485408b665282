//! Step 4, all effects: carries a plan out, in order, and says what could not be done.
//!
//! Isolation comes before anything that runs. Within a stage writes go side by side, and one that fails keeps neither
//! its neighbours nor the next tenant waiting; it only holds back the stages after it. A tenant's keys are made beside the
//! first stages, and hold back only pods. Every write may be repeated.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use futures::future::join_all;
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::{
    changes::{self, Change},
    context::Context,
    kind::Kind,
    observations::ObjectKey,
    observe::Observed,
    offboarding::{OffboardingError, carry_out::carry_out},
    plan::{Build, Certificates, Deletion, Plan, Write},
    rotation::{act::Done, look::Trouble, report},
    tenant_keys::{KeysError, Subject},
    writer::WriteError,
};
use crate::{
    api::{ConditionType, Tenant, TenantState, ValidTenant, tenant::KeyStatus},
    pki::{self, PkiError},
    resources::{Manifest, Stage, certificates},
};

/// What carrying out a plan came to.
#[derive(Debug, Default)]
pub struct Executed {
    /// What could not be done.
    pub failures: Vec<Failure>,
    /// When freshly issued certificates are to be renewed.
    pub renew_at: Option<Timestamp>,
    /// The tenant's key, if it was asked for.
    pub key: Option<KeyStatus>,
    /// A change of the spec could not be announced, so nothing was done about it.
    pub unannounced: bool,
    /// What a step of a rotation came to, if one was taken.
    pub rotation: Option<Result<Done, Trouble>>,
    /// The registry knows of no offboarding any more.
    pub reinstated: bool,
    /// What a tenant on its way out came to.
    pub way_out: WayOut,
}

/// What a pass over a tenant on its way out came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WayOut {
    /// Something is awaited, or it is on no way out.
    #[default]
    Waits,
    /// A step is done, and the next one can follow at once.
    Further,
    /// The finalizer is off: there is nothing left to publish to.
    Gone,
}

/// Something that could not be done.
#[derive(Debug)]
pub struct Failure {
    /// The condition that it keeps from holding.
    pub condition: ConditionType,
    /// What it was about.
    pub object: String,
    /// Why.
    pub error: ExecuteError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            // It begins with the object.
            ExecuteError::Write(error @ WriteError::Taken(_)) => error.fmt(f),
            error => write!(f, "{}: {error}", self.object),
        }
    }
}

/// Why a step of a plan could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The tenant's keys could not be made or given up.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A step of the tenant's end could not be done.
    #[error(transparent)]
    Offboarding(#[from] OffboardingError),
    /// Something else has to happen first.
    #[error("{message}")]
    Waits {
        /// Stable reason for a condition.
        reason: String,
        /// What it is.
        message: String,
    },
    /// Something could not be read.
    #[error("{what} could not be read")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// The tenant is not what the plan was made for.
    #[error(
        "the tenant changed since this was planned; nothing was destroyed, and it is looked at again"
    )]
    Changed,
}

impl ExecuteError {
    /// Stable reason for a condition.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        let word = match self {
            Self::Write(WriteError::Taken(_)) => "NameTaken",
            Self::Write(WriteError::Deposed(_)) => "NotLeader",
            Self::Write(WriteError::TimedOut) => "ApiServerTimeout",
            Self::Write(_) => "ApplyFailed",
            Self::Pki(_) => "CertificateFailed",
            Self::Keys(error) => return error.reason(),
            Self::Offboarding(error) => return error.reason(),
            Self::Waits { reason, .. } => return Cow::Owned(reason.clone()),
            Self::Read { .. } => "ReadFailed",
            Self::Changed => "TenantChanged",
        };
        Cow::Borrowed(word)
    }
}

/// Carries the plan out.
pub async fn execute(
    context: &Context,
    observed: &Observed,
    valid: Option<&ValidTenant>,
    plan: Plan,
) -> Executed {
    let tenant = observed.tenant.as_ref();
    let mut run = Run {
        context,
        tenant,
        uid: tenant.uid().unwrap_or_default(),
        done: Executed::default(),
    };
    if plan.is_destructive()
        && let Err(error) = run.still_the_same().await
    {
        run.fail(
            ConditionType::Ready,
            format!("Tenant {}", tenant.name_any()),
            error,
        );
        return run.done;
    }
    match (plan, valid) {
        (Plan::Build(build), Some(valid)) => run.build(valid, *build).await,
        (Plan::Build(_), None) => {}
        (Plan::Offboard(todo), _) => return carry_out(context, observed, &todo).await,
    }
    run.done
}

struct Run<'a> {
    context: &'a Context,
    tenant: &'a Tenant,
    uid: String,
    done: Executed,
}

impl Run<'_> {
    async fn build(&mut self, valid: &ValidTenant, build: Build) {
        let Build {
            announce,
            add_finalizer,
            namespace,
            reinstate,
            ensure_keys,
            rotation,
            certificates,
            mut writes,
            prune,
        } = build;
        if let Some(change) = announce
            && !self.announce(valid, &change).await
        {
            return;
        }
        if add_finalizer {
            let answer = self.context.writer.set_finalizer(self.tenant, true).await;
            self.note(
                ConditionType::NamespaceReady,
                || "the finalizer".to_owned(),
                answer,
            );
            // Without it, a tenant that is deleted meanwhile would leave its key behind.
            if !self.done.failures.is_empty() {
                return;
            }
        }
        let context = self.context;
        // The key server gives keys to live tenants only, so this comes before any pod.
        if let Some(running) = reinstate {
            let subject = subject(valid, self.tenant, context);
            if let Err(error) = context.offboarding.reinstate(subject, &running).await {
                let what = "the way back".to_owned();
                self.fail(ConditionType::KeyReady, what, error.into());
                return;
            }
            // It was announced as what it is, and is not announced as another change.
            context.memory.announce(&self.uid, valid.generation);
            self.done.reinstated = true;
        }
        let (keys, rotated, prepared) = futures::join!(
            async {
                if ensure_keys {
                    Some(
                        context
                            .keys
                            .ensure(subject(valid, self.tenant, context))
                            .await,
                    )
                } else {
                    None
                }
            },
            async {
                match rotation {
                    // Boxed: hardly any pass has one, and none should be the larger for it.
                    Some(step) => {
                        let subject = subject(valid, self.tenant, context);
                        Some(Box::pin(context.keys.step(subject, step)).await)
                    }
                    None => None,
                }
            },
            self.prepare(valid, namespace, certificates, &mut writes)
        );
        self.note_rotation(rotated);
        match keys {
            Some(Ok(key)) => {
                context.memory.announce(&self.uid, valid.generation);
                context.memory.has_key(&self.uid, key.clone());
                self.done.key = Some(key);
            }
            Some(Err(error)) => {
                self.fail(ConditionType::KeyReady, "keys".to_owned(), error.into());
                // No pod starts without its keys; whatever runs already, and the way in, stay as they are wanted.
                writes.retain(|stage, _| !matches!(stage, Stage::Workload | Stage::Migration));
            }
            None => {}
        }
        if prepared {
            let last = [Stage::Workload, Stage::Migration, Stage::Route];
            self.carry_out(&last, &mut writes).await;
        }
        // Also where something could not be written: what a tenant does not want any more must not outlive that.
        self.delete(prune).await;
    }

    /// Has the audit know of a change. False if it cannot: then nothing follows from the change yet.
    async fn announce(&mut self, valid: &ValidTenant, change: &Change) -> bool {
        let subject = subject(valid, self.tenant, self.context);
        match changes::announce(&self.context.keys, subject, change).await {
            Ok(act) => {
                let memory = &self.context.memory;
                memory.announce(&self.uid, change.generation);
                memory.change(&self.uid, Some(act));
                true
            }
            Err(error) => {
                self.done.unannounced = true;
                self.fail(
                    ConditionType::Ready,
                    "the change of the spec waits to be audited".to_owned(),
                    error.into(),
                );
                false
            }
        }
    }

    /// A rotation that does not go on fails nothing: the keys in place serve.
    fn note_rotation(&mut self, rotated: Option<Result<Done, KeysError>>) {
        let memory = &self.context.memory;
        if let Some(Ok(done)) = &rotated {
            if let Some(replaced) = done.replaced {
                memory.rotated(&self.uid, replaced);
            }
            self.done.key = report::key_after(done, memory.key(&self.uid));
            if let Some(key) = &self.done.key {
                memory.has_key(&self.uid, key.clone());
            }
        }
        self.done.rotation = rotated.map(|rotated| rotated.map_err(|error| Trouble::from(&error)));
    }

    /// Writes everything that pods find when they start, and says whether they may: each group needs the one before.
    async fn prepare(
        &mut self,
        valid: &ValidTenant,
        namespace: Option<Manifest>,
        certificates: Option<Certificates>,
        writes: &mut BTreeMap<Stage, Vec<Write>>,
    ) -> bool {
        if let Some(manifest) = namespace {
            let answer = self
                .context
                .writer
                .create(Kind::Namespace, &manifest, &self.uid)
                .await;
            let is_there = answer.is_ok();
            self.note(
                ConditionType::NamespaceReady,
                || format!("Namespace {}", manifest.name),
                answer,
            );
            if !is_there {
                return false;
            }
        }
        for stage in [Stage::Namespace, Stage::Volume] {
            if !self.carry_out(&[stage], writes).await {
                return false;
            }
        }
        let context = self.context;
        let (uid, wanted) = (
            self.uid.clone(),
            taken(&[Stage::Isolation, Stage::Foundation], writes),
        );
        let (answers, issued) = futures::join!(
            join_all(wanted.iter().map(|write| self.write(write))),
            async {
                match certificates {
                    Some(why) => Some(issue(context, &uid, valid, why).await),
                    None => None,
                }
            }
        );
        let written = self.note_all(&wanted, answers);
        match issued {
            Some(Ok(renew_at)) => self.done.renew_at = Some(renew_at),
            Some(Err(error)) => {
                self.fail(
                    ConditionType::CertificatesReady,
                    "certificates".to_owned(),
                    error,
                );
                return false;
            }
            None => {}
        }
        written
    }

    /// Writes what is wanted of these stages, side by side. False if a failure holds back what comes after.
    async fn carry_out(
        &mut self,
        stages: &[Stage],
        writes: &mut BTreeMap<Stage, Vec<Write>>,
    ) -> bool {
        let wanted = taken(stages, writes);
        let answers = join_all(wanted.iter().map(|write| self.write(write))).await;
        self.note_all(&wanted, answers)
    }

    fn note_all(&mut self, wanted: &[Write], answers: Vec<Result<(), WriteError>>) -> bool {
        let mut may_go_on = true;
        for (write, answer) in wanted.iter().zip(answers) {
            may_go_on &= answer.is_ok() || !write.holds_back;
            self.note(
                condition_of(write.kind, &write.manifest.name),
                || ObjectKey::of(write.kind, &write.manifest).to_string(),
                answer,
            );
        }
        may_go_on
    }

    async fn write(&self, write: &Write) -> Result<(), WriteError> {
        if let Some(version) = write.replaces {
            self.context
                .writer
                .replace(write.kind, &write.manifest, version)
                .await?;
        }
        self.context.writer.apply(write.kind, &write.manifest).await
    }

    async fn delete(&mut self, deletions: Vec<Deletion>) {
        for deletion in deletions {
            let answer = self
                .context
                .writer
                .delete(&self.uid, &deletion.key, &deletion.uid)
                .await;
            self.note(
                condition_of(deletion.key.kind, &deletion.key.name),
                || deletion.key.to_string(),
                answer,
            );
        }
    }

    /// Reads the tenant again from the API server: same UID, and still to be suspended or changed so.
    async fn still_the_same(&self) -> Result<(), ExecuteError> {
        let api: Api<Tenant> = Api::all(self.context.client.clone());
        let now = api
            .get_opt(&self.tenant.name_any())
            .await
            .map_err(|source| ExecuteError::Read {
                what: "the tenant",
                source: Box::new(source),
            })?
            .ok_or(ExecuteError::Changed)?;
        if now.uid() == self.tenant.uid() && stands_for_the_same(&now, self.tenant) {
            Ok(())
        } else {
            Err(ExecuteError::Changed)
        }
    }

    fn note(
        &mut self,
        condition: ConditionType,
        object: impl FnOnce() -> String,
        answer: Result<(), WriteError>,
    ) {
        if let Err(error) = answer {
            self.fail(condition, object(), error.into());
        }
    }

    fn fail(&mut self, condition: ConditionType, object: String, error: ExecuteError) {
        self.done.failures.push(Failure {
            condition,
            object,
            error,
        });
    }
}

/// Makes certificates and writes them. The authority's key is read only to sign, and kept nowhere.
async fn issue(
    context: &Context,
    uid: &str,
    valid: &ValidTenant,
    why: Certificates,
) -> Result<Timestamp, ExecuteError> {
    let stored = match why {
        Certificates::First => Vec::new(),
        Certificates::Renewal => context.authorities(valid.namespace.as_str()).await?,
    };
    let now = Timestamp::now();
    let issued = pki::establish(
        &valid.name,
        valid.namespace.as_str(),
        &valid.uid,
        stored,
        now,
        &context.lifetimes,
    )?;
    let manifests = certificates::certificates(valid, &issued);
    let mut writes: Vec<_> = manifests
        .iter()
        .filter_map(|manifest| Some((Kind::of(&manifest.api)?, manifest)))
        .collect();
    // The authority is stored last, when every bundle holds it (see `certificates`).
    let authority = writes.pop();
    for answers in [writes, authority.into_iter().collect()] {
        let answers = answers
            .into_iter()
            .map(|(kind, manifest)| context.writer.apply(kind, manifest));
        join_all(answers)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
    }
    context
        .probes
        .trust(uid, issued.signer(), &issued.bundle_pem);
    Ok(issued.renew_at)
}

/// What there is to write of these stages.
fn taken(stages: &[Stage], writes: &mut BTreeMap<Stage, Vec<Write>>) -> Vec<Write> {
    let wanted = stages.iter().filter_map(|stage| writes.remove(stage));
    wanted.flatten().collect()
}

fn subject<'a>(valid: &'a ValidTenant, tenant: &'a Tenant, context: &Context) -> Subject<'a> {
    Subject {
        uid: &valid.uid,
        name: &valid.name,
        namespace: valid.namespace.as_str(),
        requester: context.requester(tenant),
    }
}

fn stands_for_the_same(now: &Tenant, planned: &Tenant) -> bool {
    let state = |tenant: &Tenant| -> TenantState { tenant.spec.state };
    now.metadata.generation == planned.metadata.generation && state(now) == state(planned)
}

/// The condition that an object of a silo belongs to.
fn condition_of(kind: Kind, name: &str) -> ConditionType {
    match kind {
        Kind::Namespace | Kind::ResourceQuota | Kind::LimitRange | Kind::ServiceAccount => {
            ConditionType::NamespaceReady
        }
        Kind::NetworkPolicy => ConditionType::NetworkIsolated,
        Kind::Secret | Kind::ConfigMap => ConditionType::CertificatesReady,
        Kind::PersistentVolumeClaim | Kind::StatefulSet => ConditionType::DatabaseReady,
        Kind::Job => ConditionType::MigrationReady,
        Kind::HttpRoute | Kind::BackendTlsPolicy => ConditionType::RouteReady,
        Kind::Service if name == "database" => ConditionType::DatabaseReady,
        Kind::Service | Kind::Deployment | Kind::PodDisruptionBudget | Kind::Pod => {
            ConditionType::AppReady
        }
    }
}
