//! Bad tenants.

use serde_json::{Value, json};

use super::{Bad, DIGEST, plan, rows, tenant, with};

pub fn names() -> Vec<Bad> {
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

pub fn environments() -> Vec<Bad> {
    let environments = vec![
        ("an abbreviated environment", json!("prod")),
        ("an environment in upper case", json!("Production")),
        ("an empty environment", json!("")),
        ("an environment with a space", json!("production ")),
        ("an environment with a newline", json!("production\n")),
        ("an environment that looks Latin", json!("pr\u{43e}duction")),
        ("a list of environments", json!(["production"])),
        ("a boolean environment", json!(true)),
    ];
    rows(
        tenant,
        "spec.environment",
        environments,
        |environment| json!({"spec": {"environment": environment}}),
    )
}

pub fn tenant_specs() -> Vec<Bad> {
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
            "spec.keys.notBefore",
            "a day",
            json!({"keys": {"notBefore": "2026-11-21"}}),
        ),
        field(
            "spec.keys.notBefore",
            "a time in words",
            json!({"keys": {"notBefore": "yesterday"}}),
        ),
        field(
            "spec.keys.notBefore",
            "a time without a zone",
            json!({"keys": {"notBefore": "2026-11-21T12:00:00"}}),
        ),
        field(
            "spec.keys.rotateAfter",
            "what is the plan's to say",
            json!({"keys": {"rotateAfter": "90d"}}),
        ),
        field(
            "spec.owner.email",
            "an owner without an address",
            json!({"owner": {"email": null}}),
        ),
    ]
}

pub fn grace_periods() -> Vec<Bad> {
    let periods = vec![
        ("a grace period of 91 days", json!("91d")),
        ("a grace period of 2161 hours", json!("2161h")),
        ("a grace period of 129601 minutes", json!("129601m")),
        ("a grace period of 7776001 seconds", json!("7776001s")),
        ("a grace period without a unit", json!("7")),
        ("a grace period in weeks", json!("1w")),
        ("a grace period in two units", json!("1d12h")),
        ("a grace period before now", json!("-1d")),
        ("a fraction of a day", json!("0.5d")),
        ("a grace period with a space", json!("7 d")),
        ("a grace period with a newline", json!("7d\n")),
        ("an empty grace period", json!("")),
        ("only a unit", json!("d")),
        ("a number of seconds", json!(60)),
        ("for ever", json!("99999999d")),
    ];
    let place = |period| json!({"spec": {"offboarding": {"gracePeriod": period}}});
    let field = "spec.offboarding.gracePeriod";
    let mut bad = rows(tenant, field, periods.clone(), place);
    bad.extend(rows(plan, field, periods, place));
    bad
}

pub fn texts() -> Vec<Bad> {
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

pub fn images() -> Vec<Bad> {
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

pub fn domains() -> Vec<Bad> {
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
