//! What the agent says about a running database, and how it ends.

use std::fs;

use nix::sys::signal::Signal;
use sqlx::Executor;

use super::pki;
use super::pod::{Silo, wait_for};

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn certificates_are_renewed_without_a_restart() {
    let silo = Silo::new(20);
    let pod = silo.start();
    let (postmaster, before) = (pod.postmaster(), pod.postgres_certificate());
    assert_eq!(before, pod.agent_certificate());

    // A key that does not belong to its certificate: the old pair stays.
    let (one, two) = (silo.authority.server(), silo.authority.server());
    let torn = pki::Leaf {
        certificate: one.certificate,
        key: two.key.clone(),
    };
    pki::mount(&silo.tls(), &torn, &silo.authority.pem());
    wait_for(|| {
        if pod.log().contains("the old ones stay") {
            Ok(())
        } else {
            Err(pod.log())
        }
    });
    assert_eq!(pod.postgres_certificate(), before);
    assert_eq!(pod.agent_certificate(), before);

    pki::mount(&silo.tls(), &two, &silo.authority.pem());
    let renewed = wait_for(|| {
        Some(pod.postgres_certificate())
            .filter(|now| *now != before)
            .ok_or_else(|| pod.log())
    });
    assert_eq!(pod.agent_certificate(), renewed);
    assert_eq!(pod.postmaster(), postmaster);
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_full_volume_is_not_ready() {
    let silo = Silo::with_volume(21, "128m");
    let pod = silo.start();
    let ballast = silo.volume().join("ballast");
    let free = pod.status()["volume"]["freeBytes"].as_u64().unwrap();
    fs::write(
        &ballast,
        vec![0; usize::try_from(free - 10_000_000).unwrap()],
    )
    .unwrap();
    let (code, body) = pod.get("/readyz", None).unwrap();
    assert!(
        code == 503 && body.contains("VolumeFull") && body.contains("of 128 MiB free"),
        "{code} {body}"
    );
    let status = pod.status();
    assert_eq!(
        (&status["ready"], &status["reason"]),
        (&false.into(), &"VolumeFull".into()),
        "{status}"
    );
    assert_eq!(
        status["version"].as_str().unwrap().split('.').next(),
        Some("17"),
        "the database still answers"
    );

    fs::remove_file(&ballast).unwrap();
    assert_eq!(pod.get("/readyz", None).unwrap().0, 200);
}

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn no_value_reaches_the_log() {
    let silo = Silo::new(22);
    let pod = silo.start();
    let mut app = pod
        .session("app", &silo.authority.client("app"))
        .await
        .unwrap();
    let error = app
        .execute("SELECT 'iban-4711'::integer")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("iban-4711"),
        "the client is told: {error}"
    );
    let error = sqlx::query("SELECT $1::text::integer")
        .bind("iban-4712")
        .execute(&mut app)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("iban-4712"), "{error}");
    drop(app);
    let log = pod.stop();
    assert_eq!(log.matches("a statement failed").count(), 2, "{log}");
    assert!(!log.contains("iban"), "{log}");
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "JSON only: {log}"
    );
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_server_that_cannot_start_leaves_its_last_words() {
    let silo = Silo::new(23);
    silo.start().stop();
    let (status, log, last_words) = silo.launch(&["--shared-buffers", "900000GB"]).wait();
    assert!(
        !status.success()
            && last_words.contains("PostgreSQL failed")
            && last_words.contains("FATAL"),
        "{last_words}\n{log}"
    );
    assert!(
        last_words.contains("900000GB") || last_words.contains("configuration file"),
        "{last_words}"
    );
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_server_that_is_killed_takes_the_pod_with_it() {
    let silo = Silo::new(24);
    let pod = silo.start();
    pod.signal(Signal::SIGHUP);
    assert_eq!(
        pod.get("/healthz", None).unwrap().0,
        200,
        "an unknown signal is ignored"
    );
    let killed = silo_kill(&pod);
    let (status, log, last_words) = pod.wait();
    assert!(
        killed && !status.success() && last_words.contains("signal: 9"),
        "{status} {last_words}\n{log}"
    );
}

/// Kills PostgreSQL's main process alone.
fn silo_kill(pod: &super::pod::Pod<'_>) -> bool {
    let Some(pid) = pod.outside(&pod.postmaster()) else {
        return false;
    };
    nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok()
}
