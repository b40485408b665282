//! What the API server's audit log says about who called.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{PLANE, eventually};

/// Time without a call after which what came before counts as over.
const A_WHILE: Duration = Duration::from_secs(3);

/// One request that the API server answered.
#[derive(Clone, Debug)]
pub struct Call {
    pub verb: String,
    pub uri: String,
    /// The resource, with the subresource if there is one.
    pub resource: String,
    /// The pod that called, as its token says.
    pub pod: String,
    pub code: i64,
}

impl Call {
    /// Whether it asked the API server to change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// The log from a point in time on.
pub struct Audit {
    file: PathBuf,
    from: u64,
}

impl Audit {
    /// From now on.
    pub fn from_now() -> Self {
        let file = std::env::var_os("GRANARY_AUDIT_LOG").map_or_else(
            || {
                let kubeconfig = std::env::var_os("KUBECONFIG").expect("KUBECONFIG");
                PathBuf::from(kubeconfig).with_file_name("audit.log")
            },
            PathBuf::from,
        );
        let from = std::fs::metadata(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; set GRANARY_AUDIT_LOG", file.display()))
            .len();
        Self { file, from }
    }

    /// Calls of the operator's pods since then that were answered.
    pub fn of_operator(&self) -> Vec<Call> {
        let operator = format!("system:serviceaccount:{PLANE}:granary-operator");
        let mut log = std::fs::File::open(&self.file).expect("the audit log");
        log.seek(SeekFrom::Start(self.from)).expect("it only grows");
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        text.lines()
            .filter(|line| line.contains(&operator))
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| {
                event["stage"] == "ResponseComplete" && event["user"]["username"] == *operator
            })
            .map(|event| call(&event))
            .collect()
    }

    /// Waits until the operator makes no call that names one of these for a while.
    pub async fn calm(names: &[&str]) {
        eventually("the operator rests", async || {
            let window = Self::from_now();
            tokio::time::sleep(A_WHILE).await;
            window.of_operator_about(names).is_empty()
        })
        .await;
    }

    /// Calls of the operator's pods that name one of these.
    pub fn of_operator_about(&self, names: &[&str]) -> Vec<Call> {
        let mut calls = self.of_operator();
        calls.retain(|call| names.iter().any(|name| call.uri.contains(name)));
        calls
    }
}

fn call(event: &Value) -> Call {
    let text = |pointer: &str| {
        let value = event.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let mut resource = text("/objectRef/resource");
    let subresource = text("/objectRef/subresource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    Call {
        verb: text("/verb"),
        uri: text("/requestURI"),
        resource,
        pod: text("/user/extra/authentication.kubernetes.io~1pod-name/0"),
        code: event["responseStatus"]["code"].as_i64().unwrap_or_default(),
    }
}
