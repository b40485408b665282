//! An object as it is applied.

use std::fmt;

use kube::core::ApiResource;
use serde::Serialize;
use serde_json::{Map, Value};

/// An object as it is applied: where it goes and its whole body.
#[derive(Clone, PartialEq)]
pub struct Manifest {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
    /// The body, with `apiVersion` and `kind`, without nulls.
    pub body: Value,
}

impl Manifest {
    /// The manifest of a typed object.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "API types have string keys and finite numbers only, which JSON can hold"
    )]
    pub fn of<K>(object: &K) -> Self
    where
        K: kube::Resource<DynamicType = ()> + Serialize,
    {
        let api = ApiResource::erase::<K>(&());
        let mut body = serde_json::to_value(object).expect("API types serialise to JSON");
        prune_nulls(&mut body);
        if let Value::Object(root) = &mut body {
            root.insert(
                "apiVersion".to_owned(),
                Value::from(api.api_version.clone()),
            );
            root.insert("kind".to_owned(), Value::from(api.kind.clone()));
        }
        Self {
            namespace: object.meta().namespace.clone(),
            name: object.meta().name.clone().unwrap_or_default(),
            api,
            body,
        }
    }
}

/// The body is left out: it may be that of a Secret.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("kind", &self.api.kind)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => prune_fields(fields),
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

fn prune_fields(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    fields.values_mut().for_each(prune_nulls);
}
