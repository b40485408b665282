//! Who may talk to the database and to its agent.

use sqlx::postgres::{PgConnection, PgSslMode};
use sqlx::{Connection, Executor};

use super::client::answer_to_hello;
use super::pki::Authority;
use super::pod::Silo;

/// TLS record types and the alert "protocol version not supported".
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const PROTOCOL_VERSION: u8 = 70;

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn only_the_roles_own_certificate_opens_a_session() {
    let silo = Silo::new(40);
    let pod = silo.start();
    let (owner, app, stranger) = (
        silo.authority.client("owner"),
        silo.authority.client("app"),
        Authority::new().client("app"),
    );
    pod.session("owner", &owner).await.unwrap();
    pod.session("app", &app).await.unwrap();
    for (role, certificate, why) in [
        ("owner", &app, "certificate authentication failed"),
        ("app", &owner, "certificate authentication failed"),
        (
            "postgres",
            &silo.authority.client("postgres"),
            "no pg_hba.conf entry",
        ),
        ("app", &stranger, ""),
    ] {
        let error = pod
            .session(role, certificate)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{role}: {error}");
    }
    let nobody = pod
        .options("app")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(silo.authority.pem().into_bytes());
    let error = PgConnection::connect_with(&nobody)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("requires a valid client certificate"),
        "{error}"
    );
    let error = PgConnection::connect_with(&pod.options("app"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no encryption"), "{error}");
    for database in ["postgres", "template1"] {
        let error = PgConnection::connect_with(&pod.options("app").database(database))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no pg_hba.conf entry"),
            "{database}: {error}"
        );
    }
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn nothing_older_than_tls_13_is_spoken() {
    let silo = Silo::new(41);
    let pod = silo.start();
    assert_eq!(
        answer_to_hello(pod.ask_for_tls(), [3, 4]).0,
        HANDSHAKE,
        "PostgreSQL speaks TLS 1.3"
    );
    assert_eq!(
        answer_to_hello(pod.ask_for_tls(), [3, 3]),
        (ALERT, PROTOCOL_VERSION)
    );
    assert_eq!(
        answer_to_hello(pod.connect(pod.agent_port).unwrap(), [3, 4]).0,
        HANDSHAKE,
        "the agent speaks TLS 1.3"
    );
    assert_eq!(
        answer_to_hello(pod.connect(pod.agent_port).unwrap(), [3, 3]),
        (ALERT, PROTOCOL_VERSION)
    );
}

#[tokio::test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
async fn the_app_changes_rows_and_the_owner_changes_tables() {
    let silo = Silo::new(42);
    let pod = silo.start();
    let mut owner = pod
        .session("owner", &silo.authority.client("owner"))
        .await
        .unwrap();
    owner
        .execute("CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY, amount numeric)")
        .await
        .unwrap();
    owner
        .execute("CREATE SCHEMA books; CREATE TABLE books.page (n serial); CREATE EXTENSION citext")
        .await
        .unwrap();
    let mut app = pod
        .session("app", &silo.authority.client("app"))
        .await
        .unwrap();
    app.execute("INSERT INTO entry (amount) VALUES (1), (2); UPDATE entry SET amount = 3; DELETE FROM entry").await.unwrap();
    app.execute("INSERT INTO books.page DEFAULT VALUES")
        .await
        .unwrap();
    for (forbidden, why) in [
        ("CREATE TABLE mine (id int)", "permission denied"),
        ("CREATE TEMPORARY TABLE mine (id int)", "permission denied"),
        ("DROP TABLE entry", "must be owner"),
        ("TRUNCATE entry", "permission denied"),
        (
            "ALTER SYSTEM SET log_statement = 'all'",
            "not allowed in this environment",
        ),
        ("COPY entry TO PROGRAM 'cat'", "permission denied"),
        ("SET ROLE owner", "permission denied"),
    ] {
        let error = app.execute(forbidden).await.unwrap_err().to_string();
        assert!(error.contains(why), "{forbidden}: {error}");
    }
}

#[test]
#[ignore = "needs root and PostgreSQL 17: cargo xtask test"]
fn the_status_is_for_the_operator() {
    let silo = Silo::new(43);
    let pod = silo.start();
    let status = pod.status();
    assert_eq!(
        (
            &status["ready"],
            status["version"].as_str().map(|v| &v[..3])
        ),
        (&true.into(), Some("17.")),
        "{status}"
    );
    assert!(
        status["sizeBytes"].as_u64().unwrap() > 1_000_000
            && status["volume"]["freeBytes"].as_u64().unwrap() > 0,
        "{status}"
    );
    assert!(
        status["startedAt"].as_str().unwrap().ends_with('Z'),
        "{status}"
    );
    assert_eq!(pod.get("/status", None).unwrap().0, 403);
    assert_eq!(
        pod.get("/status", Some(&silo.authority.client("app")))
            .unwrap()
            .0,
        403
    );
    assert!(
        pod.get("/status", Some(&Authority::new().client("operator")))
            .is_err(),
        "another silo's operator"
    );
    assert_eq!(pod.get("/healthz", None).unwrap().0, 200);
}
