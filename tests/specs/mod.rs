//! Tenants and plans, good and bad: what admission and `granary validate` must take and refuse.

mod plans;
mod tenants;

use serde_json::{Value, json};

const DIGEST: &str = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// One change to a good object that makes it bad.
pub struct Bad {
    /// What is tried.
    pub what: &'static str,
    /// The field that the refusal must name.
    pub field: &'static str,
    /// The object as it would be applied.
    pub object: Value,
}

/// A change to an object that is there.
pub struct Change {
    /// What is tried.
    pub what: &'static str,
    /// The field that the refusal must name.
    pub field: &'static str,
    /// What is there.
    pub before: Value,
    /// What it is to become.
    pub after: Value,
}

/// A tenant that uses every field.
pub fn tenant() -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "acme"},
        "spec": {
            "displayName": "Acme Farms Ltd.",
            "plan": "small",
            "environment": "staging",
            "owner": {"email": "ops@acme.example"},
            "app": {"image": format!("registry.example:5000/team/cash-book:1.2@{DIGEST}"), "replicas": 2},
            "domains": ["books.acme.example"],
            "state": "Active",
            "offboarding": {"gracePeriod": "36h"},
            "deletionProtection": false,
        },
    })
}

/// A plan that uses every field.
pub fn plan() -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1",
        "kind": "Plan",
        "metadata": {"name": "wide"},
        "spec": {
            "app": {"image": format!("localhost/app@{DIGEST}"), "replicas": 1, "cpu": "250m", "memory": "64Mi"},
            "database": {"cpu": "500m", "memory": "128Mi", "storage": "2Gi", "storageClassName": "fast.local", "connections": 25},
            "backup": {"schedule": "17 2 * * *", "retentionDays": 30},
            "offboarding": {"gracePeriod": "14d"},
        },
    })
}

/// `base` with `change` merged in; a `null` removes a field.
pub fn with(mut base: Value, change: Value) -> Value {
    merge(&mut base, change);
    base
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, change) => *base = change,
    }
}

/// Objects that must be taken: the positive controls of every row below.
pub fn good() -> Vec<Value> {
    let named = |name: &str| with(tenant(), json!({"metadata": {"name": name}}));
    let spec = |change: Value| with(tenant(), json!({"spec": change}));
    let rotation = |age: &str| with(plan(), json!({"spec": {"keys": {"rotateAfter": age}}}));
    let grace = |period: &str| spec(json!({"offboarding": {"gracePeriod": period}}));
    let schedule = |line: &str| with(plan(), json!({"spec": {"backup": {"schedule": line}}}));
    let image = |name: &str| {
        with(
            tenant(),
            json!({"spec": {"app": {"image": format!("{name}@{DIGEST}")}}}),
        )
    };
    let mut minimal = tenant();
    minimal["spec"] = json!({"plan": "small"});
    let letters = "a".repeat(63);
    vec![
        tenant(),
        plan(),
        minimal,
        named("a"),
        named(&letters),
        named("a-b"),
        named("a1-2-3"),
        named("apis"),
        named("wwww"),
        spec(json!({"displayName": "Bäckerei Łódź & Söhne «№ 1»"})),
        spec(json!({"displayName": "株式会社アクメ"})),
        spec(json!({"displayName": "x".repeat(100)})),
        spec(json!({"displayName": "costs $5 (five)"})),
        spec(json!({"displayName": "key: value # no comment"})),
        spec(json!({"owner": {"email": "a.b+c_d-e@sub.acme.example"}})),
        spec(json!({"domains": ["xn--mller-kva.example", "a.b.c.d.example", "1.example"]})),
        spec(json!({"domains": []})),
        spec(json!({"environment": "development", "state": "Suspended"})),
        spec(json!({"app": {"replicas": 20}})),
        grace("0s"),
        grace("90d"),
        grace("2160h"),
        grace("129600m"),
        grace("999999s"),
        spec(json!({"offboarding": {"gracePeriod": null}})),
        image("localhost/tenant-template"),
        image("a"),
        image("registry.example/a/b/c_d/e.f/g--h:v1.0-rc.1"),
        schedule("* * * * *"),
        schedule("*/15 0-6,22-23 1,15 */3 1-5"),
        schedule("0 23 31 12 7"),
        spec(json!({"keys": {}})),
        spec(json!({"keys": {"notBefore": "2026-11-21T12:00:00Z"}})),
        spec(json!({"keys": {"notBefore": "2026-11-21T13:00:00.5+01:00"}})),
        rotation("1h"),
        rotation("90d"),
        rotation("3650d"),
        rotation("525600m"),
        with(plan(), json!({"spec": {"backup": null}})),
        with(
            plan(),
            json!({"spec": {"backup": {"retentionDays": 3650}, "database": {"connections": 1000}}}),
        ),
        with(
            plan(),
            json!({"spec": {"database": {"storage": "16Ti", "memory": "512Gi", "cpu": "64000m"}}}),
        ),
    ]
}

