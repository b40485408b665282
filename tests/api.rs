//! The chart's copies of what the Rust types say.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::Path;

/// Set to `1`, this variable makes the tests write the files they would compare.
const UPDATE: &str = "UPDATE";

fn assert_current(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        std::fs::write(&path, wanted).expect("the chart's file is writable");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the Rust types say: run `UPDATE=1 cargo test --test api` and commit the result",
        path.display()
    );
}

#[test]
fn the_chart_ships_the_generated_crds() {
    assert_current(
        "charts/granary/files/crds.yaml",
        &granary::api::crds_yaml().expect("the CRDs are YAML"),
    );
}

mod specs;

use granary::api::validate::{Checked, Verdict};
use kube::core::cel::Validator;
use serde_json::{Value, json};

fn check(object: &Value) -> Checked {
    let yaml = serde_saphyr::to_string(object).expect("the object is YAML");
    let mut checked =
        granary::api::validate(&yaml).unwrap_or_else(|error| panic!("{error:?} in\n{yaml}"));
    assert_eq!(checked.len(), 1, "{yaml}");
    checked.remove(0)
}

#[test]
fn good_specs_are_taken() {
    for object in specs::good() {
        assert_eq!(check(&object).verdict, Verdict::Valid, "{object:#}");
    }
}

