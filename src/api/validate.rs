//! The rules of the API server, without one.
//!
//! Everything the CRDs and the admission policies say of a single object is checked here from the same text. What
//! needs a cluster is not: whether the plan exists, and what may change of an object that is there already.

use std::fmt;
use std::sync::LazyLock;

use kube::core::cel::{ErrorKind, Validator};
use serde_json::Value;
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::reserved::is_reserved;
use super::source::{Node, Places, position};
use super::structure;
use super::{GROUP, crds};

pub use super::source::Position;

/// One object of a file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its kind, as written.
    pub kind: String,
    /// Its name, as written.
    pub name: String,
    /// Where it begins.
    pub position: Position,
    /// What came out.
    pub verdict: Verdict,
}

/// What came out of checking one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The API server would take it, as far as can be known without one.
    Valid,
    /// The API server would refuse it, for each of these.
    Invalid(Vec<Finding>),
    /// It is no resource of Granary's and was not looked at.
    Foreign,
}

/// One thing that is wrong. It displays as `spec.plan: Required value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path of the field (`spec.domains[1]`).
    pub field: String,
    /// What is wrong with it and what it must be.
    pub message: String,
    /// Where the field stands, or what it is missing from.
    pub position: Position,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The text is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("the text is not valid YAML")]
pub struct Unreadable(#[from] serde_saphyr::Error);

impl Unreadable {
    /// What is wrong with it, and where. The source's own words are for those who call the library.
    #[must_use]
    pub fn explained(&self) -> String {
        self.0.render_with_formatter(&UserMessageFormatter)
    }
}

/// Checks every object of a YAML stream, in the order in which they stand there.
///
/// # Errors
/// Where the text is no YAML.
pub fn validate(yaml: &str) -> Result<Vec<Checked>, Unreadable> {
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple(yaml)?;
    let mut checked = Vec::new();
    for document in &documents {
        check_document(document, &mut checked);
    }
    Ok(checked)
}

fn check_document(document: &Spanned<Node>, checked: &mut Vec<Checked>) {
    let node = &document.value;
    let api_version = node.text("apiVersion").unwrap_or_default();
    let kind = node.text("kind").unwrap_or_default();
    if let ("v1", "List", Some(Node::List(items))) = (
        api_version,
        kind,
        node.field("items").map(|items| &items.value),
    ) {
        for item in items {
            check_document(item, checked);
        }
        return;
    }
    let metadata = node.field("metadata").map(|metadata| &metadata.value);
    let name = ["name", "generateName"]
        .into_iter()
        .find_map(|key| metadata.and_then(|metadata| metadata.text(key)));
    checked.push(Checked {
        kind: kind.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        position: position(document),
        verdict: verdict(document, api_version, kind),
    });
}

fn verdict(document: &Spanned<Node>, api_version: &str, kind: &str) -> Verdict {
    let faults = match SCHEMAS
        .iter()
        .find(|schema| schema.api_version == api_version && schema.kind == kind)
    {
        Some(schema) => schema.check(document.value.value()),
        None if api_version.split('/').next() == Some(GROUP) => {
            let known: Vec<String> = SCHEMAS
                .iter()
                .map(|schema| format!("{} {}", schema.api_version, schema.kind))
                .collect();
            vec![(
                "kind".to_owned(),
                format!(
                    "no matches for kind {kind:?} in version {api_version:?}; there are: {}",
                    known.join(", ")
                ),
            )]
        }
        None if api_version.is_empty() => {
            vec![("apiVersion".to_owned(), "Required value".to_owned())]
        }
        None if kind.is_empty() => vec![("kind".to_owned(), "Required value".to_owned())],
        None => return Verdict::Foreign,
    };
    if faults.is_empty() {
        return Verdict::Valid;
    }
    let places = Places::of(document);
    let mut findings: Vec<Finding> = faults
        .into_iter()
        .map(|(field, message)| Finding {
            position: places.find(&field),
            field,
            message,
        })
        .collect();
    findings.sort_by_key(|finding| finding.position);
    Verdict::Invalid(findings)
}

/// The schema of one kind.
struct Schema {
    api_version: String,
    kind: String,
    root: Value,
}

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    crds()
        .into_iter()
        .flat_map(|crd| {
            let (group, kind) = (crd.spec.group, crd.spec.names.kind);
            crd.spec.versions.into_iter().map(move |version| Schema {
                api_version: format!("{group}/{}", version.name),
                kind: kind.clone(),
                root: serde_json::json!(
                    version.schema.and_then(|schema| schema.open_api_v3_schema)
                ),
            })
        })
        .collect()
});