/// Objects that must be refused when they are made.
pub fn bad() -> Vec<Bad> {
    [
        tenants::names(),
        tenants::tenant_specs(),
        tenants::environments(),
        tenants::texts(),
        tenants::images(),
        tenants::domains(),
        tenants::grace_periods(),
        plans::plans(),
        plans::databases(),
        plans::schedules(),
        plans::shapes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn rows<V>(
    base: fn() -> Value,
    field: &'static str,
    rows: Vec<(&'static str, V)>,
    place: impl Fn(V) -> Value,
) -> Vec<Bad> {
    rows.into_iter()
        .map(|(what, value)| Bad {
            what,
            field,
            object: with(base(), place(value)),
        })
        .collect()
}

/// Changes that must be refused.
pub fn bad_changes() -> Vec<Change> {
    let tenant = |what, field, before: Value, after: Value| Change {
        what,
        field,
        before: with(tenant(), json!({"spec": before})),
        after: with(self::tenant(), json!({"spec": after})),
    };
    let plan = |what, field, before: Value, after: Value| Change {
        what,
        field,
        before: with(plan(), json!({"spec": {"database": before}})),
        after: with(self::plan(), json!({"spec": {"database": after}})),
    };
    vec![
        tenant(
            "from staging to production",
            "spec.environment",
            json!({}),
            json!({"environment": "production"}),
        ),
        tenant(
            "from staging to development",
            "spec.environment",
            json!({}),
            json!({"environment": "development"}),
        ),
        tenant(
            "from production to staging",
            "spec.environment",
            json!({"environment": "production"}),
            json!({"environment": "staging"}),
        ),
        tenant(
            "from staging to the default",
            "spec.environment",
            json!({}),
            json!({"environment": null}),
        ),
        plan(
            "less storage",
            "spec.database.storage",
            json!({}),
            json!({"storage": "1Gi"}),
        ),
        plan(
            "less storage in another unit",
            "spec.database.storage",
            json!({}),
            json!({"storage": "2047Mi"}),
        ),
        plan(
            "another storage class",
            "spec.database.storageClassName",
            json!({}),
            json!({"storageClassName": "slow"}),
        ),
        plan(
            "a storage class taken away",
            "spec.database.storageClassName",
            json!({}),
            json!({"storageClassName": null}),
        ),
        plan(
            "a storage class added",
            "spec.database.storageClassName",
            json!({"storageClassName": null}),
            json!({}),
        ),
    ]
}

/// Changes that must be taken.
pub fn good_changes() -> Vec<Change> {
    let change = |what, before: Value, after: Value| Change {
        what,
        field: "",
        before,
        after,
    };
    vec![
        change(
            "more storage",
            plan(),
            with(plan(), json!({"spec": {"database": {"storage": "3Gi"}}})),
        ),
        change(
            "as much storage in another unit",
            plan(),
            with(plan(), json!({"spec": {"database": {"storage": "2048Mi"}}})),
        ),
        change(
            "suspended",
            tenant(),
            with(tenant(), json!({"spec": {"state": "Suspended"}})),
        ),
        change(
            "everything that may change",
            tenant(),
            with(
                tenant(),
                json!({"spec": {"displayName": null, "owner": null, "app": null, "domains": null, "deletionProtection": true}}),
            ),
        ),
    ]
}

/// The properties of a schema, at any depth, that `kubectl explain` would have nothing to say about.
pub fn without_description(schema: &Value, path: &str, bare: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // Kubernetes explains these itself.
        if ["apiVersion", "kind", "metadata"].contains(&name.as_str())
            && path.matches('.').count() == 1
        {
            continue;
        }
        if property["description"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            bare.push(path.clone());
        }
        without_description(property, &path, bare);
        without_description(&property["items"], &path, bare);
    }
}
