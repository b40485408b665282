//! The pure parts on fixtures: what is due, what comes next, and what is said of it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use super::{
    act::Done,
    due::{Due, due, whole_second},
    job::{Job, Scope},
    look::{Answer, AppKeys, PodSays, Rotation},
    next::{Next, Step, next, rows_left},
    report::{self, key_status},
};
use crate::{
    api::{
        Plan, Tenant,
        keys::{DataKeyPurpose, DataKeyState},
        tenant::KeyStatus,
    },
    keys::Purpose,
    keyserver::wire::{RetireRequest, RotateRequest, TenantKeys},
    registry::data_keys::State,
};

const UID: &str = "4f1c09ab-7d20-4c58-8ccc-000000000001";

fn at(time: &str) -> Timestamp {
    format!("2026-11-{time}Z").parse().unwrap()
}

/// Keys made on the 1st, with these data keys: purpose, version, state and day.
fn keys(data_keys: &[(Purpose, u32, State, &str)]) -> TenantKeys {
    let data_keys: Vec<_> = data_keys
        .iter()
        .map(|(purpose, version, state, day)| {
            let made = at(&format!("{day}T12:00:00.7"));
            let retired = (*state == State::Retired).then_some(made);
            json!({"purpose": purpose, "version": version, "state": state, "createdAt": made, "retiredAt": retired})
        })
        .collect();
    serde_json::from_value(json!({
        "tenant": UID, "name": "acme", "tenantState": "live", "dataKeys": data_keys,
        "key": {"provider": "local", "id": format!("local:{UID}"), "state": "enabled", "version": 1,
                "createdAt": at("01T12:00:00.7")},
    }))
    .unwrap()
}

fn fresh() -> TenantKeys {
    keys(&[
        (Purpose::App, 1, State::Active, "01"),
        (Purpose::Backup, 1, State::Active, "05"),
    ])
}

/// After a rotation of the app's key, before anything is retired.
fn rotated() -> TenantKeys {
    keys(&[
        (Purpose::App, 2, State::Active, "10"),
        (Purpose::App, 1, State::Retiring, "01"),
        (Purpose::Backup, 1, State::Active, "05"),
    ])
}

fn status(keys: &TenantKeys) -> KeyStatus {
    key_status(keys, None).unwrap()
}

fn tenant(not_before: Option<&str>) -> Tenant {
    let mut tenant = crate::api::fixtures::tenant();
    let keys = not_before.map(|time| json!({"notBefore": at(time)}));
    tenant.spec.keys = keys.map(|keys| serde_json::from_value(keys).unwrap());
    tenant
}

fn plan(age: &str) -> Plan {
    let mut plan = crate::api::fixtures::small();
    plan.spec.keys = Some(serde_json::from_value(json!({"rotateAfter": age})).unwrap());
    plan
}

fn far(keys: TenantKeys) -> Rotation {
    Rotation {
        job: None,
        due: None,
        keys,
        pods: Vec::new(),
        backup: None,
        clean_for: Duration::from_mins(1),
    }
}

/// A rotation of the app's key from version 1, with the tenant's own key.
fn job() -> Job {
    Job {
        id: Uuid::nil(),
        started_at: at("10T11:59:59.9"),
        scope: Scope {
            not_before: at("03T00:00:00"),
            by_plan: false,
            from: BTreeMap::from([(Purpose::App, 1)]),
            key_from: Some(1),
        },
    }
}

fn running(keys: TenantKeys, pods: Vec<Answer>) -> Rotation {
    let pods = pods
        .into_iter()
        .enumerate()
        .map(|(number, answer)| PodSays {
            pod: format!("app-{number}"),
            answer,
        });
    Rotation {
        job: Some(job()),
        pods: pods.collect(),
        ..far(keys)
    }
}

fn uses(active: u32, stale: &[(u32, i64)]) -> Answer {
    Answer::Uses(AppKeys {
        active,
        stale: stale.iter().copied().collect(),
        ..AppKeys::default()
    })
}

fn waits(rotation: &Rotation) -> String {
    match next(rotation) {
        Next::Wait(what) => what,
        other => panic!("{other:?}"),
    }
}

