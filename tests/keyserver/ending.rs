//! What the operator writes down of a tenant's end, with a real registry and a real key server: announced once, taken back,
//! put on record when it is done, and once more when the KMS has destroyed the key.

use std::sync::Arc;

use granary::api::OffboardingStep as Step;
use granary::control::offboarding::progress::Running;
use granary::control::offboarding::record::{record, sign};
use granary::control::offboarding::registry::Signed;
use granary::control::offboarding::{Journal, Offboarding, Progress};
use granary::control::tenant_keys::{Subject, TenantKeys};
use granary::evidence::{self, Attempt, DataKey, Key, Outcome, Proof, Removed, SigningKey};
use granary::keyserver::wire::DestroyRequest;
use granary::registry::evidence::{self as records, Stage};
use granary::registry::{keys, tenants};
use jiff::{Timestamp, ToSpan};
use serde_json::json;
use tokio::sync::watch;

use crate::offboarding::forget_keys;
use crate::plane::{Plane, Tenant};

/// The operator's part that ends tenants.
fn ending(plane: &Plane) -> (Offboarding, Arc<SigningKey>) {
    let key = Arc::new(SigningKey::generate().unwrap());
    let (_, registry) = watch::channel(Some(plane.registry.clone()));
    let (_, signing) = watch::channel(Some(key.clone()));
    let keys = TenantKeys {
        registry,
        keyserver: plane.operate(),
        actor: "system:serviceaccount:granary-system:granary-operator".to_owned(),
    };
    (Offboarding { keys, signing }, key)
}

/// A tenant as the operator knows it, and who asked for its end.
struct Whose {
    uid: String,
    name: String,
    namespace: String,
}

impl Whose {
    fn of(tenant: &Tenant) -> Self {
        Self {
            uid: tenant.uid.to_string(),
            name: tenant.name.clone(),
            namespace: tenant.namespace.clone(),
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            uid: &self.uid,
            name: &self.name,
            namespace: &self.namespace,
            requester: Some("ada"),
        }
    }
}

async fn running(ending: &Offboarding, whose: &Whose) -> Running {
    match ending.progress(&whose.uid).await {
        Progress::Running(running) => *running,
        other => panic!("it does not go on: {other:?}"),
    }
}

/// Goes through every step that has to do with registry and key server, and returns what was noted.
async fn shred(
    plane: &Plane,
    ending: &Offboarding,
    key: &SigningKey,
    whose: &Whose,
    tenant: &Tenant,
) {
    ending
        .announce(whose.subject(), &Journal::default())
        .await
        .unwrap();
    plane.api.change_tenant(&tenant.name, |tenant| {
        tenant["spec"]["state"] = json!("Offboarded");
    });
    let now = Timestamp::now();
    let Running { act, .. } = running(ending, whose).await;
    let cut = Journal {
        access_cut: Some(now),
        pods_stopped: Some(now),
        removed: Some(Removed::default()),
        ..Journal::default()
    };
    ending.note(act, Step::StopPods, &cut).await.unwrap();
    let begun = running(ending, whose).await;
    ending.begin_shred(whose.subject(), begun).await.unwrap();
    let Running {
        act, mut journal, ..
    } = running(ending, whose).await;
    assert!(journal.shred_begun.is_some(), "it is in the registry");
    let operator = plane.operate();
    let disabled = operator.disable(tenant.uid).await.unwrap();
    journal.key = Some(Key {
        provider: disabled.key.provider,
        id: disabled.key.id.unwrap().to_string(),
    });
    journal.keys_disabled = Some(journal.moment(Timestamp::now()));
    prove(plane, tenant, &mut journal).await;
    journal.proved = Some(journal.moment(Timestamp::now()));
    journal.volumes_deleted = Some(journal.moment(Timestamp::now()));
    let scheduled = operator
        .destroy(tenant.uid, DestroyRequest { days: 7 })
        .await
        .unwrap();
    journal.deletion_scheduled = Some(journal.moment(Timestamp::now()));
    journal.destruction_due = scheduled.key.deletion_at;
    prove(plane, tenant, &mut journal).await;
    let at = journal.moment(Timestamp::now());
    journal.proved_again = Some(at);
    journal.shredded = Some(at);
    let envelope = sign(record(identity(tenant), &journal, None, at), key).unwrap();
    let signed = Signed {
        stage: Stage::Shredded,
        envelope,
        key_id: key.public().id(),
    };
    ending
        .bury(whose.subject(), act, &journal, Some(signed))
        .await
        .unwrap();
}

async fn prove(plane: &Plane, tenant: &Tenant, journal: &mut Journal) {
    let proof = plane.operate().prove(tenant.uid).await.unwrap();
    let at = journal.moment(Timestamp::now());
    journal
        .proofs
        .extend(proof.attempts.into_iter().map(|attempt| {
            assert!(attempt.refused);
            Proof {
                tried: Attempt::Unwrap,
                data_key: Some(DataKey {
                    purpose: attempt.purpose.to_string(),
                    version: attempt.version,
                }),
                outcome: Outcome::Refused,
                answer: attempt.answer,
                at,
            }
        }));
}

