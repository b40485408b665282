//! `granary audit` as people run it: the auditor's certificate out of a Secret, the registry through a port-forward,
//! and behind them a real PostgreSQL.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use granary::audit::{self, Action, Entry};
use granary::registry::{Role, evidence, tenants};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::postgres::{Leaf, Postgres, VOLATILE, run};
use crate::uid;

/// What RFC 6455 has servers append to a client's key.
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An API server that knows one Secret and forwards one port.
#[derive(Clone)]
struct ApiServer {
    secret: (u16, Value),
    postgres: u16,
}

impl ApiServer {
    fn new(postgres: &Postgres, leaf: &Leaf) -> Self {
        let data = |text: &str| BASE64_STANDARD.encode(text);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "granary-auditor-tls"},
            "data": {
                "ca.crt": data(&postgres.authority.pem()),
                "client.crt": data(&leaf.certificate),
                "client.key": data(&leaf.key),
            },
        });
        Self {
            secret: (200, secret),
            postgres: postgres.port,
        }
    }

    /// Runs the program against this server.
    fn granary(self, args: &[&str]) -> Output {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut kubeconfig = NamedTempFile::new().unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        write!(kubeconfig, "{config}").unwrap();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = self.clone();
                thread::spawn(move || server.serve(connection));
            }
        });
        Command::new(env!("CARGO_BIN_EXE_granary"))
            .args(args)
            .arg("--kubeconfig")
            .arg(kubeconfig.path())
            .output()
            .unwrap()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else {
            return;
        };
        let namespace = "/api/v1/namespaces/granary-system";
        if path == format!("{namespace}/secrets/granary-auditor-tls") {
            let (status, body) = (self.secret.0, self.secret.1.to_string());
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        } else if path.starts_with(&format!("{namespace}/pods/granary-registry-0/portforward")) {
            let key = head
                .iter()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
                .unwrap()
                .1;
            let accept = digest(
                &SHA1_FOR_LEGACY_USE_ONLY,
                format!("{key}{WEBSOCKET}").as_bytes(),
            );
            let accept = BASE64_STANDARD.encode(accept);
            let answer = format!(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
            forward(reader, stream, self.postgres);
        } else {
            panic!("asked for {path}");
        }
    }
}

/// Carries bytes between a web socket's first channel and a port, until one side ends.
fn forward(mut from_client: impl Read, mut to_client: TcpStream, port: u16) {
    let mut pod = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Each channel first says which port it is of.
    for channel in [0, 1] {
        let [low, high] = 5432_u16.to_le_bytes();
        frame(&mut to_client, &[channel, low, high]);
    }
    let mut from_pod = pod.try_clone().unwrap();
    thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(read) = from_pod.read(&mut chunk[1..])
            && read > 0
        {
            frame(&mut to_client, &chunk[..=read]);
        }
    });
    while let Some((opcode, content)) = unframe(&mut from_client) {
        if opcode == 2 && content.first() == Some(&0) {
            pod.write_all(&content[1..]).unwrap();
        } else if opcode == 8 {
            break;
        }
    }
}

/// A binary message.
fn frame(stream: &mut TcpStream, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap();
    let mut head = vec![0x82];
    if length < 126 {
        head.push(u8::try_from(length).unwrap());
    } else {
        head.push(126);
        head.extend(length.to_be_bytes());
    }
    // The client may have gone already.
    let _ = stream.write_all(&[&head, content].concat());
}

