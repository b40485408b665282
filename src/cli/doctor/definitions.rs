//! Are the custom resource definitions there, and those of this granary?

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::report::Check;
use crate::api;

const NAME: &str = "definitions";

/// Compares the installed definitions with this program's own.
pub async fn check(cluster: &Cluster) -> Check {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut found = Vec::new();
    for wanted in api::crds() {
        let name = wanted.name_any();
        let what = format!("cannot read definition {name}");
        match cluster.ask(&what, api.get(&name)).await {
            Ok(installed) => found.push((wanted, installed)),
            Err(failure) if failure.exit() == Exit::NotFound => {
                return Check::fail(NAME, format!("{name} is not installed"))
                    .means(format!(
                        "the cluster does not know what a {} is",
                        wanted.spec.names.kind
                    ))
                    .next("helm upgrade --install granary CHART --namespace granary-system --create-namespace");
            }
            Err(failure) => return Check::unanswered(NAME, &failure),
        }
    }
    judge(&found)
}

fn judge(definitions: &[(CustomResourceDefinition, CustomResourceDefinition)]) -> Check {
    for (wanted, installed) in definitions {
        let name = wanted.name_any();
        if !is_established(installed) {
            return Check::fail(NAME, format!("{name} is installed but not established"))
                .means("the API server does not serve it yet, or its names clash with another definition's")
                .next(format!("kubectl describe crd {name}"));
        }
        if let Some(difference) = difference(wanted, installed) {
            return Check::warn(NAME, format!("{name} is another version's: {difference}"))
                .means("this program and the cluster may not agree on what a tenant is")
                .next("upgrade the chart to this program's version, or use the program of the chart's version");
        }
    }
    let names: Vec<String> = definitions
        .iter()
        .map(|(wanted, _)| wanted.name_any())
        .collect();
    Check::ok(
        NAME,
        format!("{} as this granary knows them", names.join(", ")),
    )
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Where the installed definition lacks something of the wanted one. What the API server adds by itself is no difference.
fn difference(
    wanted: &CustomResourceDefinition,
    installed: &CustomResourceDefinition,
) -> Option<String> {
    let (wanted, installed) = (
        serde_json::to_value(&wanted.spec).ok()?,
        serde_json::to_value(&installed.spec).ok()?,
    );
    lacking(&wanted, &installed, "spec")
}

fn lacking(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, wanted)| {
            let path = format!("{path}.{key}");
            match found.get(key) {
                Some(found) => lacking(wanted, found, &path),
                None if is_empty(wanted) => None,
                None => Some(format!("{path} is missing")),
            }
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            if wanted.len() != found.len() {
                return Some(format!(
                    "{path} has {} entries instead of {}",
                    found.len(),
                    wanted.len()
                ));
            }
            wanted
                .iter()
                .zip(found)
                .enumerate()
                .find_map(|(index, (wanted, found))| {
                    lacking(wanted, found, &format!("{path}[{index}]"))
                })
        }
        (wanted, found) if wanted == found => None,
        (wanted, found) => match (wanted.as_f64(), found.as_f64()) {
            // `1` and `1.0` are the same bound of a schema.
            (Some(wanted), Some(found)) if (wanted - found).abs() < f64::EPSILON => None,
            _ => Some(format!("{path} differs")),
        },
    }
}

/// What the API server leaves out when it stores an object.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinitionCondition, CustomResourceDefinitionStatus,
    };

    use super::super::report::Verdict;
    use super::*;

    /// As the API server would show it: established, with defaults filled in.
    fn installed(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
        definition.spec.conversion = Some(
            serde_json::from_value(serde_json::json!({"strategy": "None"})).expect("a conversion"),
        );
        definition.status = Some(CustomResourceDefinitionStatus {
            conditions: Some(vec![CustomResourceDefinitionCondition {
                type_: "Established".to_owned(),
                status: "True".to_owned(),
                ..CustomResourceDefinitionCondition::default()
            }]),
            ..CustomResourceDefinitionStatus::default()
        });
        definition
    }

    fn pairs() -> Vec<(CustomResourceDefinition, CustomResourceDefinition)> {
        api::crds()
            .into_iter()
            .map(|crd| (crd.clone(), installed(crd)))
            .collect()
    }

    #[test]
    fn the_own_definitions_are_recognised() {
        assert_eq!(judge(&pairs()).verdict, Verdict::Ok);
    }

    #[test]
    fn another_versions_definitions_are_not() {
        let mut pairs = pairs();
        let schema = pairs[0].1.spec.versions[0]
            .schema
            .as_mut()
            .expect("a schema");
        let root = schema.open_api_v3_schema.as_mut().expect("a root");
        let properties = root.properties.as_mut().expect("properties");
        properties
            .get_mut("spec")
            .expect("a spec")
            .properties
            .as_mut()
            .expect("fields")
            .remove("plan");
        let check = judge(&pairs);
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(
            check.found.contains("properties.plan is missing"),
            "{}",
            check.found
        );
    }

    #[test]
    fn what_is_not_established_is_not_served() {
        let mut pairs = pairs();
        pairs[1].1.status = None;
        assert_eq!(judge(&pairs).verdict, Verdict::Fail);
    }
}
