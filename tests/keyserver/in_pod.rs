//! `granary agent keys`: the keys in a pod's memory.

use std::fs;
use std::time::Duration;

use granary::agent::keys::{Keeper, KeeperError, KeysArgs, KeysReadyArgs, wait};
use granary::keys::Purpose;
use granary::keyserver::wire::{RetireRequest, RotateRequest};

use crate::callers::active;
use crate::plane::Plane;

fn args(plane: &Plane, pod: &crate::api_server::Pod, dir: &std::path::Path) -> KeysArgs {
    KeysArgs {
        purpose: Purpose::App,
        dir: dir.to_owned(),
        client: plane.reach(pod),
        every_seconds: 1,
    }
}

#[tokio::test]
async fn keys_come_change_and_go_while_the_pod_runs() {
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    let pod = plane.api.pod(&acme.namespace, "app");
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    // Started before there are keys: it waits, and so does the hook that holds back the app.
    let keeping = tokio::spawn(Keeper::new(&args(&plane, &pod, dir.path())).unwrap().run());
    let ready = KeysReadyArgs {
        purpose: Purpose::App,
        dir: dir.path().to_owned(),
        timeout_seconds: 60,
    };
    let early = tokio::time::timeout(Duration::from_millis(500), wait(ready.clone())).await;
    assert!(early.is_err(), "there are no keys yet");
    plane.ensure(&acme).await;
    wait(ready).await.unwrap();
    let file = |name: &str| fs::read(dir.path().join("app").join(name));
    let client = plane.client(&pod);
    assert_eq!(file("1").unwrap(), active(&client, Purpose::App).await);

    let operator = plane.operate();
    let rotate = RotateRequest {
        purpose: Purpose::App,
        from: 1,
    };
    operator.rotate(acme.uid, rotate).await.unwrap();
    until(|| file("active").unwrap() == b"2").await;
    assert_eq!(file("2").unwrap(), active(&client, Purpose::App).await);
    assert_eq!(
        file("1").unwrap().len(),
        32,
        "the old one is still read with"
    );

    let retire = RetireRequest {
        purpose: Purpose::App,
        version: 1,
    };
    operator.retire(acme.uid, retire).await.unwrap();
    until(|| file("1").is_err()).await;

    // The key server goes: what is in memory stays.
    plane.stop().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(file("2").unwrap().len(), 32);
    keeping.abort();
}

#[tokio::test]
async fn a_disabled_key_takes_nothing_from_a_pod_that_runs() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let keeper = Keeper::new(&args(&plane, &pod, dir.path())).unwrap();
    assert_eq!(keeper.look().await.unwrap().0.added, [1]);
    assert!(keeper.look().await.unwrap().0.is_empty());
    plane.operate().disable(acme.uid).await.unwrap();
    let error = keeper.look().await.unwrap_err();
    assert!(matches!(error, KeeperError::Fetch { .. }), "{error}");
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(
        text.contains("key-not-enabled") && text.contains("granary keys list"),
        "{text}"
    );
    assert!(dir.path().join("app/1").exists());
}

async fn until(holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
