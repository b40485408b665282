//! Properties of every pod of a silo.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::fixtures::{small, tenant};
use crate::resources::tests::{acme, build, find, pod_templates};

/// What Pod Security `restricted` and the rules of a silo ask of a pod; the first thing that is missing.
fn missing_in(template: &Value) -> Option<&'static str> {
    let spec = &template["spec"];
    let pod = &spec["securityContext"];
    let containers: Vec<&Value> = ["initContainers", "containers"]
        .iter()
        .filter_map(|list| spec[*list].as_array())
        .flatten()
        .collect();
    let every = |holds: fn(&Value) -> bool| containers.iter().all(|container| holds(container));
    let volumes = spec["volumes"].as_array().unwrap();
    let sources = [
        "secret",
        "configMap",
        "emptyDir",
        "projected",
        "persistentVolumeClaim",
    ];
    let checks = [
        ("runAsNonRoot", pod["runAsNonRoot"] == true),
        (
            "runAsUser",
            pod["runAsUser"] == 10_001 && pod["runAsGroup"] == 10_001,
        ),
        (
            "seccompProfile",
            pod["seccompProfile"]["type"] == "RuntimeDefault",
        ),
        (
            "hosts",
            ["hostNetwork", "hostPID", "hostIPC", "hostUsers"]
                .iter()
                .all(|field| spec[field].is_null()),
        ),
        (
            "init containers",
            spec["initContainers"]
                .as_array()
                .is_none_or(|all| all.iter().all(|one| one["restartPolicy"] == "Always")),
        ),
        (
            "escalation",
            every(|c| c["securityContext"]["allowPrivilegeEscalation"] == false),
        ),
        (
            "capabilities",
            every(|c| c["securityContext"]["capabilities"] == json!({"drop": ["ALL"]})),
        ),
        (
            "root",
            every(|c| c["securityContext"]["readOnlyRootFilesystem"] == true),
        ),
        (
            "digest",
            every(|c| {
                c["image"]
                    .as_str()
                    .is_some_and(|image| image.contains("@sha256:"))
            }),
        ),
        ("token", spec["automountServiceAccountToken"] == false),
        (
            "audience",
            volumes
                .iter()
                .filter_map(|volume| volume["projected"]["sources"].as_array())
                .flatten()
                .all(|source| source["serviceAccountToken"]["audience"] == "granary-keys"),
        ),
        ("service links", spec["enableServiceLinks"] == false),
        (
            "volumes",
            volumes
                .iter()
                .all(|volume| sources.iter().any(|source| !volume[source].is_null())),
        ),
    ];
    checks
        .into_iter()
        .find(|(_, holds)| !holds)
        .map(|(what, _)| what)
}

#[test]
fn every_pod_is_restricted() {
    let objects = acme();
    for template in pod_templates(&objects) {
        assert_eq!(missing_in(template), None);
    }
    let mut loose = pod_templates(&objects)[0].clone();
    loose["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = json!(false);
    assert_eq!(
        missing_in(&loose),
        Some("root"),
        "the check itself sees nothing"
    );
}

/// What the kubelet makes of a value (`k8s.io/kubernetes/third_party/forked/golang/expansion`); counts expansions.
fn expand(value: &str) -> (String, usize) {
    let (mut out, mut expansions, mut rest) = (String::new(), 0, value);
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = match (after.chars().next(), after.find(')')) {
            (Some('$'), _) => {
                out.push('$');
                &after[1..]
            }
            (Some('('), Some(end)) => {
                expansions += 1;
                &after[end + 1..]
            }
            _ => {
                out.push('$');
                after
            }
        };
    }
    (out + rest, expansions)
}

#[test]
fn the_kubelets_expansion_is_understood() {
    assert_eq!(expand("a$(PGHOST)b"), ("ab".to_owned(), 1));
    assert_eq!(expand("$$(PGHOST)"), ("$(PGHOST)".to_owned(), 0));
    assert_eq!(expand("$$$(PGHOST)"), ("$".to_owned(), 1));
    assert_eq!(expand("5$ $"), ("5$ $".to_owned(), 0));
}

proptest! {
    #[test]
    fn texts_reach_the_app_as_they_are(name in "[a-z$()\"'{} :\\\\]{1,30}[a-z]") {
        let mut tenant = tenant();
        tenant.spec.display_name = Some(name.clone());
        let objects = build(&tenant, &small()).1;
        let env = find(&objects, "Deployment", "app").pointer("/spec/template/spec/containers/0/env").unwrap();
        let shown = env.as_array().unwrap().iter().find(|variable| variable["name"] == "GRANARY_DISPLAY_NAME");
        prop_assert_eq!(expand(shown.unwrap()["value"].as_str().unwrap()), (name, 0));
    }
}
