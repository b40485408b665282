//! Keys from the first to the last version.

use granary::effects::{Commit, Effect};
use granary::keys::{KeyState, Purpose};
use granary::keyserver::wire::{RetireRequest, RewrapRequest, RotateRequest};
use granary::registry::{data_keys, keys, tenants};

use crate::callers::{active, code};
use crate::plane::Plane;

fn rotate(from: u32) -> RotateRequest {
    RotateRequest {
        purpose: Purpose::App,
        from,
    }
}

#[tokio::test]
async fn keys_are_made_once_and_audited() {
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    let first = plane.ensure(&acme).await;
    assert_eq!(first.key.state, keys::State::Enabled);
    assert_eq!(first.tenant_state, tenants::State::Live);
    let versions: Vec<_> = first
        .data_keys
        .iter()
        .map(|key| (key.purpose, key.version, key.state))
        .collect();
    assert_eq!(
        versions,
        [
            (Purpose::App, 1, data_keys::State::Active),
            (Purpose::Backup, 1, data_keys::State::Active)
        ]
    );
    let audit = plane.audit().await;
    let said: Vec<_> = audit
        .iter()
        .map(|row| {
            (
                row.action.as_str(),
                row.phase.as_str(),
                row.outcome.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        said[..2],
        [
            ("key-created", "started", None),
            ("key-created", "finished", Some("done"))
        ]
    );
    assert_eq!(said.len(), 6, "{said:?}");
    for row in &audit {
        assert_eq!(row.tenant_uid, Some(acme.uid));
        assert_eq!(row.tenant.as_deref(), Some("acme"));
        assert_eq!(
            row.actor,
            "system:serviceaccount:granary-system:granary-operator"
        );
        assert_eq!(row.detail["pod"], "granary-operator-1");
    }
    // Again: the same keys, nothing written, the KMS not asked.
    let calls = || {
        plane.figure("granary_keyserver_kms_call_duration_seconds_count{operation=\"create-key\",outcome=\"done\"}")
    };
    assert_eq!(calls().await, 1);
    assert_eq!(plane.ensure(&acme).await, first);
    assert_eq!(plane.audit().await.len(), 6);
    assert_eq!(calls().await, 1);
    let described = plane.operate().keys(acme.uid, true).await.unwrap();
    assert_eq!(described.key.kms, Some(KeyState::Enabled));
}

#[tokio::test]
async fn two_requests_at_once_make_one_set_of_keys() {
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    let operator = plane.operate();
    let request = acme.request();
    let asking = (0..8).map(|_| operator.ensure(acme.uid, &request));
    for made in futures::future::join_all(asking).await {
        let made = made.unwrap();
        assert_eq!(made.data_keys.len(), 2, "{made:?}");
    }
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&app, Purpose::App).await;
}

#[tokio::test]
async fn an_intent_that_a_crash_left_is_carried_out() {
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
    let listed = plane.operate().keys(acme.uid, true).await.unwrap();
    assert_eq!(
        (listed.key.state, listed.key.id),
        (keys::State::Intended, None)
    );
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    assert_eq!(code(app.unwrap(Purpose::App, &[]).await), "no-key-yet");
    let made = plane.ensure(&acme).await;
    assert_eq!(made.key.state, keys::State::Enabled);
    active(&app, Purpose::App).await;
}

#[tokio::test]
async fn a_rotation_asked_for_twice_happens_once() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let first = active(&app, Purpose::App).await;
    let operator = plane.operate();
    let rotated = operator.rotate(acme.uid, rotate(1)).await.unwrap();
    assert_eq!(operator.rotate(acme.uid, rotate(1)).await.unwrap(), rotated);
    assert_eq!(code(operator.rotate(acme.uid, rotate(3)).await), "conflict");
    assert_eq!(code(operator.rotate(acme.uid, rotate(0)).await), "conflict");
    let keys = app.unwrap(Purpose::App, &[]).await.unwrap().keys;
    let seen: Vec<_> = keys.iter().map(|key| (key.version, key.active)).collect();
    assert_eq!(seen, [(2, true), (1, false)]);
    let bytes = |at: usize| *keys[at].key.as_ref().unwrap().expose();
    assert_eq!(
        bytes(1),
        first,
        "what was written before is read with the old key"
    );
    assert_ne!(bytes(0), first);
    // Only what the pod does not have is unwrapped, and only that is audited.
    let rows = plane.rows("key-unwrapped").await.len();
    let again = app.unwrap(Purpose::App, &[1, 2]).await.unwrap().keys;
    assert!(again.iter().all(|key| key.key.is_none()), "{again:?}");
    assert_eq!(plane.rows("key-unwrapped").await.len(), rows);
    let newer = app.unwrap(Purpose::App, &[1]).await.unwrap().keys;
    assert_eq!(*newer[0].key.as_ref().unwrap().expose(), bytes(0));
    assert!(newer[1].key.is_none());
    assert_eq!(plane.rows("key-unwrapped").await.len(), rows + 2);
}

