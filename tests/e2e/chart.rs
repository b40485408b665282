//! The chart: linted, rendered, and taken by the API server as it is.

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope};

use crate::support::{PLANE, client, helm};

const VALUES: &[&str] = &["charts/granary", "-f", "charts/granary/ci/values.yaml"];

#[test]
fn the_chart_is_well_formed() {
    helm(&[&["lint", "--strict"], VALUES].concat());
}

#[tokio::test]
async fn the_api_server_takes_what_the_chart_renders() {
    let client = client().await;
    let discovery = Discovery::new(client.clone())
        .run()
        .await
        .expect("the API server lists its kinds");
    let rendered = helm(
        &[
            &["template", "granary", "--skip-tests", "--namespace", PLANE],
            VALUES,
        ]
        .concat(),
    );
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(&rendered).expect("YAML");
    assert!(objects.len() > 20, "only {}", objects.len());
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply("e2e").force().validation_strict()
    };
    for object in objects {
        let types = object.types.clone().expect("a kind");
        let name = object.metadata.name.clone().expect("a name");
        let kind = GroupVersionKind::try_from(&types).expect("a group, version and kind");
        let (resource, capabilities) = discovery
            .resolve_gvk(&kind)
            .unwrap_or_else(|| panic!("no such kind: {types:?}"));
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), PLANE, &resource),
        };
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        assert!(applied.is_ok(), "{} {name}: {applied:?}", types.kind);
    }
}

#[tokio::test]
async fn the_operator_has_no_right_it_could_grow_from() {
    let client = client().await;
    let everywhere: Api<ClusterRole> = Api::all(client.clone());
    let here: Api<Role> = Api::namespaced(client, PLANE);
    let mut rules = everywhere
        .get("granary-operator")
        .await
        .expect("the role")
        .rules
        .expect("rules");
    rules.extend(
        here.get("granary-operator")
            .await
            .expect("the role")
            .rules
            .expect("rules"),
    );
    for rule in rules {
        let said: Vec<String> = [
            rule.api_groups,
            rule.resources,
            rule.resource_names,
            Some(rule.verbs),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
        for word in [
            "*",
            "escalate",
            "bind",
            "impersonate",
            "deletecollection",
            "roles",
            "clusterroles",
            "rolebindings",
            "clusterrolebindings",
            "pods/exec",
            "pods/attach",
            "serviceaccounts/token",
        ] {
            assert!(
                !said.iter().any(|found| found == word),
                "{word} in {said:?}"
            );
        }
    }
}
