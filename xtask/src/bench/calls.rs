//! Counts the operator's calls in the API server's audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The operator's user.
const OPERATOR: &str = "system:serviceaccount:granary-system:granary-operator";

/// A place in the audit log.
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

impl Mark {
    /// The end of the log as it is now.
    pub fn now(log: &Path) -> Result<Self> {
        let offset = std::fs::metadata(log)
            .with_context(|| format!("cannot read {}", log.display()))?
            .len();
        Ok(Self {
            log: log.to_owned(),
            offset,
        })
    }

    /// Calls of the operator since then, leases and watches aside, by verb and resource.
    pub fn calls(&self) -> Result<BTreeMap<String, usize>> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut calls = BTreeMap::new();
        for event in text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            let field = |path: &str| {
                event
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let is_call = field("/user/username") == OPERATOR
                && field("/stage") == "ResponseComplete"
                && field("/verb") != "watch"
                && field("/objectRef/resource") != "leases";
            if is_call {
                let subresource = match field("/objectRef/subresource") {
                    "" => String::new(),
                    name => format!("/{name}"),
                };
                let call = format!(
                    "{} {}{subresource}",
                    field("/verb"),
                    field("/objectRef/resource")
                );
                *calls.entry(call).or_default() += 1;
            }
        }
        Ok(calls)
    }
}
