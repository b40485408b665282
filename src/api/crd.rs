//! The CRDs, as the chart ships them and `granary crd` prints them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use super::rules::NAME_MAX;
use super::{Plan, PlanCatalog, Tenant};

/// All CRDs. Helm keeps them when the chart is uninstalled, because deleting a CRD deletes every tenant.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Tenant::crd(), Plan::crd(), PlanCatalog::crd()]
        .map(finish)
        .into()
}

/// Adds what the derive cannot say: the annotation, the length of the name, and that a `null` is the same as
/// a field left out (the API server drops it where the schema is not nullable).
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata
        .annotations
        .get_or_insert_default()
        .insert("helm.sh/resource-policy".into(), "keep".into());
    let name = JSONSchemaProps {
        type_: Some("string".into()),
        max_length: i64::try_from(NAME_MAX).ok(),
        ..JSONSchemaProps::default()
    };
    for version in &mut crd.spec.versions {
        if let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            without_nulls(root);
            let metadata = JSONSchemaProps {
                type_: Some("object".into()),
                properties: Some([("name".to_owned(), name.clone())].into()),
                ..JSONSchemaProps::default()
            };
            root.properties
                .get_or_insert_default()
                .insert("metadata".into(), metadata);
        }
    }
    crd
}

fn without_nulls(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        without_nulls(property);
    }
}

/// All CRDs as one YAML stream.
pub fn crds_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut stream = String::from("# Generated from src/api by `granary crd`; do not edit.\n");
    for crd in crds() {
        stream.push_str("---\n");
        stream.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(stream)
}
