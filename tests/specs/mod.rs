//! Tenants and plans, good and bad: what admission and `granary validate` must take and refuse.

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
        image("localhost/tenant-template"),
        image("a"),
        image("registry.example/a/b/c_d/e.f/g--h:v1.0-rc.1"),
        schedule("* * * * *"),
        schedule("*/15 0-6,22-23 1,15 */3 1-5"),
        schedule("0 23 31 12 7"),
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
        names(),
        tenant_specs(),
        texts(),
        images(),
        domains(),
        plans(),
        schedules(),
        shapes(),
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

fn names() -> Vec<Bad> {
    let long = "a".repeat(64);
    let names = vec![
        ("64 letters", long.as_str()),
        ("upper case", "Acme"),
        ("a digit first", "1acme"),
        ("a dash first", "-acme"),
        ("a dash last", "acme-"),
        ("a dot", "acme.shop"),
        ("an underscore first", "_acme"),
        ("an underscore inside", "ac_me"),
        ("punycode", "xn--acme-9qa"),
        ("another reserved prefix", "ab--acme"),
        ("a Cyrillic letter that looks Latin", "\u{430}cme"),
        ("an accent", "acmé"),
        ("a space", "ac me"),
        ("a newline", "acme\n"),
        ("a path", "../acme"),
        ("a variable", "$(acme)"),
        ("SQL", "a'; drop table"),
        ("a trailing dot", "acme."),
        ("a reserved name, www", "www"),
        ("a reserved name, admin", "admin"),
        ("a reserved name, localhost", "localhost"),
        ("a reserved prefix, kube-", "kube-acme"),
        ("nothing", ""),
    ];
    let mut bad = rows(
        tenant,
        "metadata.name",
        names,
        |name| json!({"metadata": {"name": name}}),
    );
    let names = vec![
        ("a plan with a dot", "a.b"),
        ("a plan with 64 letters", long.as_str()),
    ];
    bad.extend(rows(
        plan,
        "metadata.name",
        names,
        |name| json!({"metadata": {"name": name}}),
    ));
    bad
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn tenant_specs() -> Vec<Bad> {
    let field = |field: &'static str, what: &'static str, change: Value| Bad {
        what,
        field,
        object: with(tenant(), json!({"spec": change})),
    };
    vec![
        field("spec.plan", "no plan", json!({"plan": null})),
        field("spec.plan", "an empty plan", json!({"plan": ""})),
        field(
            "spec.plan",
            "a plan in upper case",
            json!({"plan": "Small"}),
        ),
        field(
            "spec.plan",
            "a plan with a path",
            json!({"plan": "../small"}),
        ),
        field(
            "spec.plan",
            "a plan with a number for a name",
            json!({"plan": 1}),
        ),
        field(
            "spec.environment",
            "an abbreviated environment",
            json!({"environment": "prod"}),
        ),
        field(
            "spec.environment",
            "an environment in upper case",
            json!({"environment": "Production"}),
        ),
        field(
            "spec.environment",
            "an empty environment",
            json!({"environment": ""}),
        ),
        field(
            "spec.environment",
            "an environment with a space",
            json!({"environment": "production "}),
        ),
        field(
            "spec.environment",
            "an environment with a newline",
            json!({"environment": "production\n"}),
        ),
        field(
            "spec.environment",
            "an environment that looks Latin",
            json!({"environment": "pr\u{43e}duction"}),
        ),
        field(
            "spec.environment",
            "a list of environments",
            json!({"environment": ["production"]}),
        ),
        field(
            "spec.environment",
            "a boolean environment",
            json!({"environment": true}),
        ),
        field(
            "spec.state",
            "a state in lower case",
            json!({"state": "active"}),
        ),
        field("spec.state", "an unknown state", json!({"state": "Paused"})),
        field(
            "spec.deletionProtection",
            "a text for a boolean",
            json!({"deletionProtection": "false"}),
        ),
        field(
            "spec.app.replicas",
            "no pods",
            json!({"app": {"replicas": 0}}),
        ),
        field(
            "spec.app.replicas",
            "negative pods",
            json!({"app": {"replicas": -1}}),
        ),
        field(
            "spec.app.replicas",
            "21 pods",
            json!({"app": {"replicas": 21}}),
        ),
        field(
            "spec.app.replicas",
            "half a pod",
            json!({"app": {"replicas": 1.5}}),
        ),
        field(
            "spec.app.replicas",
            "pods as text",
            json!({"app": {"replicas": "2"}}),
        ),
        field(
            "spec.owner.email",
            "an owner without an address",
            json!({"owner": {"email": null}}),
        ),
    ]
}

fn texts() -> Vec<Bad> {
    let long = "x".repeat(101);
    let names = vec![
        ("an empty display name", ""),
        ("a blank display name", "  "),
        ("a display name of 101 letters", long.as_str()),
        ("a newline", "Acme\nFarms"),
        ("a carriage return", "Acme\rFarms"),
        ("a tab", "Acme\tFarms"),
        ("NUL", "Acme\0"),
        ("an escape sequence", "\u{1b}[31mAcme"),
        ("a line separator", "Acme\u{2028}Farms"),
        ("YAML in a second line", "Acme\n  plan: large"),
        ("a variable", "$(PGPASSWORD)"),
        ("an escaped variable", "a $$(PGPASSWORD)"),
        ("text that runs backwards", "Acme \u{202e}dtL"),
        ("a space at the end", "Acme "),
    ];
    let mut bad = rows(
        tenant,
        "spec.displayName",
        names,
        |name| json!({"spec": {"displayName": name}}),
    );
    let long = format!("{}@acme.example", "x".repeat(250));
    let emails = vec![
        ("no address", "ops"),
        ("no domain", "ops@"),
        ("no user", "@acme.example"),
        ("a bare host", "ops@acme"),
        ("two users", "a@b@acme.example"),
        ("a second header", "ops@acme.example\nBcc: all@acme.example"),
        ("a variable", "$(USER)@acme.example"),
        ("a display name", "Ops <ops@acme.example>"),
        ("a letter that looks Latin", "ops@\u{430}cme.example"),
        ("two dots", "a..b@acme.example"),
        ("a list", "a@acme.example,b@acme.example"),
        ("262 letters", long.as_str()),
    ];
    bad.extend(rows(
        tenant,
        "spec.owner.email",
        emails,
        |email| json!({"spec": {"owner": {"email": email}}}),
    ));
    bad
}

fn images() -> Vec<Bad> {
    let images = vec![
        ("a tag", "localhost/app:1".to_owned()),
        ("no version", "localhost/app".to_owned()),
        ("a short digest", "localhost/app@sha256:0f1e2d3c".to_owned()),
        (
            "a digest in upper case",
            format!(
                "localhost/app@{}",
                DIGEST.to_uppercase().replace("SHA", "sha")
            ),
        ),
        (
            "another digest",
            format!("localhost/app@{}", DIGEST.replace("sha256", "sha512")),
        ),
        ("a space", format!("localhost/ app@{DIGEST}")),
        ("a newline", format!("localhost/app@{DIGEST}\n")),
        ("a variable", format!("$(REGISTRY)/app@{DIGEST}")),
        ("a scheme", format!("https://localhost/app@{DIGEST}")),
        ("only a digest", format!("@{DIGEST}")),
        ("a path upwards", format!("localhost/../app@{DIGEST}")),
        ("600 letters", format!("{}@{DIGEST}", "a".repeat(600))),
    ];
    let mut bad = rows(
        tenant,
        "spec.app.image",
        images,
        |image| json!({"spec": {"app": {"image": image}}}),
    );
    bad.extend(rows(
        plan,
        "spec.app.image",
        vec![("a plan's image by tag", "app:latest")],
        |image| json!({"spec": {"app": {"image": image}}}),
    ));
    bad
}

fn domains() -> Vec<Bad> {
    let many: Vec<String> = (0..21).map(|n| format!("d{n}.acme.example")).collect();
    let long = format!("{}.example", ["a".repeat(60).as_str(); 5].join("."));
    rows(
        tenant,
        "spec.domains",
        vec![
            (
                "a domain twice",
                json!(["a.acme.example", "b.acme.example", "a.acme.example"]),
            ),
            ("21 domains", json!(many)),
            ("upper case", json!(["Books.acme.example"])),
            ("a trailing dot", json!(["books.acme.example."])),
            ("a wildcard", json!(["*.acme.example"])),
            ("a bare host", json!(["books"])),
            ("an address", json!(["10.0.0.1"])),
            ("a port", json!(["books.acme.example:443"])),
            ("a URL", json!(["https://books.acme.example"])),
            ("an underscore", json!(["_acme-challenge.acme.example"])),
            (
                "a label of 64 letters",
                json!([format!("{}.example", "a".repeat(64))]),
            ),
            ("312 letters", json!([long])),
            ("a letter that looks Latin", json!(["\u{430}cme.example"])),
            ("a newline", json!(["books.acme.example\n"])),
            ("an empty domain", json!([""])),
            ("a dash first", json!(["-books.acme.example"])),
            ("no list", json!("books.acme.example")),
        ],
        |domains| json!({"spec": {"domains": domains}}),
    )
}

fn plans() -> Vec<Bad> {
    let mut bad = rows(
        plan,
        "spec.app.cpu",
        vec![
            ("negative CPU", "-500m"),
            ("no CPU", "0m"),
            ("half a core", "0.5"),
            ("a core", "1"),
            ("other letters", "500M"),
            ("a space", "500 m"),
            ("too much CPU", "640000m"),
            ("a variable", "$(CPU)"),
        ],
        |cpu| json!({"spec": {"app": {"cpu": cpu}}}),
    );
    bad.extend(rows(
        plan,
        "spec.database.memory",
        vec![
            ("negative memory", "-1Gi"),
            ("memory without a unit", "268435456"),
            ("decimal units", "256M"),
            ("a fraction", "1.5Gi"),
            ("an exponent", "1e9"),
            ("too little memory", "1Mi"),
            ("too much memory", "9999Gi"),
            ("a newline", "256Mi\n"),
        ],
        |memory| json!({"spec": {"database": {"memory": memory}}}),
    ));
    bad.extend(rows(
        plan,
        "spec.database.storage",
        vec![
            ("no storage", "0Gi"),
            ("negative storage", "-5Gi"),
            ("too little storage", "1Mi"),
            ("too much storage", "999Ti"),
            ("words", "plenty"),
        ],
        |storage| json!({"spec": {"database": {"storage": storage}}}),
    ));
    bad.extend(rows(
        plan,
        "spec.database.storage",
        vec![("a number", 5)],
        |storage| json!({"spec": {"database": {"storage": storage}}}),
    ));
    bad.extend(rows(
        plan,
        "spec.database.connections",
        vec![
            ("9 connections", 9),
            ("1001 connections", 1001),
            ("negative connections", -1),
        ],
        |n| json!({"spec": {"database": {"connections": n}}}),
    ));
    bad.extend(rows(
        plan,
        "spec.database.storageClassName",
        vec![
            ("a class with a slash", "a/b"),
            ("a class in upper case", "Fast"),
        ],
        |class| json!({"spec": {"database": {"storageClassName": class}}}),
    ));
    bad.extend(rows(
        plan,
        "spec.app.replicas",
        vec![("no pods", 0), ("21 pods", 21)],
        |n| json!({"spec": {"app": {"replicas": n}}}),
    ));
    bad.push(Bad {
        what: "no database",
        field: "spec.database",
        object: with(plan(), json!({"spec": {"database": null}})),
    });
    bad
}

fn schedules() -> Vec<Bad> {
    let lines = vec![
        ("words", "every night"),
        ("a shorthand", "@daily"),
        ("four fields", "17 2 * *"),
        ("six fields", "0 17 2 * * *"),
        ("minute 60", "60 2 * * *"),
        ("hour 24", "0 24 * * *"),
        ("day 32", "0 2 32 * *"),
        ("day 0", "0 2 0 * *"),
        ("month 13", "0 2 * 13 *"),
        ("weekday 8", "0 2 * * 8"),
        ("a range backwards", "0 5-1 * * *"),
        ("a step of nothing", "*/0 * * * *"),
        ("a second line", "0 2 * * *\nroot rm"),
        ("two spaces", "0  2 * * *"),
        ("a time zone", "TZ=UTC 0 2 * * *"),
    ];
    let mut bad = rows(
        plan,
        "spec.backup.schedule",
        lines,
        |line| json!({"spec": {"backup": {"schedule": line}}}),
    );
    let days = vec![
        ("no days", 0),
        ("negative days", -1),
        ("eleven years", 3651),
    ];
    bad.extend(rows(
        plan,
        "spec.backup.retentionDays",
        days,
        |days| json!({"spec": {"backup": {"retentionDays": days}}}),
    ));
    bad
}

fn shapes() -> Vec<Bad> {
    let change =
        |field: &'static str, what: &'static str, base: fn() -> Value, change: Value| Bad {
            what,
            field,
            object: with(base(), change),
        };
    vec![
        change(
            "spec.plam",
            "a field misspelt",
            tenant,
            json!({"spec": {"plam": "small"}}),
        ),
        change(
            "spec.owner.name",
            "an unknown field inside",
            tenant,
            json!({"spec": {"owner": {"name": "Ops"}}}),
        ),
        change(
            "spec.app.command",
            "a command",
            tenant,
            json!({"spec": {"app": {"command": ["sh"]}}}),
        ),
        change(
            "spec.database.superuser",
            "an unknown field of a plan",
            plan,
            json!({"spec": {"database": {"superuser": true}}}),
        ),
        change(
            "template",
            "an unknown field at the top",
            tenant,
            json!({"template": {}}),
        ),
        change(
            "spec.owner",
            "a text for an object",
            tenant,
            json!({"spec": {"owner": "ops@acme.example"}}),
        ),
        change("spec", "no spec", tenant, json!({"spec": null})),
        change(
            "spec.app",
            "a list for an object",
            tenant,
            json!({"spec": {"app": []}}),
        ),
    ]
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