fn identity(tenant: &Tenant) -> evidence::Tenant {
    evidence::Tenant {
        name: tenant.name.clone(),
        uid: tenant.uid.0,
        namespace: tenant.namespace.clone(),
    }
}

/// Rows of the audit as `action phase actor`, of tenants alone.
async fn told(plane: &Plane) -> Vec<String> {
    let rows = plane.audit().await;
    rows.into_iter()
        .filter(|row| row.action.starts_with("tenant-") || row.action.starts_with("evidence-"))
        .map(|row| {
            let who = row.actor.rsplit(':').next().unwrap_or_default();
            format!("{} {} {who}", row.action, row.phase)
        })
        .collect()
}

#[tokio::test]
async fn an_offboarding_is_announced_once_and_taken_back() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let (ending, _) = ending(&plane);
    let whose = Whose::of(&acme);
    assert_eq!(ending.progress(&whose.uid).await, Progress::NotBegun);
    for _ in 0..2 {
        ending
            .announce(whose.subject(), &Journal::default())
            .await
            .unwrap();
    }
    let found = running(&ending, &whose).await;
    assert!(found.has_key);
    ending.reinstate(whose.subject(), &found).await.unwrap();
    assert_eq!(ending.progress(&whose.uid).await, Progress::NotBegun);
    let mut connection = plane.registry.acquire().await.unwrap();
    let tenant = tenants::find(&mut connection, acme.uid)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tenant.state, tenants::State::Live);
    assert_eq!(
        told(&plane).await,
        [
            "tenant-offboarded started ada",
            "tenant-offboarded finished ada",
            "tenant-reinstated started ada",
            "tenant-reinstated finished ada",
        ]
    );
}

#[tokio::test]
async fn a_tenant_of_an_unknown_uid_and_one_that_is_none_are_told_apart() {
    let plane = Plane::start().await;
    let (ending, _) = ending(&plane);
    let unknown = "00000000-0000-4000-8000-000000000000";
    assert_eq!(ending.progress(unknown).await, Progress::NotBegun);
    assert!(
        matches!(ending.progress("acme").await, Progress::Unknown(reason, _) if reason == "Rejected")
    );
}

#[tokio::test]
async fn a_key_that_the_kms_has_destroyed_goes_on_record_once() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let (ending, key) = ending(&plane);
    let whose = Whose::of(&acme);
    shred(&plane, &ending, &key, &whose, &acme).await;
    assert!(matches!(
        ending.progress(&whose.uid).await,
        Progress::Over(_)
    ));

    // Nothing is due for a week, and nothing is claimed before.
    let next = ending.confirm_due(Timestamp::now()).await.unwrap().unwrap();
    assert!(next > Timestamp::now() + (6 * 24).hours());
    let mut connection = plane.registry.acquire().await.unwrap();
    let early = records::find(&mut connection, acme.uid, Stage::Destroyed).await;
    assert_eq!(early.unwrap(), None);

    forget_keys(&plane).await;
    let past = Timestamp::now() - 1.hour();
    keys::deletion_scheduled(&mut connection, acme.uid, past)
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(ending.confirm_due(Timestamp::now()).await.unwrap(), None);
    }
    let all = records::of_tenant(&mut connection, acme.uid).await.unwrap();
    let public = [key.public().clone()];
    let stages: Vec<evidence::Stage> = all
        .iter()
        .map(|record| {
            let envelope = record.envelope.to_string();
            let verified = evidence::verify(envelope.as_bytes(), &public).unwrap();
            verified.statement.record().stage
        })
        .collect();
    assert_eq!(
        stages,
        [evidence::Stage::Shredded, evidence::Stage::Destroyed]
    );
    let told = told(&plane).await;
    let operator = "granary-operator";
    for (act, who, times) in [
        ("tenant-offboarded", "ada", 1),
        ("tenant-shredded", operator, 1),
        ("evidence-recorded", operator, 2),
    ] {
        for phase in ["started", "finished"] {
            let row = format!("{act} {phase} {who}");
            assert_eq!(
                told.iter().filter(|told| **told == row).count(),
                times,
                "{row}: {told:#?}"
            );
        }
    }
}

#[tokio::test]
async fn a_confirmation_that_was_not_put_on_record_is_made_up_for() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let (ending, key) = ending(&plane);
    let whose = Whose::of(&acme);
    shred(&plane, &ending, &key, &whose, &acme).await;
    let mut connection = plane.registry.acquire().await.unwrap();
    // The key server has confirmed it, and the operator's process ended before it signed.
    keys::destroyed(&mut connection, acme.uid, Timestamp::now())
        .await
        .unwrap();
    ending.confirm_due(Timestamp::now()).await.unwrap();
    let made_up = records::find(&mut connection, acme.uid, Stage::Destroyed).await;
    assert!(made_up.unwrap().is_some());
}
