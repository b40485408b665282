//! The program itself: its help, its logs, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::app::{Silo, TENANT, URL};
use crate::client::Client;

fn program(silo: &Silo, args: &[&str]) -> Command {
    let settings = silo.serve_args();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-template"));
    command
        .args(args)
        .env_clear()
        .env("LISTEN", "127.0.0.1:0")
        .env("TLS_DIR", &settings.tls_dir)
        .env("GRANARY_KEYS_DIR", &settings.keys_dir)
        .env("GRANARY_TENANT_UID", TENANT.to_string())
        .env("GRANARY_DISPLAY_NAME", "Acme")
        .env("GRANARY_URL", URL)
        .env("PGHOST", &settings.database.host)
        .env("PGPORT", settings.database.port.to_string())
        .env("PGDATABASE", &settings.database.name)
        .env("PGUSER", &settings.database.user)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &settings.database.ca)
        .env("PGSSLCERT", &settings.database.cert)
        .env("PGSSLKEY", &settings.database.key)
        .stdout(Stdio::piped());
    command
}

/// Ends the program when a test fails before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_serves_by_its_environment_alone_logs_no_contents_and_ends_on_sigterm() {
    let silo = Silo::new().await;
    silo.migrate().await;
    let mut running = Running(program(&silo, &[]).spawn().unwrap());
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    let mut logs = Vec::new();
    let address = loop {
        let mut line = String::new();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "it ended early: {logs:?}"
        );
        let log: Value = serde_json::from_str(&line).unwrap();
        logs.push(line);
        if log["message"] == "listening" {
            break log["address"].as_str().unwrap().parse().unwrap();
        }
    };
    let mut client = Client::new(address, &silo.authority.pem);
    assert_eq!(client.get("/readyz?wait=25").await.status, StatusCode::OK);
    assert_eq!(
        client
            .add("income", "4711.42", "2026-01-01", "Secret deal")
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    let csrf = client.get("/?page=1").await.hidden("csrf");
    client.get("/secret-looking-path").await;

    // A request that is running when the signal comes is finished.
    let (mut held, sender) = slow_form(&client, &csrf).await;
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    crate::eventually("it accepts no more", async || {
        tokio::net::TcpStream::connect(address).await.err()
    })
    .await;
    sender.finish(&mut held).await;
    assert!(
        held.answer().await.starts_with("HTTP/1.1 403 "),
        "the running request was answered"
    );
    assert!(running.0.wait().unwrap().success());

    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    logs.push(rest);
    let logs = logs.concat();
    assert!(logs.contains("read the keys"), "that keys came is said");
    let key = Silo::key(1);
    let (hex, list) = (
        key.map(|byte| format!("{byte:02x}")).concat(),
        key.map(|byte| byte.to_string()).join(", "),
    );
    for part in [&hex[..16], &list[..16]] {
        assert!(!logs.contains(part), "a key was logged:\n{logs}");
    }
    for line in logs.lines() {
        let log: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            log["timestamp"].is_string() && log["level"].is_string(),
            "{line}"
        );
    }
    for secret in [
        "4711",
        "4,711",
        "Secret deal",
        "secret-looking-path",
        csrf.as_str(),
    ] {
        assert!(!logs.contains(secret), "{secret} was logged:\n{logs}");
    }
    let added = logs
        .lines()
        .find(|line| line.contains("\"POST\"") && line.contains("/entries"))
        .expect("requests are logged");
    let added: Value = serde_json::from_str(added).unwrap();
    assert_eq!(
        (&added["path"], &added["status"]),
        (&Value::from("/entries"), &Value::from(303))
    );
    assert!(added["request_id"].is_string() && added["latency_ms"].is_number());
}

/// A form whose body is not complete yet.
struct Held(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);
struct RestOfForm(&'static str);

async fn slow_form(client: &Client, csrf: &str) -> (Held, RestOfForm) {
    use tokio::io::AsyncWriteExt;
    const REST: &str = "&amount=1";
    let start = format!("csrf={csrf}");
    let head = format!(
        "POST /entries HTTP/1.1\r\nhost: localhost\r\norigin: {URL}\r\nexpect: 100-continue\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        start.len() + REST.len()
    );
    let mut stream = client.handshake(&[&rustls::version::TLS13]).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server says `100 Continue` when the handler asks for the body: now the request runs.
    let mut form = Held(stream);
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(form.read(go_on.len()).await, go_on);
    form.0.write_all(start.as_bytes()).await.unwrap();
    (form, RestOfForm(REST))
}

impl RestOfForm {
    async fn finish(self, held: &mut Held) {
        use tokio::io::AsyncWriteExt;
        held.0.write_all(self.0.as_bytes()).await.unwrap();
    }
}

impl Held {
    async fn read(&mut self, length: usize) -> String {
        use tokio::io::AsyncReadExt;
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    async fn answer(&mut self) -> String {
        use tokio::io::AsyncReadExt;
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[tokio::test]
async fn a_waiting_migration_ends_on_sigterm() {
    let silo = Silo::new().await;
    let mut running = Running(
        program(&silo, &["migrate"])
            .env("PGPORT", "1")
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(
        line.contains("waiting for the database") && line.contains("localhost:1"),
        "{line}"
    );
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
    output.read_to_string(&mut line).unwrap();
    assert!(line.contains("a signal ended the migration"), "{line}");
}

#[tokio::test]
async fn a_held_probe_does_not_delay_the_end() {
    let app = Silo::new().await.serve().await;
    let mut held = app.client();
    let probe = tokio::spawn(async move { held.get("/readyz?wait=25").await });
    let mut client = app.client();
    client
        .send(Request::get("/healthz").body(Body::empty()).unwrap())
        .await;
    app.stop.cancel();
    app.running.await.unwrap();
    // The probe was answered, or came too late to be accepted.
    if let Ok(answer) = probe.await {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[test]
fn the_help_explains_the_commands() {
    let help = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tenant-template"))
            .args(args)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help(&["--help"]);
    assert!(
        top.contains("migrate") && top.contains("Without a command it serves"),
        "{top}"
    );
    assert!(help(&["serve", "--help"]).contains("[env: GRANARY_URL=]"));
    assert!(help(&["migrate", "--help"]).contains("advisory lock"));
}

#[tokio::test]
async fn a_mistake_in_the_environment_is_named() {
    let silo = Silo::new().await;
    let fail = |command: &mut Command| {
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    assert!(fail(program(&silo, &[]).env_remove("GRANARY_URL")).contains("--url <URL>"));
    assert!(fail(program(&silo, &[]).env("GRANARY_URL", "http://x")).contains("https://HOST"));
    assert!(fail(program(&silo, &[]).env_remove("GRANARY_TENANT_UID")).contains("--tenant-uid"));
    assert!(fail(program(&silo, &[]).env("GRANARY_TENANT_UID", "acme")).contains("--tenant-uid"));
    assert!(fail(program(&silo, &[]).env("PGSSLMODE", "require")).contains("verify-full"));
    let no_certificate = fail(program(&silo, &[]).env("TLS_DIR", "/nowhere"));
    assert!(
        no_certificate.contains("cannot read /nowhere")
            && no_certificate.contains("\"level\":\"ERROR\""),
        "{no_certificate}"
    );
    let no_database = fail(program(&silo, &["migrate", "--timeout", "0"]).env("PGPORT", "1"));
    assert!(
        no_database.contains("cannot reach localhost:1"),
        "{no_database}"
    );
}
