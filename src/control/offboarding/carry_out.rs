//! Doing a step of an offboarding, and writing down that it was done. Every act may be repeated.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::{Api, ResourceExt, api::ListParams, core::DynamicObject};

use super::{
    Journal, OffboardingError, Progress, Task, Todo,
    progress::{self, Running},
    record::{record, sign},
    registry::Signed,
};
use crate::{
    api::{
        ConditionType, FINALIZER, OffboardingStep as Step, Phase, SiloName, Tenant, quantity::Bytes,
    },
    control::{
        context::Context,
        execute::{ExecuteError, Executed, Failure, WayOut},
        exports,
        kind::Kind,
        observations::ObjectKey,
        observe::Observed,
        plan::Deletion,
        tenant_keys::{KeysError, Subject},
    },
    evidence::{self, Attempt, DataKey, Key, Outcome, Proof, Removed},
    keyserver::wire::DestroyRequest,
    registry::evidence::Stage,
};

/// Days between the end of a tenant and that of its key: the shortest that KMSs allow.
const DESTROY_DAYS: u32 = 7;

/// Does what is to be done.
pub async fn carry_out(context: &Context, observed: &Observed, todo: &Todo) -> Executed {
    let (name, uid) = (
        observed.tenant.name_any(),
        observed.tenant.uid().unwrap_or_default(),
    );
    let namespace = SiloName::new(&name, &uid);
    let run = Run {
        context,
        observed,
        step: todo.step,
        subject: Subject {
            uid: &uid,
            name: &name,
            namespace: namespace.as_str(),
            requester: context.requester(&observed.tenant),
        },
    };
    let mut done = Executed::default();
    let result = match run.still_unwanted(todo).await {
        Ok(()) => run.carry_out(&todo.task, &mut done).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        done.failures.push(Failure {
            condition: ConditionType::Ready,
            object: todo.step.as_str().to_owned(),
            error,
        });
    }
    done
}

struct Run<'a> {
    context: &'a Context,
    observed: &'a Observed,
    step: Step,
    subject: Subject<'a>,
}

