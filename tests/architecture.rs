//! Modules depend on each other in one direction only.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module and what it may use of the others. `src/lib.rs` says why.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("effects", &["keys"]),
    ("config", &["keys", "telemetry"]),
    ("https", &[]),
    ("telemetry", &["https"]),
    ("evidence", &[]),
    ("pki", &["api"]),
    ("resources", &["api", "pki"]),
    ("agent", &["api", "https", "keys", "keyserver", "telemetry"]),
    ("keys", &[]),
    ("registry", &["effects", "https", "keys"]),
    ("audit", &["keys", "registry"]),
    (
        "keyserver",
        &[
            "api",
            "audit",
            "effects",
            "https",
            "keys",
            "registry",
            "telemetry",
        ],
    ),
    (
        "control",
        &[
            "api",
            "audit",
            "config",
            "effects",
            "evidence",
            "https",
            "keys",
            "keyserver",
            "pki",
            "registry",
            "resources",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "agent",
            "api",
            "audit",
            "config",
            "control",
            "evidence",
            "keys",
            "keyserver",
            "registry",
            "resources",
            "telemetry",
        ],
    ),
];

fn sources(module: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = root.join(format!("{module}.rs"));
    if file.exists() {
        return vec![file];
    }
    let (mut folders, mut files) = (vec![root.join(module)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a module has a folder") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The modules that a source names by `crate::…`, also inside braces.
fn uses(source: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for rest in source.split("crate::").skip(1) {
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        for name in names {
            let end = name
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(name.len());
            modules.insert(name[..end].to_owned());
        }
    }
    modules
}

/// The items of a `use` list up to its closing brace, without looking into nested ones.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(list[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn modules_use_only_what_the_map_allows() {
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(module, _)| *module).collect();
    let mut wrong = Vec::new();
    for (module, allowed) in ALLOWED {
        for file in sources(module) {
            let source = fs::read_to_string(&file).expect("a source can be read");
            for used in uses(&source) {
                if known.contains(used.as_str())
                    && used != *module
                    && !allowed.contains(&used.as_str())
                {
                    wrong.push(format!(
                        "{} uses crate::{used}, which `{module}` may not",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn builders_and_plans_touch_neither_the_cluster_nor_the_clock() {
    let pure =
        sources("resources")
            .into_iter()
            .chain(["plan", "assess", "ownership", "seen"].map(|step| {
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/control/{step}.rs"))
            }));
    for file in pure {
        let source = fs::read_to_string(&file).expect("a source can be read");
        for impure in [
            "async ",
            "kube::Client",
            "Timestamp::now",
            "Instant::now",
            "std::env",
            "tokio::",
        ] {
            assert!(
                !source.contains(impure),
                "{} is pure and has {impure:?}",
                file.display()
            );
        }
    }
}

#[test]
fn only_the_writer_and_the_lease_write_to_the_cluster() {
    for file in sources("control") {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        if matches!(name.as_str(), "writer.rs" | "lease.rs")
            || file.to_string_lossy().contains("/tests/")
        {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source can be read");
        for write in ["PatchParams", "PostParams", "DeleteParams"] {
            assert!(
                !source.contains(write),
                "{} writes ({write}) past the writer",
                file.display()
            );
        }
    }
}

#[test]
fn lists_of_uses_are_read_to_their_end() {
    let found = uses("use crate::{api::{Plan, Tenant}, config::X, telemetry};\nuse crate::pki;");
    assert_eq!(
        found,
        ["api", "config", "pki", "telemetry"]
            .map(str::to_owned)
            .into()
    );
}