impl Schema {
    fn check(&self, mut object: Value) -> Vec<structure::Fault> {
        structure::without_nulls(&mut object);
        let mut faults = structure::check(&self.root, &object);
        let Some(name) = name_of(&mut object) else {
            faults.push(("metadata.name".to_owned(), "Required value".to_owned()));
            return faults;
        };
        if self.kind == "Tenant" && is_reserved(&name) {
            let message = format!(
                "{name:?} is reserved: the subdomain means something else to people, to mail or to Granary; choose another name"
            );
            faults.push(("metadata.name".to_owned(), message));
        }
        let failures = match Validator::new().validate(&self.root, &object, None) {
            Ok(()) => Vec::new(),
            Err(failures) => failures.into_vec(),
        };
        let sound = faults.is_empty();
        for failure in failures {
            let field = failure.field_path.trim_start_matches('.').to_owned();
            // A rule cannot be applied to a value of the wrong shape, which has been reported already.
            let counts = sound || failure.kind == ErrorKind::ValidationFailure;
            if counts && faults.iter().all(|(path, _)| *path != field) {
                faults.push((field, failure.message));
            }
        }
        faults
    }
}

/// The name of the object; where the API server would make one, it is made up, so that the rules see one.
fn name_of(object: &mut Value) -> Option<String> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    if !metadata.contains_key("name") {
        let prefix = metadata.get("generateName")?.as_str()?;
        let name = format!("{prefix}00000");
        metadata.insert("name".to_owned(), name.into());
    }
    Some(metadata.get("name")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
apiVersion: granary.dev/v1alpha1
kind: Tenant
metadata:
  name: www
spec:
  plam: small
  domains:
    - a.example
    - a.example
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
# Nothing.
---
apiVersion: granary.dev/v1alpha1
kind: Tenant
metadata: {generateName: acme-}
spec: {plan: small, owner: null}
";

    fn findings(checked: &Checked) -> Vec<String> {
        match &checked.verdict {
            Verdict::Invalid(findings) => findings
                .iter()
                .map(|finding| {
                    format!(
                        "{}:{} {finding}",
                        finding.position.line, finding.position.column
                    )
                })
                .collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn findings_say_where_and_what() {
        let checked = validate(FILE).unwrap();
        assert_eq!(checked.len(), 3);
        assert_eq!(
            findings(&checked[0]),
            [
                "4:9 metadata.name: \"www\" is reserved: the subdomain means something else to people, to mail or to Granary; choose another name",
                "6:3 spec.plan: Required value",
                "6:9 spec.plam: unknown field; did you mean \"plan\"?",
                "9:7 spec.domains[1]: Duplicate value: \"a.example\"",
            ]
        );
        assert_eq!(checked[1].verdict, Verdict::Foreign);
        assert_eq!(
            (
                checked[2].verdict.clone(),
                checked[2].name.as_str(),
                checked[2].position.line
            ),
            (Verdict::Valid, "acme-", 17)
        );
    }

    #[test]
    fn a_list_hides_nothing() {
        let checked = validate("apiVersion: v1\nkind: List\nitems:\n- apiVersion: granary.dev/v1alpha1\n  kind: Plan\n  metadata: {name: p}\n  spec: {}\n").unwrap();
        assert_eq!(
            findings(&checked[0]),
            [
                "7:9 spec.app: Required value",
                "7:9 spec.database: Required value"
            ]
        );
    }

    #[test]
    fn kinds_that_do_not_exist_are_named() {
        let checked =
            validate("apiVersion: granary.dev/v1\nkind: Tenant\nmetadata: {name: acme}\n").unwrap();
        assert_eq!(
            findings(&checked[0]),
            [
                "2:7 kind: no matches for kind \"Tenant\" in version \"granary.dev/v1\"; there are: granary.dev/v1alpha1 Tenant, granary.dev/v1alpha1 Plan, granary.dev/v1alpha1 PlanCatalog"
            ]
        );
        assert_eq!(
            findings(&validate("a: 1").unwrap()[0]),
            ["1:1 apiVersion: Required value"]
        );
        assert!(validate("").unwrap().is_empty());
    }

    #[test]
    fn broken_yaml_shows_the_place() {
        for text in ["spec: {plan: small", "a: 1\na: 2\n"] {
            let error = validate(text).expect_err(text);
            let explained = error.explained();
            assert!(
                explained.contains("line") || explained.contains("-->"),
                "{explained}"
            );
            assert!(!explained.contains("Options"), "{explained}");
        }
    }
}