impl Run<'_> {
    async fn carry_out(&self, task: &Task, done: &mut Executed) -> Result<(), ExecuteError> {
        match task {
            Task::Wait => return Ok(()),
            Task::Blocked(reason, message) => {
                return Err(ExecuteError::Waits {
                    reason: reason.clone(),
                    message: message.clone(),
                });
            }
            Task::Announce => self.announce().await?,
            Task::Delete(deletions) => self.delete(deletions).await?,
            Task::Export(recipient) => self.export(recipient).await?,
            Task::Finish(kinds) => self.finish(kinds).await?,
            Task::BeginShred => {
                let running = self.running()?;
                let offboarding = &self.context.offboarding;
                offboarding.begin_shred(self.subject, running).await?;
            }
            Task::DisableKey => self.disable_key().await?,
            Task::Prove => self.prove().await?,
            Task::Count => self.count().await?,
            Task::ScheduleDestruction => self.schedule_destruction().await?,
            Task::Record => self.record().await?,
            Task::Release => {
                let tenant = &self.observed.tenant;
                self.context.writer.set_finalizer(tenant, false).await?;
                done.way_out = WayOut::Gone;
                return Ok(());
            }
        }
        done.way_out = WayOut::Further;
        Ok(())
    }

    /// Reads the tenant again from the API server before anything is destroyed: same UID, and still wanted gone. The
    /// shred begins only where the API server has its phase, since from then on it lets nobody take the tenant back.
    async fn still_unwanted(&self, todo: &Todo) -> Result<(), ExecuteError> {
        if !todo.is_destructive() {
            return Ok(());
        }
        let api: Api<Tenant> = Api::all(self.context.client.clone());
        let now = api
            .get_opt(self.subject.name)
            .await
            .map_err(|source| read_failed("the tenant", source))?
            .ok_or(ExecuteError::Changed)?;
        let planned = &self.observed.tenant;
        let is_same = now.uid() == planned.uid() && progress::is_unwanted(&now);
        let phase = now.status.as_ref().map(|status| status.phase);
        let may_begin = now.metadata.deletion_timestamp.is_some()
            || (phase == Some(Phase::Shredding)
                && now.metadata.generation == planned.metadata.generation);
        if is_same && (may_begin || todo.task != Task::BeginShred) {
            Ok(())
        } else {
            Err(ExecuteError::Changed)
        }
    }

    fn running(&self) -> Result<Running, ExecuteError> {
        match &self.observed.progress {
            Progress::Running(running) => Ok(running.as_ref().clone()),
            // Nothing is planned so; were it, nothing is done either.
            _ => Err(ExecuteError::Changed),
        }
    }

    async fn note(&self, Running { act, journal, .. }: Running) -> Result<(), ExecuteError> {
        let offboarding = &self.context.offboarding;
        Ok(offboarding.note(act, self.step, &journal).await?)
    }

    async fn announce(&self) -> Result<(), ExecuteError> {
        let tenant = &self.observed.tenant;
        let has_finalizer = tenant.finalizers().iter().any(|name| name == FINALIZER);
        if tenant.metadata.deletion_timestamp.is_none() && !has_finalizer {
            self.context.writer.set_finalizer(tenant, true).await?;
        }
        let objects = self.observed.objects.keys();
        let journal = Journal {
            grace_seconds: Some(progress::plans_grace(self.observed).as_secs()),
            objects: count(objects.filter(|key| key.kind != Kind::Pod)),
            ..Journal::default()
        };
        let offboarding = &self.context.offboarding;
        Ok(offboarding.announce(self.subject, &journal).await?)
    }

    async fn delete(&self, deletions: &[Deletion]) -> Result<(), ExecuteError> {
        for deletion in deletions {
            let writer = &self.context.writer;
            writer
                .delete(self.subject.uid, &deletion.key, &deletion.uid)
                .await?;
        }
        Ok(())
    }

    /// The watches show nothing any more. They select by a label, so the namespace is looked through once without it.
    async fn finish(&self, kinds: &[Kind]) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        let journal = &mut running.journal;
        let at = journal.moment(Timestamp::now());
        match self.step {
            Step::CutAccess => {
                self.nothing_left(kinds).await?;
                journal.access_cut = Some(at);
            }
            Step::StopPods => {
                self.nothing_left(kinds).await?;
                self.no_pod_left().await?;
                journal.pods_stopped = Some(at);
            }
            _ => journal.volumes_deleted = Some(at),
        }
        self.note(running).await
    }

    async fn nothing_left(&self, kinds: &[Kind]) -> Result<(), ExecuteError> {
        for kind in kinds {
            if self.observed.unavailable.contains(kind) {
                continue;
            }
            let client = self.context.client.clone();
            let api: Api<DynamicObject> =
                Api::namespaced_with(client, self.subject.namespace, &kind.api());
            let left = api
                .list(&ListParams::default())
                .await
                .map_err(|source| read_failed("what is left in the namespace", source))?;
            let left = left
                .items
                .iter()
                .map(|object| (object.name_any(), object.uid()));
            self.remove_leftovers(*kind, left.collect()).await?;
        }
        Ok(())
    }

    /// Also pods that somebody else started: under an identity of the silo's they may have got its keys.
    async fn no_pod_left(&self) -> Result<(), ExecuteError> {
        let client = self.context.client.clone();
        let api: Api<Pod> = Api::namespaced(client, self.subject.namespace);
        let pods = api
            .list(&ListParams::default())
            .await
            .map_err(|source| read_failed("the pods that are left", source))?;
        let left = pods
            .items
            .iter()
            .filter(|pod| {
                let status = pod.status.as_ref();
                let phase = status.and_then(|status| status.phase.as_deref());
                !matches!(phase, Some("Succeeded" | "Failed"))
            })
            .map(|pod| (pod.name_any(), pod.uid()))
            .collect();
        self.remove_leftovers(Kind::Pod, left).await
    }

    async fn remove_leftovers(
        &self,
        kind: Kind,
        left: Vec<(String, Option<String>)>,
    ) -> Result<(), ExecuteError> {
        if left.is_empty() {
            return Ok(());
        }
        let mut names = Vec::new();
        for (name, uid) in left {
            let key = ObjectKey {
                kind,
                namespace: self.subject.namespace.to_owned(),
                name,
            };
            let writer = &self.context.writer;
            writer
                .delete(self.subject.uid, &key, &uid.unwrap_or_default())
                .await?;
            names.push(key.to_string());
        }
        Err(ExecuteError::Waits {
            reason: "StillRunning".to_owned(),
            message: format!("still there, and told to go: {}", names.join(", ")),
        })
    }

    /// Has the database exported, once, for this end of the tenant.
    async fn export(&self, recipient: &str) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        self.context.meet_agent(&self.observed.tenant).await;
        let address = self
            .observed
            .pods("database")
            .find_map(|pod| pod.ip.clone());
        let since = running.act.started_at();
        let export = exports::take(
            self.context,
            self.subject,
            since,
            address.as_deref(),
            recipient,
        )
        .await
        .map_err(OffboardingError::from)?;
        let journal = &mut running.journal;
        journal.exported = Some(journal.moment(export.created_at));
        journal.export = Some(evidence::Export {
            bytes: export.bytes,
            sha256: export.sha256,
            sealed_with: export.sealed_with,
        });
        self.note(running).await
    }

    async fn disable_key(&self) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        let answer = self
            .keys()
            .disable(self.uid()?)
            .await
            .map_err(KeysError::from)?;
        let id = answer.key.id.ok_or(KeysError::Nameless)?;
        let journal = &mut running.journal;
        journal.key = Some(Key {
            provider: answer.key.provider,
            id: id.to_string(),
        });
        journal.keys_disabled = Some(journal.moment(Timestamp::now()));
        self.note(running).await
    }

    /// Has the key server try every data key. Where there is none, there is nothing to prove.
    async fn prove(&self) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        let answer = self
            .keys()
            .prove(self.uid()?)
            .await
            .map_err(KeysError::from)?;
        let journal = &mut running.journal;
        let at = journal.moment(Timestamp::now());
        for attempt in answer.attempts {
            let key = DataKey {
                purpose: attempt.purpose.to_string(),
                version: attempt.version,
            };
            if !attempt.refused {
                return Err(OffboardingError::NotRefused(key).into());
            }
            journal.proofs.push(Proof {
                tried: Attempt::Unwrap,
                data_key: Some(key),
                outcome: Outcome::Refused,
                answer: attempt.answer,
                at,
            });
        }
        match self.step {
            Step::ProveAgain => journal.proved_again = Some(at),
            _ => journal.proved = Some(at),
        }
        self.note(running).await
    }

    async fn count(&self) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let volumes = api
            .list(&ListParams::default())
            .await
            .map_err(|source| read_failed("the volumes", source))?;
        let sizes: Vec<u64> = volumes
            .items
            .iter()
            .filter_map(|volume| size(volume, self.subject.namespace))
            .collect();
        let journal = &mut running.journal;
        journal.removed = Some(Removed {
            objects: journal.objects.saturating_add(count(sizes.iter())),
            volumes: count(sizes.iter()),
            bytes: sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
        });
        self.note(running).await
    }

    async fn schedule_destruction(&self) -> Result<(), ExecuteError> {
        let mut running = self.running()?;
        let request = DestroyRequest { days: DESTROY_DAYS };
        let answer = self
            .keys()
            .destroy(self.uid()?, request)
            .await
            .map_err(KeysError::from)?;
        let due = answer.key.deletion_at.ok_or(OffboardingError::NoDate)?;
        let journal = &mut running.journal;
        journal.deletion_scheduled = Some(journal.moment(Timestamp::now()));
        journal.destruction_due = Some(due);
        self.note(running).await
    }

    async fn record(&self) -> Result<(), ExecuteError> {
        let Running {
            act, mut journal, ..
        } = self.running()?;
        let offboarding = &self.context.offboarding;
        let at = journal.moment(Timestamp::now());
        journal.shredded = Some(at);
        // A tenant that never had a data key has nothing that could be proven, and leaves only its tombstone.
        let signed = if journal.proofs.is_empty() {
            None
        } else {
            let key = offboarding.signing.borrow().clone();
            let key = key.ok_or(OffboardingError::NoSigningKey)?;
            let record = record(self.identity()?, &journal, None, at);
            Some(Signed {
                stage: Stage::Shredded,
                envelope: sign(record, &key)?,
                key_id: key.public().id(),
            })
        };
        Ok(offboarding
            .bury(self.subject, act, &journal, signed)
            .await?)
    }

    fn identity(&self) -> Result<evidence::Tenant, ExecuteError> {
        Ok(evidence::Tenant {
            name: self.subject.name.to_owned(),
            uid: self.uid()?.0,
            namespace: self.subject.namespace.to_owned(),
        })
    }

    fn keys(&self) -> &crate::keyserver::client::Client {
        &self.context.offboarding.keys.keyserver
    }

    fn uid(&self) -> Result<crate::keys::TenantUid, KeysError> {
        self.subject.tenant_uid()
    }
}

fn read_failed(what: &'static str, source: kube::Error) -> ExecuteError {
    ExecuteError::Read {
        what,
        source: Box::new(source),
    }
}

/// The size of a volume in bytes, if it is one of the namespace's.
fn size(volume: &PersistentVolume, namespace: &str) -> Option<u64> {
    let spec = volume.spec.as_ref()?;
    let claim = spec.claim_ref.as_ref()?;
    (claim.namespace.as_deref() == Some(namespace)).then(|| {
        let capacity = spec.capacity.as_ref();
        capacity
            .and_then(|capacity| Bytes::parse(&capacity.get("storage")?.0))
            .map_or(0, |bytes| bytes.0)
    })
}

fn count(items: impl Iterator) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}