/// A client's message, unmasked: opcode and content.
fn unframe(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).ok()?;
            u64::from_be_bytes(length)
        }
        length => u64::from(length),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut content = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut content).ok()?;
    for (byte, mask) in content.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some((head[0] & 0x0f, content))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_read_and_checked_through_kubernetes() {
    // A server of its own: the command knows the registry's database by one name, `app`.
    let postgres = Postgres::start(&VOLATILE);
    granary::registry::Registry::migrate(&postgres.settings("app", Role::Owner))
        .await
        .unwrap();
    let registry = postgres.registry("app", Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let (acme, beta) = (uid(), uid());
    for number in 0..1200 {
        let (uid, name) = if number % 2 == 0 {
            (acme, "acme")
        } else {
            (beta, "beta")
        };
        let entry = Entry::started("ada", Action::KeyUnwrapped)
            .of(uid, name)
            .with(json!({"number": number}));
        audit::append(&mut connection, &entry).await.unwrap();
    }
    let leaf = postgres.authority.client("auditor");
    let granary = |args: &[&str]| ApiServer::new(&postgres, &leaf).granary(args);

    let output = granary(&["audit", "tail", "--lines", "2", "--tenant", "acme"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.lines().nth(2).unwrap().starts_with("1199 "),
        "{table}"
    );

    let output = granary(&["audit", "list", "--tenant", &beta.to_string(), "-o", "json"]);
    let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(list["kind"], "AuditList");
    assert_eq!(list["items"].as_array().unwrap().len(), 600);
    assert_eq!(list["items"][599]["seq"], 1200);
    let output = granary(&["audit", "list", "--limit", "10"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));

    let output = granary(&["audit", "export", "--since", "1h"]);
    let lines = stdout(&output);
    let rows: Vec<audit::Record> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 1200, "more than are read at once");
    assert!(rows.windows(2).all(|pair| pair[1].prev == pair[0].hash));

    let output = granary(&["audit", "verify", "-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&report["intact"], &report["rows"]),
        (&true.into(), &1200.into())
    );
    let head = stdout(&granary(&["audit", "verify", "-o", "name"]));

    run(
        &mut postgres.superuser("app").await,
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM audit WHERE seq > 1190;
         UPDATE audit_head SET (seq, at, hash) = (SELECT seq, at, hash FROM audit WHERE seq = 1190); COMMIT",
    )
    .await;
    let output = granary(&["audit", "verify"]);
    assert!(output.status.success(), "its own head was lowered too");
    let output = granary(&["audit", "verify", "--head", head.trim()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("rows 1191 to 1200 were cut off at the end"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_audit_is_told_what_is_missing() {
    let postgres = Postgres::shared();
    let leaf = postgres.authority.client("auditor");
    let refused = |status: u16, reason: &str| {
        let mut server = ApiServer::new(postgres, &leaf);
        let status_object = json!({
            "apiVersion": "v1", "kind": "Status", "code": status, "reason": reason, "status": "Failure",
            "message": "secrets \"granary-auditor-tls\" is not for you", "details": {"name": "granary-auditor-tls"},
        });
        server.secret = (status, status_object);
        server.granary(&["audit", "tail"])
    };
    let output = refused(403, "Forbidden");
    assert_eq!(output.status.code(), Some(5));
    assert!(
        stderr(&output).contains("ask for the rights"),
        "{}",
        stderr(&output)
    );
    let output = refused(404, "NotFound");
    assert_eq!(output.status.code(), Some(3));

    // A certificate that is not the auditor's does not open the audit.
    let app = postgres.authority.client("app");
    let output = ApiServer::new(postgres, &app).granary(&["audit", "tail"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    let mut away = ApiServer::new(postgres, &leaf);
    away.secret.1["data"]["ca.crt"] = BASE64_STANDARD
        .encode(crate::postgres::Authority::new().pem())
        .into();
    let output = away.granary(&["audit", "tail"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_shown_of_those_who_have_ended_and_as_it_was_signed() {
    let postgres = Postgres::start(&VOLATILE);
    granary::registry::Registry::migrate(&postgres.settings("app", Role::Owner))
        .await
        .unwrap();
    let registry = postgres.registry("app", Role::App);
    let mut connection = registry.acquire().await.unwrap();
    let acme = uid();
    tenants::register(&mut connection, acme, "acme", "silo-acme")
        .await
        .unwrap();
    let leaf = postgres.authority.client("auditor");
    let server = ApiServer::new(&postgres, &leaf);
    let show = |args: &[&str]| {
        let args = [&["evidence", "show"], args, &["-o", "json"]].concat();
        server.clone().granary(&args)
    };
    let refused = |args: &[&str], code: i32, why: &str| {
        let output = show(args);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    };
    refused(&["globex"], 3, "does not know it");
    refused(&["acme"], 4, "it lives");
    refused(&[&acme.to_string()], 4, "it lives");
    tenants::offboard(&mut connection, acme).await.unwrap();
    refused(&["acme"], 4, "it is being offboarded");
    refused(&["acme", "--all"], 4, "it is being offboarded");
    tenants::bury(&mut connection, acme, Timestamp::now())
        .await
        .unwrap();
    refused(&["acme"], 3, "nothing to prove");

    let known: Value = serde_json::from_str(include_str!("../evidence/record.json")).unwrap();
    evidence::record(&mut connection, acme, evidence::Stage::Destroyed, &known)
        .await
        .unwrap();
    let shown = show(&["acme"]);
    let envelope: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(envelope, known);
    let all: Value = serde_json::from_str(&stdout(&show(&["acme", "--all"]))).unwrap();
    assert_eq!(all["items"][0]["envelope"], known);
    // The name returns: who has it now lives, and who had it before is named.
    tenants::register(&mut connection, uid(), "acme", "silo-acme")
        .await
        .unwrap();
    refused(&["acme"], 4, &acme.to_string());
    let before = show(&[&acme.to_string()]);
    assert!(before.status.success(), "{}", stderr(&before));
}