#[tokio::test]
async fn a_retired_version_is_given_to_nobody() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let operator = plane.operate();
    let retire = |version| RetireRequest {
        purpose: Purpose::App,
        version,
    };
    assert_eq!(code(operator.retire(acme.uid, retire(1)).await), "conflict");
    operator.rotate(acme.uid, rotate(1)).await.unwrap();
    assert_eq!(code(operator.retire(acme.uid, retire(7)).await), "conflict");
    let retired = operator.retire(acme.uid, retire(1)).await.unwrap();
    assert_eq!(operator.retire(acme.uid, retire(1)).await.unwrap(), retired);
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let keys = app.unwrap(Purpose::App, &[1]).await.unwrap().keys;
    assert_eq!(keys.iter().map(|key| key.version).collect::<Vec<_>>(), [2]);
    assert_eq!(plane.rows("data-key-retired").await.len(), 2);
}

#[tokio::test]
async fn a_new_version_of_the_tenants_key_changes_no_data_key() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let before = active(&app, Purpose::App).await;
    let operator = plane.operate();
    let rewrapped = operator
        .rewrap(acme.uid, RewrapRequest { from: 1 })
        .await
        .unwrap();
    assert_eq!(rewrapped.key.version, 2);
    assert!(rewrapped.key.rotated_at.is_some());
    // Again with the same version: nothing is rotated a second time.
    let again = operator
        .rewrap(acme.uid, RewrapRequest { from: 1 })
        .await
        .unwrap();
    assert_eq!(again.key.version, 2);
    assert_eq!(plane.rows("key-rotated").await.len(), 2);
    let refused = operator.rewrap(acme.uid, RewrapRequest { from: 5 }).await;
    assert_eq!(code(refused), "conflict");
    assert_eq!(active(&app, Purpose::App).await, before);
}

#[tokio::test]
async fn nothing_secret_is_in_the_registry_or_in_an_answer_to_the_operator() {
    use base64::Engine as _;
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let key = active(&app, Purpose::App).await;
    let mut connection = plane.registry.acquire().await.unwrap();
    let stored = data_keys::of_tenant(&mut connection, acme.uid)
        .await
        .unwrap();
    assert!(
        stored
            .iter()
            .all(|data| !data.wrapped.windows(32).any(|part| part == key))
    );
    let text = base64::engine::general_purpose::STANDARD.encode(key);
    let audit = serde_json::to_string(&plane.audit().await).unwrap();
    let listed =
        serde_json::to_string(&plane.operate().keys(acme.uid, true).await.unwrap()).unwrap();
    let (_, metrics) = plane.request("GET", "/metrics", None, "").await;
    for place in [audit, listed, metrics.to_string()] {
        assert!(!place.contains(&text), "{place}");
    }
}
