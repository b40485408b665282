//! Bad plans, and objects of the wrong shape.

use serde_json::{Value, json};

use super::{Bad, plan, rows, tenant, with};

pub fn plans() -> Vec<Bad> {
    rows(
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
    )
}

pub fn databases() -> Vec<Bad> {
    let mut bad = Vec::new();
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
        "spec.export.recipient",
        vec![
            (
                "an identity",
                "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
            ),
            ("nobody", "age1"),
            (
                "letters that are none",
                "age1bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            ),
            (
                "an SSH key",
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz",
            ),
        ],
        |recipient| json!({"spec": {"export": {"recipient": recipient}}}),
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
        "spec.keys.rotateAfter",
        vec![
            ("keys for minutes", "59m"),
            ("keys for no time", "0d"),
            ("keys for decades", "3651d"),
            ("an age without a unit", "90"),
            ("an age of two units", "1d12h"),
            ("an age in months", "3M"),
            ("an age in words", "soon"),
            ("a negative age", "-90d"),
        ],
        |age| json!({"spec": {"keys": {"rotateAfter": age}}}),
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

pub fn schedules() -> Vec<Bad> {
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

pub fn shapes() -> Vec<Bad> {
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
