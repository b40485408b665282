//! The end of a tenant's key, step by step, each refused before its time.

use granary::effects::{Commit, Effect};
use granary::keys::{KeyState, Purpose};
use granary::keyserver::wire::DestroyRequest;
use granary::registry::{keys, tenants};
use jiff::{Timestamp, ToSpan};
use serde_json::json;

use crate::callers::{active, code};
use crate::plane::{Plane, Tenant};
use crate::postgres::{Postgres, run};

const WEEK: DestroyRequest = DestroyRequest { days: 7 };

async fn offboard(plane: &Plane, tenant: &Tenant) {
    let mut connection = plane.registry.acquire().await.unwrap();
    tenants::offboard(&mut connection, tenant.uid)
        .await
        .unwrap();
    plane.api.change_tenant(&tenant.name, |tenant| {
        tenant["spec"]["state"] = json!("Offboarded");
    });
}

#[tokio::test]
async fn a_disabled_key_serves_nobody_until_it_is_enabled() {
    let plane = Plane::start().await;
    let (acme, globex) = (
        plane.tenant_with_keys("acme").await,
        plane.tenant_with_keys("globex").await,
    );
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let other = plane.client(&plane.api.pod(&globex.namespace, "app"));
    let key = active(&app, Purpose::App).await;
    let operator = plane.operate();
    let proof = operator.prove(acme.uid).await.unwrap();
    assert!(!proof.refused, "{proof:?}");
    let disabled = operator.disable(acme.uid).await.unwrap();
    assert_eq!(disabled.key.state, keys::State::Disabled);
    assert_eq!(operator.disable(acme.uid).await.unwrap(), disabled);
    assert_eq!(code(app.unwrap(Purpose::App, &[]).await), "key-not-enabled");
    // Also who has them already is told that they are not to be had any more.
    assert_eq!(
        code(app.unwrap(Purpose::App, &[1]).await),
        "key-not-enabled"
    );
    active(&other, Purpose::App).await;
    let proof = operator.prove(acme.uid).await.unwrap();
    assert!(proof.refused, "{proof:?}");
    assert_eq!(proof.attempts.len(), 2);
    let described = operator.keys(acme.uid, true).await.unwrap();
    assert_eq!(described.key.kms, Some(KeyState::Disabled));
    let enabled = operator.enable(acme.uid).await.unwrap();
    assert_eq!(enabled.key.state, keys::State::Enabled);
    assert_eq!(operator.enable(acme.uid).await.unwrap(), enabled);
    assert_eq!(active(&app, Purpose::App).await, key);
    for action in ["key-disabled", "key-enabled"] {
        assert_eq!(plane.rows(action).await.len(), 2, "{action}");
    }
}

#[tokio::test]
async fn a_registry_that_was_told_is_enough_to_refuse() {
    // A crash between registry and KMS: this server refuses already, and asked again it finishes.
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&app, Purpose::App).await;
    let mut connection = plane.registry.acquire().await.unwrap();
    keys::disabled(&mut connection, acme.uid).await.unwrap();
    assert_eq!(code(app.unwrap(Purpose::App, &[]).await), "key-not-enabled");
    let operator = plane.operate();
    assert!(!operator.prove(acme.uid).await.unwrap().refused);
    operator.disable(acme.uid).await.unwrap();
    assert!(operator.prove(acme.uid).await.unwrap().refused);
}

#[tokio::test]
async fn a_tenant_on_its_way_out_writes_its_last_backup_and_no_more() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let database = plane.client(&plane.api.pod(&acme.namespace, "database"));
    active(&app, Purpose::App).await;
    offboard(&plane, &acme).await;
    active(&database, Purpose::Backup).await;
    assert_eq!(code(app.unwrap(Purpose::App, &[]).await), "tenant-not-live");
    let refused = plane.operate().ensure(acme.uid, &acme.request()).await;
    assert_eq!(code(refused), "conflict");
}