fn finishes(rotation: &Rotation) -> Option<String> {
    match next(rotation) {
        Next::Do(Step::Finish { kept, .. }) => kept,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(None, None)]
#[case(Some("01T12:00:00"), None)]
#[case(Some("01T12:00:01"), Some("01T12:00:01"))]
#[case(Some("20T00:00:00"), Some("20T00:00:00"))]
#[case(Some("20T12:00:01"), None)]
fn keys_are_due_once_the_moment_has_come(
    #[case] not_before: Option<&str>,
    #[case] expected: Option<&str>,
) {
    let found = due(
        &status(&fresh()),
        &tenant(not_before),
        None,
        at("20T12:00:00"),
    );
    let expected = expected.map(|time| Due {
        not_before: at(time),
        by_plan: false,
    });
    assert_eq!(found, expected);
}

#[test]
fn a_plan_replaces_all_once_one_is_too_old() {
    let now = at("20T12:00:00.5");
    let key = status(&fresh());
    assert_eq!(due(&key, &tenant(None), Some(&plan("20d")), now), None);
    let by_plan = due(&key, &tenant(None), Some(&plan("19d")), now).unwrap();
    assert!(by_plan.by_plan);
    let scope = Scope::of(&fresh(), by_plan);
    assert_eq!(
        scope.from,
        BTreeMap::from([(Purpose::App, 1), (Purpose::Backup, 1)])
    );
    assert_eq!(scope.key_from, Some(1));
}

#[test]
fn only_what_is_older_is_replaced() {
    let due = Due {
        not_before: at("03T00:00:00"),
        by_plan: false,
    };
    let rotation = Rotation {
        due: Some(due),
        ..far(fresh())
    };
    assert_eq!(next(&rotation), Next::Do(Step::Begin(job().scope)));
    assert_eq!(next(&far(fresh())), Next::Nothing);
    let detail = job().scope.to_detail().unwrap();
    assert_eq!(
        detail,
        json!({"notBefore": "2026-11-03T00:00:00Z", "byPlan": false, "from": {"app": 1}, "keyFrom": 1})
    );
}

#[test]
fn the_steps_follow_each_other() {
    let rotate = RotateRequest {
        purpose: Purpose::App,
        from: 1,
    };
    assert_eq!(
        next(&running(fresh(), Vec::new())),
        Next::Do(Step::Rotate(vec![rotate]))
    );
    let retire = RetireRequest {
        purpose: Purpose::App,
        version: 1,
    };
    assert_eq!(
        next(&running(rotated(), vec![uses(2, &[]), uses(2, &[])])),
        Next::Do(Step::Retire(vec![retire]))
    );
    let retired = keys(&[
        (Purpose::App, 2, State::Active, "10"),
        (Purpose::App, 1, State::Retired, "10"),
        (Purpose::Backup, 1, State::Active, "05"),
    ]);
    assert_eq!(finishes(&running(retired, Vec::new())), None);
}

#[rstest]
#[case(vec![], "when the app runs")]
#[case(vec![uses(2, &[]), Answer::Silent("no connection".to_owned())], "pod app-1 cannot be asked: no connection")]
#[case(vec![uses(2, &[]), Answer::Unknown], "pod app-1 does not tell")]
#[case(vec![uses(2, &[]), uses(1, &[])], "1 of 2 pods write with version 2")]
#[case(vec![uses(2, &[]), uses(2, &[(1, 7)])], "7 rows are left")]
fn an_old_version_stays_while_somebody_may_need_it(
    #[case] pods: Vec<Answer>,
    #[case] expected: &str,
) {
    let said = waits(&running(rotated(), pods));
    assert!(said.contains(expected), "{said}");
}

#[test]
fn an_old_version_stays_until_what_is_being_written_is_there() {
    let mut rotation = running(rotated(), vec![uses(2, &[])]);
    rotation.clean_for = Duration::from_secs(7);
    assert!(waits(&rotation).contains("being written"));
}

#[test]
fn an_app_that_tells_nothing_keeps_its_old_versions() {
    let rotation = running(rotated(), vec![Answer::Unknown, Answer::Unknown]);
    assert!(finishes(&rotation).unwrap().contains("/keyz"));
}

#[test]
fn rows_that_nobody_can_open_keep_their_version_and_hold_up_no_other() {
    let answer = |unreadable| {
        Answer::Uses(AppKeys {
            active: 3,
            stale: BTreeMap::from([(1, 2)]),
            unsealed: 0,
            unreadable,
        })
    };
    let keys = keys(&[
        (Purpose::App, 3, State::Active, "10"),
        (Purpose::App, 2, State::Retiring, "05"),
        (Purpose::App, 1, State::Retiring, "01"),
    ]);
    let unknown_yet = running(keys.clone(), vec![answer(0)]);
    assert!(waits(&unknown_yet).contains("2 rows"));
    let stuck = running(keys, vec![answer(2)]);
    let retire = RetireRequest {
        purpose: Purpose::App,
        version: 2,
    };
    assert_eq!(next(&stuck), Next::Do(Step::Retire(vec![retire])));
    let rest = self::keys(&[
        (Purpose::App, 3, State::Active, "10"),
        (Purpose::App, 1, State::Retiring, "01"),
    ]);
    let kept = finishes(&running(rest, vec![answer(2)])).unwrap();
    assert!(kept.contains("cannot be opened"), "{kept}");
}

#[test]
fn the_backup_key_waits_for_the_databases_pod_if_that_uses_one() {
    let keys = keys(&[
        (Purpose::Backup, 2, State::Active, "10"),
        (Purpose::Backup, 1, State::Retiring, "01"),
    ]);
    let mut rotation = running(keys, Vec::new());
    rotation.backup = Some(1);
    assert!(waits(&rotation).contains("database's pod"));
    let retire = RetireRequest {
        purpose: Purpose::Backup,
        version: 1,
    };
    for has in [None, Some(2)] {
        rotation.backup = has;
        assert_eq!(next(&rotation), Next::Do(Step::Retire(vec![retire])));
    }
}

#[test]
fn the_status_has_what_can_be_read_and_one_retired_version() {
    let keys = keys(&[
        (Purpose::App, 4, State::Active, "10"),
        (Purpose::App, 3, State::Retiring, "09"),
        (Purpose::App, 2, State::Retired, "08"),
        (Purpose::App, 1, State::Retired, "07"),
        (Purpose::Backup, 1, State::Active, "05"),
    ]);
    let status = status(&keys);
    let seen: Vec<_> = status
        .data_keys
        .iter()
        .map(|key| (key.purpose, key.version, key.state))
        .collect();
    assert_eq!(
        seen,
        [
            (DataKeyPurpose::App, 4, DataKeyState::Active),
            (DataKeyPurpose::App, 3, DataKeyState::Retiring),
            (DataKeyPurpose::App, 2, DataKeyState::Retired),
            (DataKeyPurpose::Backup, 1, DataKeyState::Active),
        ]
    );
    assert_eq!(status.rotated_at.0, at("01T12:00:00"));
    assert_eq!(whole_second(at("01T12:00:00.9")), at("01T12:00:00"));
}

#[test]
fn what_is_kept_says_so_until_it_is_retired() {
    let done = |keys: TenantKeys, kept: Option<&str>| Done {
        keys: Some(keys),
        replaced: Some(at("03T00:00:00")),
        kept: kept.map(str::to_owned),
        ..Done::default()
    };
    let key = report::key_after(&done(rotated(), Some("because")), None).unwrap();
    let said = report::kept(&key).unwrap();
    assert!(
        said.contains("version 1") && said.contains("because"),
        "{said}"
    );
    let later = key_status(&rotated(), Some(&key)).unwrap();
    assert_eq!(later, key, "a later look does not forget it");
    let retired = keys(&[
        (Purpose::App, 2, State::Active, "10"),
        (Purpose::App, 1, State::Retired, "10"),
    ]);
    let gone = report::key_after(&done(retired, None), Some(key)).unwrap();
    assert_eq!(report::kept(&gone), None);
}

#[test]
fn progress_counts_what_pods_with_the_new_version_see() {
    let rotation = running(rotated(), vec![uses(1, &[]), uses(2, &[(1, 40)])]);
    assert_eq!(rows_left(&rotation), Some(40));
    assert_eq!(rows_left(&running(rotated(), vec![uses(1, &[])])), None);
    let status = report::rotation_status(&job(), &rotation);
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"purpose": "app", "from": 1, "to": 2, "rowsLeft": 40, "startedAt": "2026-11-10T11:59:59Z"})
    );
}

#[test]
fn an_answer_of_the_reference_app_is_understood() {
    let text =
        r#"{"active": 2, "readable": [1, 2], "stale": {"1": 40}, "unsealed": 1, "unreadable": 3}"#;
    let keys: AppKeys = serde_json::from_str(text).unwrap();
    assert_eq!(keys.stale, BTreeMap::from([(1, 40)]));
    assert_eq!((keys.active, keys.unsealed, keys.unreadable), (2, 1, 3));
    assert!(serde_json::from_str::<AppKeys>("<html>").is_err());
    assert!(serde_json::from_str::<AppKeys>("{}").is_err());
}
