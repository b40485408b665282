//! What becomes of a volume.

use std::fs;
use std::io::Write;

use sqlx::{Executor, Row};

use super::pod::{Silo, wait_for};

const PGDATA: &str = "/var/lib/granary/postgresql/pgdata";

/// The mock authentication nonce, read the way PostgreSQL shows it.
fn nonce(silo: &Silo) -> String {
    let output = silo.run("pg_controldata", &["-D", PGDATA]);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Mock authentication nonce"))
        .expect("a nonce");
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn each_empty_volume_becomes_a_database_of_its_own() {
    let (one, two) = (Silo::new(1), Silo::new(2));
    let (first, second) = (one.start(), two.start());
    let (status, other) = (first.status(), second.status());
    assert_ne!(status["systemIdentifier"], other["systemIdentifier"]);
    assert_ne!(nonce(&one), nonce(&two));

    let mut owner = first
        .session("owner", &one.authority.client("owner"))
        .await
        .unwrap();
    owner
        .execute("CREATE TABLE kept (note text); INSERT INTO kept VALUES ('kept')")
        .await
        .unwrap();
    drop(owner);
    first.stop();
    let checked = one.run("pg_checksums", &["--check", "-D", PGDATA]);
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );

    let again = one.start();
    assert_eq!(
        again.status()["systemIdentifier"],
        status["systemIdentifier"],
        "a finished volume is not touched"
    );
    let mut app = again
        .session("app", &one.authority.client("app"))
        .await
        .unwrap();
    let note: String = app.fetch_one("SELECT note FROM kept").await.unwrap().get(0);
    assert_eq!(note, "kept");
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn an_interrupted_initialisation_is_begun_again() {
    let silo = Silo::new(3);
    // A template that stops coming: the agent is killed with half of it unpacked.
    let pipe = silo.volume().join("template");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    super::pod::give_to_group(&pipe);
    let rootfs = std::env::var("GRANARY_POSTGRES_ROOTFS").unwrap();
    let template = fs::read(format!("{rootfs}/usr/share/granary/template.tar")).unwrap();
    let pod = silo.launch(&["--template", "/var/lib/granary/postgresql/template"]);
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(&template[..template.len() / 2]).unwrap();
    let draft = silo.volume().join("pgdata.init");
    wait_for(|| {
        if draft.join("base/1").exists() {
            Ok(())
        } else {
            Err(pod.log())
        }
    });
    pod.kill();
    drop(writer);
    assert!(
        !silo.volume().join("pgdata").exists(),
        "half a database is no database"
    );

    fs::write(draft.join("left-over"), "").unwrap();
    let pod = silo.start();
    assert!(!draft.exists() && !silo.volume().join("pgdata/left-over").exists());
    assert!(
        pod.log().contains("removed an unfinished initialisation"),
        "{}",
        pod.log()
    );
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_volume_that_is_not_this_tenants_is_refused() {
    let mut silo = Silo::new(4);
    silo.start().stop();
    let refused = |silo: &Silo, why: &str| {
        let (status, log, last_words) = silo.launch(&[]).wait();
        assert!(
            !status.success() && last_words.contains(why),
            "{status} {last_words}\n{log}"
        );
    };

    let own = std::mem::replace(
        &mut silo.tenant,
        "00000000-0000-4000-8000-000000000005".to_owned(),
    );
    refused(&silo, &format!("holds the database of tenant {own}"));
    silo.tenant = own;

    let version = silo.volume().join("pgdata/PG_VERSION");
    fs::write(&version, "16\n").unwrap();
    refused(&silo, "was written by PostgreSQL 16");
    fs::write(&version, "17\n").unwrap();

    let identity = silo.volume().join("pgdata/granary.json");
    fs::rename(&identity, identity.with_extension("away")).unwrap();
    refused(&silo, "does not name a tenant");
    fs::rename(identity.with_extension("away"), &identity).unwrap();

    let control = silo.volume().join("pgdata/global/pg_control");
    let good = fs::read(&control).unwrap();
    let mut bad = good.clone();
    bad[60] ^= 1;
    fs::write(&control, bad).unwrap();
    refused(&silo, "does not match its checksum");
    fs::write(&control, good).unwrap();

    silo.start();
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_volume_in_use_is_refused() {
    let silo = Silo::new(6);
    let first = silo.start();
    let (status, log, last_words) = silo.launch(&[]).wait();
    assert!(
        !status.success() && last_words.contains("another database pod still uses this volume"),
        "{status} {log}"
    );
    assert_eq!(
        first.get("/readyz", None).unwrap().0,
        200,
        "the first pod does not notice"
    );
    first.kill();
    let pod = silo.start();
    assert!(
        pod.log().contains("recovers from its write-ahead log"),
        "{}",
        pod.log()
    );
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn a_volume_that_is_too_small_says_so() {
    let silo = Silo::with_volume(7, "24m");
    let (status, log, last_words) = silo.launch(&[]).wait();
    assert!(
        !status.success() && last_words.contains("use a plan with more storage"),
        "{status} {log}"
    );
}