#[tokio::test]
async fn a_key_is_destroyed_in_order() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let operator = plane.operate();
    assert_eq!(code(operator.destroy(acme.uid, WEEK).await), "conflict");
    operator.disable(acme.uid).await.unwrap();
    // Nobody wants it gone yet.
    assert_eq!(code(operator.destroy(acme.uid, WEEK).await), "tenant-live");
    let mut connection = plane.registry.acquire().await.unwrap();
    tenants::offboard(&mut connection, acme.uid).await.unwrap();
    assert_eq!(
        code(operator.destroy(acme.uid, WEEK).await),
        "tenant-live",
        "the resource still says Active"
    );
    offboard(&plane, &acme).await;
    for days in [0, 6, 31] {
        let refused = operator.destroy(acme.uid, DestroyRequest { days }).await;
        assert_eq!(code(refused), "bad-request", "{days} days");
    }
    let scheduled = operator.destroy(acme.uid, WEEK).await.unwrap();
    assert_eq!(scheduled.key.state, keys::State::PendingDeletion);
    let at = scheduled.key.deletion_at.unwrap();
    let days = Timestamp::now()
        .until(at)
        .unwrap()
        .total(jiff::Unit::Hour)
        .unwrap()
        / 24.0;
    assert!((6.9..7.1).contains(&days), "{days}");
    // Asked again, the date stays.
    let later = operator
        .destroy(acme.uid, DestroyRequest { days: 30 })
        .await
        .unwrap();
    assert_eq!(later.key.deletion_at, Some(at));
    assert!(operator.prove(acme.uid).await.unwrap().refused);
    assert_eq!(code(operator.enable(acme.uid).await), "conflict");
    assert_eq!(
        operator.disable(acme.uid).await.unwrap().key.state,
        keys::State::PendingDeletion
    );
    assert_eq!(
        plane
            .rows("key-deletion-scheduled")
            .await
            .iter()
            .filter(|row| row.0 == "finished")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_tenant_whose_resource_is_gone_can_be_ended() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    plane.operate().disable(acme.uid).await.unwrap();
    offboard(&plane, &acme).await;
    plane.api.remove_tenant("acme");
    // Somebody else has the name now, and is wanted.
    plane.tenant("acme");
    let scheduled = plane.operate().destroy(acme.uid, WEEK).await.unwrap();
    assert_eq!(scheduled.key.state, keys::State::PendingDeletion);
}

#[tokio::test]
async fn a_deletion_that_was_scheduled_and_not_recorded_is_adopted() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let operator = plane.operate();
    operator.disable(acme.uid).await.unwrap();
    offboard(&plane, &acme).await;
    let first = operator.destroy(acme.uid, WEEK).await.unwrap();
    // The record is lost, as after a crash between KMS and registry.
    let mut connection = plane.registry.acquire().await.unwrap();
    keys::disabled(&mut connection, acme.uid).await.unwrap();
    let second = operator
        .destroy(acme.uid, DestroyRequest { days: 30 })
        .await
        .unwrap();
    assert_eq!(second.key.deletion_at, first.key.deletion_at);
}

/// The KMS forgets every key, as AWS does with those that it has destroyed.
pub async fn forget_keys(plane: &Plane) {
    let mut superuser = Postgres::shared().superuser(&plane.database).await;
    run(
        &mut superuser,
        "ALTER TABLE local_keys DISABLE TRIGGER keep_rows; DELETE FROM local_keys",
    )
    .await;
}

#[tokio::test]
async fn a_key_that_is_gone_before_its_time_is_no_confirmation() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let operator = plane.operate();
    operator.disable(acme.uid).await.unwrap();
    offboard(&plane, &acme).await;
    operator.destroy(acme.uid, WEEK).await.unwrap();
    forget_keys(&plane).await;
    assert_eq!(code(operator.destroy(acme.uid, WEEK).await), "key-unusable");
    assert_eq!(code(operator.prove(acme.uid).await), "key-unusable");
    // Once it is due, it is.
    let past = Timestamp::now().checked_sub(1.hour()).unwrap();
    let mut connection = plane.registry.acquire().await.unwrap();
    keys::deletion_scheduled(&mut connection, acme.uid, past)
        .await
        .unwrap();
    assert!(operator.prove(acme.uid).await.unwrap().refused);
    let destroyed = operator.destroy(acme.uid, WEEK).await.unwrap();
    assert_eq!(destroyed.key.state, keys::State::Destroyed);
    assert_eq!(destroyed.key.kms, Some(KeyState::Missing));
    let again = operator.destroy(acme.uid, WEEK).await.unwrap();
    assert_eq!(again.key.state, keys::State::Destroyed);
    assert!(operator.prove(acme.uid).await.unwrap().refused);
    assert_eq!(plane.rows("key-destroyed").await.len(), 2);
    assert_eq!(code(operator.enable(acme.uid).await), "conflict");
}

#[tokio::test]
async fn a_key_that_was_only_intended_is_ended_too() {
    // A crash may have left it in the KMS: it is found or made there, so that none stays behind.
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    let mut transaction = plane.registry.begin().await.unwrap();
    tenants::register(&mut transaction, acme.uid, &acme.name, &acme.namespace)
        .await
        .unwrap();
    keys::intend(&mut transaction, acme.uid, "local")
        .await
        .unwrap();
    let effect = Effect::Operator(Commit::Noted("test"));
    transaction.commit(effect, None).await.unwrap();
    offboard(&plane, &acme).await;
    let operator = plane.operate();
    assert_eq!(code(operator.destroy(acme.uid, WEEK).await), "conflict");
    let disabled = operator.disable(acme.uid).await.unwrap();
    assert_eq!(disabled.key.state, keys::State::Disabled);
    let proof = operator.prove(acme.uid).await.unwrap();
    assert!(
        !proof.refused,
        "there is nothing to prove it with: {proof:?}"
    );
    let scheduled = operator.destroy(acme.uid, WEEK).await.unwrap();
    assert_eq!(scheduled.key.state, keys::State::PendingDeletion);
}
