//! An API server that says what a test wants it to say.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// UID of the tenant that the server knows.
pub const UID: &str = "4f1c09ab-7d00-4bbb-8ccc-000000000001";

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
}

impl Request {
    pub fn is_watch(&self) -> bool {
        self.query.contains("watch=true") || self.query.contains("watch=1")
    }
}

/// The server; it ends with the test's process.
pub struct FakeServer {
    kubeconfig: NamedTempFile,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl FakeServer {
    /// Answers every request with status and body; `None` leaves it open for ever, as a watch that sees nothing.
    pub fn start(
        answer: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                thread::spawn(move || serve(&connection, &seen, answer.as_ref()));
            }
        });
        Self {
            kubeconfig: kubeconfig(port),
            asked,
        }
    }

    /// Path of a kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig.path().display().to_string()
    }

    /// Runs the program against this server.
    pub fn granary(&self, mut program: Command, args: &[&str]) -> Output {
        program
            .args(args)
            .args(["--kubeconfig", &self.kubeconfig()])
            .output()
            .expect("the program runs")
    }

    /// What was asked that was no watch.
    pub fn asked(&self) -> Vec<Request> {
        let asked = self.asked.lock().expect("nobody panicked");
        asked
            .iter()
            .filter(|request| !request.is_watch())
            .cloned()
            .collect()
    }
}

fn serve(
    connection: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Option<(u16, Value)>,
) {
    let mut reader = BufReader::new(connection);
    while let Some(request) = read(&mut reader) {
        seen.lock().expect("nobody panicked").push(request.clone());
        let Some((status, body)) = answer(&request) else {
            // Held open until the other side goes.
            let _ = reader.read(&mut [0]);
            return;
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = connection;
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let method = words.next()?.to_owned();
    let target = words.next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        query,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// A kubeconfig for a server on this port.
pub fn kubeconfig(port: u16) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    });
    write!(file, "{config}").expect("it is writable");
    file
}

/// Tenant acme in this phase, with a status of this generation; 0 leaves the status out.
pub fn tenant(phase: &str, observed: i64) -> Value {
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": "as the test wants it",
               "observedGeneration": 1, "lastTransitionTime": "2026-11-21T12:00:00Z"})
    };
    let (status, reason) = match phase {
        "Ready" => ("True", "Accepting"),
        _ => ("False", "Starting"),
    };
    let mut tenant = json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant",
        "metadata": {"name": "acme", "uid": UID, "generation": 1, "resourceVersion": "1", "creationTimestamp": "2026-11-21T12:00:00Z"},
        "spec": {"plan": "standard", "environment": "production", "state": "Active", "deletionProtection": true},
    });
    if observed > 0 {
        tenant["status"] = json!({
            "phase": phase, "observedGeneration": observed,
            "conditions": [
                condition("NamespaceReady", "True", "Applied"),
                condition("DatabaseReady", status, reason),
                condition("Ready", status, reason),
            ],
        });
    }
    tenant
}
