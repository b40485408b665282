//! Step 4, all effects: carries a plan out, in order, and says what could not be done.
//!
//! Isolation comes before anything that runs. Within a stage writes go side by side, and one that fails keeps neither
//! its neighbours nor the next tenant waiting; it only holds back the stages after it. Every write may be repeated.

use std::fmt;

use futures::future::join_all;
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::{
    context::Context,
    kind::Kind,
    observations::ObjectKey,
    plan::{Build, Certificates, Deletion, Plan, Removal, Write},
    writer::WriteError,
};
use crate::{
    api::{ConditionType, Tenant, TenantState, ValidTenant},
    pki::{self, PkiError},
    resources::{Stage, certificates},
};

/// What carrying out a plan came to.
#[derive(Debug, Default)]
pub struct Executed {
    /// What could not be done.
    pub failures: Vec<Failure>,
    /// When freshly issued certificates are to be renewed.
    pub renew_at: Option<Timestamp>,
    /// The finalizer is off: there is nothing left to publish to.
    pub gone: bool,
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
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Write(WriteError::Taken(_)) => "NameTaken",
            Self::Write(WriteError::Deposed(_)) => "NotLeader",
            Self::Write(WriteError::TimedOut) => "ApiServerTimeout",
            Self::Write(_) => "ApplyFailed",
            Self::Pki(_) => "CertificateFailed",
            Self::Read { .. } => "ReadFailed",
            Self::Changed => "TenantChanged",
        }
    }
}

/// Carries the plan out.
pub async fn execute(
    context: &Context,
    tenant: &Tenant,
    valid: Option<&ValidTenant>,
    plan: Plan,
) -> Executed {
    let mut run = Run {
        context,
        tenant,
        uid: tenant.uid().unwrap_or_default(),
        done: Executed::default(),
    };
    if plan.is_destructive()
        && let Err(error) = run.still_the_same(&plan).await
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
        (Plan::Remove(removal), _) => run.remove(removal).await,
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
            add_finalizer,
            namespace,
            certificates,
            mut writes,
            prune,
        } = build;
        if add_finalizer {
            let answer = self.context.writer.set_finalizer(self.tenant, true).await;
            self.note(
                ConditionType::NamespaceReady,
                || "the finalizer".to_owned(),
                answer,
            );
        }
        if let Some(manifest) = namespace
            && self.done.failures.is_empty()
        {
            let answer = self
                .context
                .writer
                .create(Kind::Namespace, &manifest, &self.uid)
                .await;
            self.note(
                ConditionType::NamespaceReady,
                || format!("Namespace {}", manifest.name),
                answer,
            );
        }
        let mut held_back = !self.done.failures.is_empty();
        for stages in [
            &[Stage::Namespace] as &[Stage],
            &[Stage::Volume],
            &[Stage::Isolation, Stage::Foundation],
            &[Stage::Workload, Stage::Migration, Stage::Route],
        ] {
            if held_back {
                break;
            }
            let wanted: Vec<Write> = stages
                .iter()
                .filter_map(|stage| writes.remove(stage))
                .flatten()
                .collect();
            let with_certificates = stages.contains(&Stage::Foundation);
            let (answers, issued) = futures::join!(
                join_all(wanted.iter().map(|write| self.write(write))),
                async {
                    match certificates.filter(|_| with_certificates) {
                        Some(why) => Some(self.issue(valid, why).await),
                        None => None,
                    }
                }
            );
            for (write, answer) in wanted.iter().zip(answers) {
                held_back |= answer.is_err() && write.holds_back;
                self.note(
                    condition_of(write.kind, &write.manifest.name),
                    || ObjectKey::of(write.kind, &write.manifest).to_string(),
                    answer,
                );
            }
            match issued {
                Some(Ok(renew_at)) => self.done.renew_at = Some(renew_at),
                Some(Err(error)) => {
                    held_back = true;
                    self.fail(
                        ConditionType::CertificatesReady,
                        "certificates".to_owned(),
                        error,
                    );
                }
                None => {}
            }
        }
        // Also where something could not be written: what a tenant does not want any more must not outlive that.
        self.delete(prune).await;
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

    /// Makes certificates and writes them. The authority's key is read only to sign, and kept nowhere.
    async fn issue(
        &self,
        valid: &ValidTenant,
        why: Certificates,
    ) -> Result<Timestamp, ExecuteError> {
        let stored = match why {
            Certificates::First => Vec::new(),
            Certificates::Renewal => self.context.authorities(valid.namespace.as_str()).await?,
        };
        let now = Timestamp::now();
        let issued = pki::establish(
            &valid.name,
            valid.namespace.as_str(),
            &valid.uid,
            stored,
            now,
            &self.context.lifetimes,
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
                .map(|(kind, manifest)| self.context.writer.apply(kind, manifest));
            join_all(answers)
                .await
                .into_iter()
                .collect::<Result<Vec<()>, _>>()?;
        }
        self.context
            .probes
            .trust(&self.uid, issued.signer(), &issued.bundle_pem);
        Ok(issued.renew_at)
    }

    async fn remove(&mut self, removal: Removal) {
        self.delete(removal.delete).await;
        if removal.drop_finalizer && self.done.failures.is_empty() {
            let answer = self.context.writer.set_finalizer(self.tenant, false).await;
            self.note(ConditionType::Ready, || "the finalizer".to_owned(), answer);
            self.done.gone = self.done.failures.is_empty();
        }
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

    /// Reads the tenant again from the API server: same UID, and still to be destroyed or suspended or changed so.
    async fn still_the_same(&self, plan: &Plan) -> Result<(), ExecuteError> {
        let api: Api<Tenant> = Api::all(self.context.client.clone());
        let now = api
            .get_opt(&self.tenant.name_any())
            .await
            .map_err(|source| ExecuteError::Read {
                what: "the tenant",
                source: Box::new(source),
            })?
            .ok_or(ExecuteError::Changed)?;
        let same = now.uid() == self.tenant.uid()
            && match plan {
                Plan::Remove(_) => now.metadata.deletion_timestamp.is_some(),
                Plan::Build(_) => stands_for_the_same(&now, self.tenant),
            };
        if same {
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