#[test]
fn bad_specs_are_refused_by_the_name_of_the_field() {
    let bad = specs::bad();
    assert!(bad.len() >= 60, "only {}", bad.len());
    let mut missed = Vec::new();
    for row in bad {
        match check(&row.object).verdict {
            Verdict::Invalid(findings)
                if findings
                    .iter()
                    .any(|finding| finding.field.starts_with(row.field)) => {}
            verdict => missed.push(format!("{} ({}): {verdict:?}", row.what, row.field)),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The schema of the CRD for this object.
fn schema(object: &Value) -> Value {
    granary::api::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == object["kind"])
        .map(|crd| {
            serde_json::json!(
                crd.spec.versions[0]
                    .schema
                    .as_ref()
                    .and_then(|schema| schema.open_api_v3_schema.clone())
            )
        })
        .expect("there is a CRD")
}

#[test]
fn bad_changes_are_refused_by_the_name_of_the_field() {
    for change in specs::bad_changes() {
        let failures = Validator::new()
            .validate(&schema(&change.before), &change.after, Some(&change.before))
            .expect_err(change.what);
        assert!(
            failures
                .iter()
                .any(|failure| failure.field_path.trim_start_matches('.') == change.field),
            "{}: {failures:?}",
            change.what
        );
    }
}

#[test]
fn good_changes_are_taken() {
    for change in specs::good_changes() {
        let checked =
            Validator::new().validate(&schema(&change.before), &change.after, Some(&change.before));
        assert!(checked.is_ok(), "{}: {checked:?}", change.what);
    }
}

/// Whether a tenant in this phase may go from one state to the other.
fn may_turn(phase: Option<&str>, from: &str, to: &str) -> bool {
    let tenant = |state: &str| {
        let mut tenant = specs::with(specs::tenant(), json!({"spec": {"state": state}}));
        if let Some(phase) = phase {
            tenant["status"] = json!({"phase": phase});
        }
        tenant
    };
    let (before, after) = (tenant(from), tenant(to));
    let checked = Validator::new().validate(&schema(&before), &after, Some(&before));
    if let Err(failures) = &checked {
        assert!(
            failures
                .iter()
                .all(|failure| failure.field_path == ".spec.state"),
            "{failures:?}"
        );
    }
    checked.is_ok()
}

#[test]
fn nobody_comes_back_once_the_shred_has_begun() {
    for phase in ["Shredding", "Shredded"] {
        assert!(!may_turn(Some(phase), "Offboarded", "Active"), "{phase}");
        assert!(!may_turn(Some(phase), "Offboarded", "Suspended"), "{phase}");
        assert!(may_turn(Some(phase), "Offboarded", "Offboarded"), "{phase}");
    }
    for phase in [None, Some("Ready"), Some("Offboarding"), Some("Offboarded")] {
        assert!(may_turn(phase, "Offboarded", "Active"), "{phase:?}");
        assert!(may_turn(phase, "Active", "Offboarded"), "{phase:?}");
    }
}

/// What admission takes, the operator builds: the two sets of rules do not drift apart.
#[test]
fn the_operator_takes_what_admission_takes() {
    use granary::api::{Plan, SiloSettings, Tenant, ValidTenant};
    let settings = SiloSettings {
        base_domain: "granary.localhost".into(),
        external_port: 443,
        gateway_name: "granary".into(),
        gateway_namespace: "granary-system".into(),
        gateway_dataplane_namespace: "traefik".into(),
        plane_namespace: "granary-system".into(),
        postgres_image: "localhost/postgres".into(),
        granary_image: "localhost/granary".into(),
        keyserver_ca: String::new(),
        dns_namespace: "kube-system".into(),
    };
    let (plans, tenants): (Vec<Value>, Vec<Value>) = specs::good()
        .into_iter()
        .partition(|object| object["kind"] == "Plan");
    for (plan, tenant) in plans
        .iter()
        .map(|plan| (plan, &tenants[0]))
        .chain(tenants.iter().map(|tenant| (&plans[0], tenant)))
    {
        let mut plan: Plan = serde_json::from_value(plan.clone()).expect("a plan");
        let mut tenant: Tenant = serde_json::from_value(tenant.clone()).expect("a tenant");
        plan.metadata.name = Some(tenant.spec.plan.clone());
        tenant.metadata.uid = Some("73f76faf-b25e-482b-92c2-82d222f4b1b9".into());
        let valid = ValidTenant::new(&tenant, &plan, &settings);
        assert!(valid.is_ok(), "{valid:?}: {tenant:?} {plan:?}");
    }
}

#[test]
fn every_field_is_explained() {
    for crd in granary::api::crds() {
        let schema = schema(&serde_json::json!({"kind": crd.spec.names.kind}));
        let mut bare = Vec::new();
        specs::without_description(&schema, &crd.spec.names.kind, &mut bare);
        assert_eq!(bare, Vec::<String>::new());
    }
}

#[test]
fn the_chart_reserves_the_same_names() {
    use granary::api::reserved::{RESERVED_NAMES, RESERVED_PREFIXES};
    let values = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/charts/granary/values.yaml"
    ))
    .expect("values.yaml");
    let values: Value = serde_saphyr::from_str(&values).expect("YAML");
    assert_eq!(
        values["admission"]["reservedNames"],
        serde_json::json!(RESERVED_NAMES)
    );
    assert_eq!(
        values["admission"]["reservedPrefixes"],
        serde_json::json!(RESERVED_PREFIXES)
    );
}

#[test]
fn the_chart_explains_every_value() {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/granary");
    let readme = std::fs::read_to_string(format!("{chart}/README.md")).expect("README.md");
    let values = std::fs::read_to_string(format!("{chart}/values.yaml")).expect("values.yaml");
    let values: Value = serde_saphyr::from_str(&values).expect("YAML");
    let mut missing = Vec::new();
    for (name, value) in values.as_object().expect("values") {
        let inner = value.as_object().filter(|_| name != "plans");
        match inner {
            None => missing.extend((!readme.contains(&format!("`{name}`"))).then(|| name.clone())),
            Some(inner) => {
                for (key, value) in inner {
                    let path = format!("{name}.{key}");
                    let deeper = value
                        .as_object()
                        .filter(|_| matches!(name.as_str(), "metrics" | "keys"))
                        .into_iter()
                        .flatten();
                    let paths: Vec<String> =
                        deeper.map(|(key, _)| format!("{path}.{key}")).collect();
                    let paths = if paths.is_empty() { vec![path] } else { paths };
                    missing.extend(
                        paths
                            .into_iter()
                            .filter(|path| !readme.contains(&format!("`{path}`"))),
                    );
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
