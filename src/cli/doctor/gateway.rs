//! Is the gateway programmed, with every listener?

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::operator::Installation;
use super::report::Check;

const NAME: &str = "gateway";
const GROUP: &str = "gateway.networking.k8s.io";
const DEFAULT_NAME: &str = "granary";

/// Reads the Gateway that tenants' routes hang on, and its class.
pub async fn check(cluster: &Cluster, installation: &Installation, namespace: &str) -> Check {
    let name = installation.gateway.as_deref().unwrap_or(DEFAULT_NAME);
    let namespace = installation
        .gateway_namespace
        .as_deref()
        .unwrap_or(namespace);
    let gateways = resource("Gateway", "gateways");
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), namespace, &gateways);
    let what = format!("cannot read gateway {namespace}/{name}");
    let gateway = match cluster.ask(&what, api.get(name)).await {
        Ok(gateway) => gateway,
        Err(failure) if failure.exit() == Exit::NotFound => {
            return Check::fail(NAME, format!("no gateway {name} in namespace {namespace}"))
                .means("no tenant's page can be reached")
                .next("kubectl get crd gateways.gateway.networking.k8s.io   # is the Gateway API installed?")
                .next("helm upgrade with gateway.create=true, or name yours in gateway.name");
        }
        Err(failure) => return Check::unanswered(NAME, &failure),
    };
    let class = gateway
        .data
        .pointer("/spec/gatewayClassName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let classes: Api<DynamicObject> = Api::all_with(
        cluster.client(),
        &resource("GatewayClass", "gatewayclasses"),
    );
    let what = format!("cannot read gateway class {class}");
    match cluster.ask(&what, classes.get(class)).await {
        Err(failure) if failure.exit() == Exit::NotFound => Check::fail(
            NAME,
            format!("gateway {namespace}/{name} asks for class {class}, which does not exist"),
        )
        .means("no controller takes care of the gateway, so no page can be reached")
        .next("kubectl get gatewayclasses")
        .next("install a Gateway API controller, or name its class in gateway.className"),
        // The Gateway's own conditions tell more than the class.
        Ok(_) | Err(_) => judge(&gateway.data, &format!("{namespace}/{name}"), class),
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", kind), plural)
}

fn judge(gateway: &Value, name: &str, class: &str) -> Check {
    let describe = match name.split_once('/') {
        Some((namespace, name)) => {
            format!("kubectl --namespace {namespace} describe gateway {name}")
        }
        None => format!("kubectl describe gateway {name}"),
    };
    // A Gateway nobody looks at has no conditions; of its listeners not every controller sets all.
    let problem = |pointer: &str, types: &[&str], all: bool| {
        let conditions = list(gateway, pointer);
        types.iter().find_map(|type_| {
            let condition = conditions
                .iter()
                .find(|condition| condition["type"] == **type_);
            match condition {
                Some(condition) if condition["status"] == "True" => None,
                Some(condition) => Some(format!(
                    "{type_} is {}: {}: {}",
                    word(condition, "status"),
                    word(condition, "reason"),
                    word(condition, "message")
                )),
                None => all.then(|| format!("{type_} was never set: no controller looks at it")),
            }
        })
    };
    if let Some(problem) = problem("/status/conditions", &["Accepted", "Programmed"], true) {
        return Check::fail(NAME, format!("gateway {name} (class {class}): {problem}"))
            .means("no tenant's page can be reached")
            .next(describe);
    }
    let listeners = list(gateway, "/status/listeners");
    for (index, listener) in listeners.iter().enumerate() {
        let pointer = format!("/status/listeners/{index}/conditions");
        if let Some(problem) = problem(&pointer, &["Accepted", "ResolvedRefs", "Programmed"], false)
        {
            let listener = word(listener, "name");
            return Check::fail(NAME, format!("listener {listener} of gateway {name}: {problem}"))
                .means("tenants cannot be reached through this listener; for https the certificate is the usual cause")
                .next(describe);
        }
    }
    let names: Vec<&str> = listeners
        .iter()
        .map(|listener| word(listener, "name"))
        .collect();
    let routes: i64 = listeners
        .iter()
        .filter_map(|listener| listener["attachedRoutes"].as_i64())
        .sum();
    Check::ok(
        NAME,
        format!(
            "{name} (class {class}) is programmed: listeners {}, {routes} routes",
            names.join(" and ")
        ),
    )
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    fn conditions(types: &[&str]) -> Value {
        types
            .iter()
            .map(|type_| json!({"type": type_, "status": "True"}))
            .collect()
    }

    fn gateway() -> Value {
        json!({"status": {
            "conditions": conditions(&["Accepted", "Programmed"]),
            "listeners": [
                {"name": "http", "attachedRoutes": 1, "conditions": conditions(&["Accepted", "ResolvedRefs", "Programmed"])},
                {"name": "https", "attachedRoutes": 20, "conditions": conditions(&["Accepted", "ResolvedRefs", "Programmed"])},
            ],
        }})
    }

    #[test]
    fn a_programmed_gateway_is_well() {
        let check = judge(&gateway(), "granary-system/granary", "traefik");
        assert_eq!(check.verdict, Verdict::Ok);
        assert!(
            check.found.contains("http and https, 21 routes"),
            "{}",
            check.found
        );
    }

    #[test]
    fn a_listener_without_its_certificate_fails() {
        let mut gateway = gateway();
        gateway["status"]["listeners"][1]["conditions"][1] = json!({"type": "ResolvedRefs", "status": "False", "reason": "InvalidCertificateRef", "message": "no Secret"});
        let check = judge(&gateway, "granary-system/granary", "traefik");
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(
            check.found.contains("InvalidCertificateRef"),
            "{}",
            check.found
        );
    }

    #[test]
    fn a_gateway_that_nobody_looks_at_fails() {
        let check = judge(&json!({}), "granary-system/granary", "traefik");
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.found.contains("no controller"), "{}", check.found);
    }
}
