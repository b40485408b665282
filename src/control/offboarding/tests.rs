//! An offboarding on paper: what is seen and written down goes in, the next step comes out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Journal, Progress, Standing, Task, Todo,
    next::next,
    progress::{self, Running},
    record, standing, status,
};
use crate::{
    api::{
        ConditionType, OffboardingStep as Step, Phase, Plan, Tenant, TenantStatus, plan::PlanExport,
    },
    control::{
        act::Act,
        execute::{ExecuteError, Executed, Failure},
        kind::Kind,
        observations::{Observations, SiloObjects},
        observe::{Gateway, Observed, Volumes},
        probe::Page,
        storage_classes::Storage,
        tenant_keys::KeysError,
    },
    evidence::{Attempt, DataKey, Key, Outcome, Proof, Removed, SigningKey, Stage},
    keys::TenantUid,
    registry::operations::{self, Operation},
};

const UID: &str = "0f3e1c58-aa00-4bbb-8ccc-000000000001";
const NAMESPACE: &str = "silo-acme-0f3e1c58aa";

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn tenant(spec: Value) -> Tenant {
    let mut spec = spec;
    spec["plan"] = json!("small");
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant",
        "metadata": {"name": "acme", "uid": UID, "generation": 4, "finalizers": ["granary.dev/silo"]},
        "spec": spec,
    }))
    .unwrap()
}

fn leaving() -> Tenant {
    tenant(json!({"state": "Offboarded"}))
}

fn deleted() -> Tenant {
    let mut tenant = leaving();
    tenant.metadata.deletion_timestamp = Some(Time(now()));
    tenant
}

/// The tenant with this phase in its status, on its way out.
fn told(mut tenant: Tenant, phase: &str) -> Tenant {
    tenant.status = serde_json::from_value(json!({
        "phase": phase, "namespace": NAMESPACE,
        "offboarding": {"step": "Announce", "startedAt": "2026-11-21T11:00:00Z"},
    }))
    .unwrap();
    tenant
}

fn plan_with_grace(grace: &str) -> Plan {
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "small"},
        "spec": {
            "app": {"image": "x", "replicas": 1, "cpu": "500m", "memory": "128Mi"},
            "database": {"cpu": "1000m", "memory": "256Mi", "storage": "1Gi", "connections": 50},
            "offboarding": {"gracePeriod": grace},
        },
    }))
    .unwrap()
}

fn seen(tenant: Tenant, progress: Progress) -> Observed {
    Observed {
        tenant: Arc::new(tenant),
        plan: None,
        objects: SiloObjects::new(),
        unavailable: BTreeSet::new(),
        gateway: Gateway::Programmed,
        page: Page::NotTried,
        database: None,
        storage: Storage::default(),
        key: None,
        key_trouble: None,
        announced: None,
        rotation: None,
        progress,
        volumes: Volumes::Unknown,
        now: now(),
    }
}

fn running(journal: Journal) -> Progress {
    Progress::Running(Box::new(Running {
        act: act(),
        journal,
        has_key: true,
    }))
}

/// The offboarding as it was announced.
fn act() -> Act {
    let operation = Operation {
        id: Uuid::nil(),
        tenant: TenantUid(UID.parse().unwrap()),
        kind: operations::Kind::Offboard,
        step: "begun".to_owned(),
        state: operations::State::Running,
        detail: json!({"announced": {"actor": "ada", "action": "tenant-offboarded", "name": "acme"}}),
        started_at: now(),
        updated_at: now(),
        finished_at: None,
    };
    Act::resume(operation).unwrap()
}

/// What is noted once access is cut and pods are gone.
fn resting() -> Journal {
    Journal {
        access_cut: Some(now() - 2.hours()),
        pods_stopped: Some(now() - 1.hour()),
        ..Journal::default()
    }
}

fn with_objects(mut observed: Observed, objects: &[(Kind, &str)]) -> Observed {
    let world = Observations::default();
    for (kind, name) in objects {
        let api = kind.api();
        let namespace = (*kind != Kind::Namespace).then_some(NAMESPACE);
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": api.api_version, "kind": api.kind,
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("uid-of-{name}"), "resourceVersion": "7",
                "labels": {"granary.dev/tenant-uid": UID, "app.kubernetes.io/name": name},
            },
        }))
        .unwrap();
        world.apply(*kind, &object);
    }
    observed.objects = world.silo(UID);
    observed
}

fn todo(step: Step, task: Task) -> Todo {
    Todo { step, task }
}

/// What is deleted next, by kind.
fn deleted_kinds(todo: &Todo) -> Vec<Kind> {
    match &todo.task {
        Task::Delete(deletions) => deletions.iter().map(|deletion| deletion.key.kind).collect(),
        other => panic!("nothing is deleted: {other:?}"),
    }
}

const SILO: [(Kind, &str); 7] = [
    (Kind::Namespace, NAMESPACE),
    (Kind::HttpRoute, "route"),
    (Kind::Deployment, "deployment"),
    (Kind::StatefulSet, "database-set"),
    (Kind::Job, "migrate-1"),
    (Kind::Pod, "app"),
    (Kind::Secret, "ca"),
];

#[test]
fn it_is_in_the_status_before_it_is_in_the_registry() {
    let first = next(&seen(leaving(), Progress::NotBegun));
    assert_eq!(first, todo(Step::Announce, Task::Wait));
    let then = next(&seen(told(leaving(), "Offboarding"), Progress::NotBegun));
    assert_eq!(then, todo(Step::Announce, Task::Announce));
    // Nobody takes a deletion back.
    let at_once = next(&seen(deleted(), Progress::NotBegun));
    assert_eq!(at_once, todo(Step::Announce, Task::Announce));
    // A status out of a backup of another tenant tells nothing.
    let mut copied = told(leaving(), "Offboarding");
    copied.status.as_mut().unwrap().namespace = Some("silo-acme-90b2a5c311".to_owned());
    assert_eq!(
        next(&seen(copied, Progress::NotBegun)),
        todo(Step::Announce, Task::Wait)
    );
}

#[test]
fn access_goes_first_then_what_runs() {
    let begun = || seen(told(leaving(), "Offboarding"), running(Journal::default()));
    let first = next(&with_objects(begun(), &SILO));
    assert_eq!(first.step, Step::CutAccess);
    assert_eq!(deleted_kinds(&first), [Kind::HttpRoute, Kind::Deployment]);
    let pods_left = next(&with_objects(
        begun(),
        &[(Kind::Namespace, NAMESPACE), (Kind::Pod, "app")],
    ));
    assert_eq!(pods_left, todo(Step::CutAccess, Task::Wait));
    let database_left = next(&with_objects(begun(), &[(Kind::Pod, "database")]));
    assert_eq!(
        database_left,
        todo(Step::CutAccess, Task::Finish(&super::next::ACCESS))
    );
    let cut = Journal {
        access_cut: Some(now()),
        ..Journal::default()
    };
    let cut = || seen(told(leaving(), "Offboarding"), running(cut.clone()));
    let second = next(&with_objects(cut(), &SILO));
    assert_eq!(second.step, Step::StopPods);
    assert_eq!(deleted_kinds(&second), [Kind::Job, Kind::StatefulSet]);
    let still = next(&with_objects(cut(), &[(Kind::Pod, "database")]));
    assert_eq!(still, todo(Step::StopPods, Task::Wait));
    assert_eq!(
        next(&cut()),
        todo(Step::StopPods, Task::Finish(&super::next::PODS))
    );
}

#[test]
fn an_export_is_made_when_nobody_reaches_the_data_and_the_database_runs() {
    let recipient = format!("age1{}", "q".repeat(58));
    let mut plan = plan_with_grace("7d");
    plan.spec.export = Some(PlanExport {
        recipient: recipient.clone(),
    });
    let with_volume = [
        (Kind::PersistentVolumeClaim, "data-database-0"),
        (Kind::StatefulSet, "database-set"),
    ];
    let at = |journal: Journal, objects: &[(Kind, &str)]| {
        let mut observed = seen(told(leaving(), "Offboarding"), running(journal));
        observed.plan = Some(Arc::new(plan.clone()));
        next(&with_objects(observed, objects)).step
    };
    let cut = Journal {
        access_cut: Some(now()),
        ..Journal::default()
    };
    assert_eq!(at(Journal::default(), &SILO), Step::CutAccess);
    assert_eq!(at(cut.clone(), &with_volume), Step::Export);
    let exported = Journal {
        exported: Some(now()),
        ..cut.clone()
    };
    assert_eq!(at(exported, &with_volume), Step::StopPods);
    // A tenant that never got that far has nothing to export.
    assert_eq!(
        at(cut, &[(Kind::StatefulSet, "database-set")]),
        Step::StopPods
    );
}

#[rstest]
#[case::usual(None, None, None, 7 * 24)]
#[case::of_the_plan(None, Some("36h"), None, 36)]
#[case::noted_at_the_begin(None, Some("0s"), Some(48 * 3600), 48)]
#[case::own(Some("90d"), Some("36h"), Some(3600), 90 * 24)]
#[case::own_and_none(Some("0s"), Some("36h"), Some(3600), 0)]
#[case::nonsense_is_passed_over(Some("soon"), Some("36h"), None, 36)]
fn the_grace_period_is_the_tenants_or_the_plans_as_it_was(
    #[case] own: Option<&str>,
    #[case] plan: Option<&str>,
    #[case] noted: Option<u64>,
    #[case] hours: u64,
) {
    let mut spec = json!({"state": "Offboarded"});
    if let Some(own) = own {
        spec["offboarding"] = json!({"gracePeriod": own});
    }
    let journal = Journal {
        grace_seconds: noted,
        ..resting()
    };
    let mut observed = seen(tenant(spec), running(journal));
    observed.plan = plan.map(|grace| Arc::new(plan_with_grace(grace)));
    assert_eq!(progress::grace(&observed), Duration::from_hours(hours));
}

#[test]
fn nothing_is_destroyed_before_the_grace_period_is_over_and_the_status_says_so() {
    let mut observed = seen(told(leaving(), "Offboarded"), running(resting()));
    let end = now() - 2.hours() + (7 * 24).hours();
    assert_eq!(progress::grace_ends(&observed), Some(end));
    assert_eq!(next(&observed), todo(Step::Grace, Task::Wait));
    observed.now = end - 1.second();
    assert_eq!(next(&observed), todo(Step::Grace, Task::Wait));
    observed.now = end;
    assert_eq!(next(&observed), todo(Step::BeginShred, Task::Wait));
    observed.tenant = Arc::new(told(leaving(), "Shredding"));
    assert_eq!(next(&observed), todo(Step::BeginShred, Task::BeginShred));
    // Who deletes the resource waits for nothing.
    let observed = seen(deleted(), running(resting()));
    assert_eq!(next(&observed), todo(Step::BeginShred, Task::BeginShred));
}

/// Everything that is noted on the way, each entry at its step.
fn noting(journal: &mut Journal, step: Step) {
    let at = Some(now());
    match step {
        Step::BeginShred => journal.shred_begun = at,
        Step::DisableKey => journal.keys_disabled = at,
        Step::Prove => journal.proved = at,
        Step::Count => journal.removed = Some(Removed::default()),
        Step::DeleteData => journal.volumes_deleted = at,
        Step::ScheduleDestruction => journal.deletion_scheduled = at,
        Step::ProveAgain => journal.proved_again = at,
        other => panic!("{other:?} is not noted"),
    }
}

/// The steps of the shred, in the order in which they come.
fn shred(has_key: bool) -> Vec<Step> {
    let mut journal = resting();
    journal.shred_begun = Some(now());
    let mut steps = Vec::new();
    loop {
        let mut observed = seen(told(leaving(), "Shredding"), running(journal.clone()));
        if let Progress::Running(running) = &mut observed.progress {
            running.has_key = has_key;
        }
        observed.volumes = Volumes::Left(Vec::new());
        let todo = next(&observed);
        assert_ne!(todo.task, Task::Wait, "{:?}", todo.step);
        steps.push(todo.step);
        if todo.step == Step::Record {
            return steps;
        }
        noting(&mut journal, todo.step);
    }
}

#[test]
fn the_key_refuses_before_anything_is_deleted_and_is_tried_again_at_the_end() {
    assert_eq!(
        shred(true),
        [
            Step::DisableKey,
            Step::Prove,
            Step::Count,
            Step::DeleteData,
            Step::ScheduleDestruction,
            Step::ProveAgain,
            Step::Record,
        ]
    );
    assert_eq!(
        shred(false),
        [Step::Count, Step::DeleteData, Step::Record],
        "who never had a key"
    );
}

#[test]
fn data_is_gone_when_namespace_and_volumes_are() {
    let mut journal = resting();
    for step in [Step::BeginShred, Step::DisableKey, Step::Prove, Step::Count] {
        noting(&mut journal, step);
    }
    let observed = || seen(told(leaving(), "Shredding"), running(journal.clone()));
    let first = next(&with_objects(observed(), &SILO));
    assert_eq!(deleted_kinds(&first), [Kind::Namespace]);
    let unknown = next(&observed());
    assert_eq!(
        unknown,
        todo(Step::DeleteData, Task::Wait),
        "not looked for"
    );
    let mut left = observed();
    left.volumes = Volumes::Left(vec!["pv-1".to_owned()]);
    assert_eq!(next(&left), todo(Step::DeleteData, Task::Wait));
    let told = status::assess(&left, &next(&left), &Executed::default());
    assert_eq!(told.conditions[0].reason, "VolumeLeft");
    assert!(told.conditions[0].message.contains("pv-1"));
    left.volumes = Volumes::Left(Vec::new());
    assert_eq!(next(&left), todo(Step::DeleteData, Task::Finish(&[])));
}

#[test]
fn a_tombstone_rests_until_its_resource_is_deleted() {
    let over = || Progress::Over(Box::default());
    let rests = next(&seen(told(leaving(), "Shredded"), over()));
    assert_eq!(rests, todo(Step::Shredded, Task::Wait));
    let goes = next(&seen(deleted(), over()));
    assert_eq!(goes, todo(Step::Shredded, Task::Release));
    let again = next(&with_objects(seen(deleted(), over()), &SILO));
    assert_eq!(deleted_kinds(&again), [Kind::Namespace]);
}

#[test]
fn a_registry_that_is_away_is_waited_for_and_said_so() {
    let unknown = Progress::Unknown("RegistryUnavailable".to_owned(), "no answer".to_owned());
    let observed = seen(told(leaving(), "Offboarded"), unknown);
    let todo = next(&observed);
    assert!(matches!(todo.task, Task::Blocked(..)), "{todo:?}");
    let failure = Failure {
        condition: ConditionType::Ready,
        object: "x".to_owned(),
        error: ExecuteError::Waits {
            reason: "RegistryUnavailable".to_owned(),
            message: "no answer".to_owned(),
        },
    };
    let executed = Executed {
        failures: vec![failure],
        ..Executed::default()
    };
    let told = status::assess(&observed, &todo, &executed);
    assert_eq!(told.phase, Phase::Offboarded, "as it was");
    assert_eq!(told.conditions[0].reason, "RegistryUnavailable");
}

#[test]
fn a_step_that_fails_is_never_told_as_done() {
    let mut journal = resting();
    journal.shred_begun = Some(now());
    let observed = seen(told(leaving(), "Shredding"), running(journal));
    let executed = Executed {
        failures: vec![Failure {
            condition: ConditionType::Ready,
            object: "DisableKey".to_owned(),
            error: KeysError::NotConnected.into(),
        }],
        ..Executed::default()
    };
    let told = status::assess(&observed, &next(&observed), &executed);
    assert_eq!(told.phase, Phase::Shredding);
    let offboarding = told.offboarding.unwrap();
    assert_eq!(
        (offboarding.step, offboarding.shredded_at),
        (Step::DisableKey, None)
    );
    assert_eq!(told.conditions[0].reason, "RegistryUnavailable");
}

#[test]
fn who_is_wanted_again_comes_back_until_the_shred_begins() {
    let wanted = |progress| standing(&seen(told(tenant(json!({})), "Offboarded"), progress));
    assert_eq!(wanted(running(resting())), Standing::ComesBack);
    assert_eq!(wanted(Progress::NotBegun), Standing::ComesBack);
    let begun = Journal {
        shred_begun: Some(now()),
        ..resting()
    };
    assert_eq!(wanted(running(begun)), Standing::Lost(Some(now())));
    assert_eq!(wanted(Progress::Over(Box::default())), Standing::Lost(None));
    let unknown = Progress::Unknown(String::new(), String::new());
    assert_eq!(wanted(unknown), Standing::Leaves, "nothing is built");
    assert_eq!(
        standing(&seen(tenant(json!({})), Progress::NotAsked)),
        Standing::Stays
    );
    assert_eq!(
        standing(&seen(leaving(), Progress::NotAsked)),
        Standing::Leaves
    );
}

#[test]
fn only_who_is_on_the_way_out_costs_a_call() {
    assert!(!progress::concerns(&tenant(json!({}))));
    assert!(!progress::concerns(&tenant(json!({"state": "Suspended"}))));
    assert!(progress::concerns(&leaving()));
    assert!(progress::concerns(&told(tenant(json!({})), "Offboarded")));
    assert!(progress::concerns(&deleted()));
}

#[test]
fn the_status_says_how_far_it_is_and_until_when_it_can_come_back() {
    let observed = seen(told(leaving(), "Offboarding"), running(resting()));
    let told: TenantStatus = status::assess(&observed, &next(&observed), &Executed::default());
    assert_eq!(told.phase, Phase::Offboarded);
    assert_eq!(told.observed_generation, Some(4));
    let ready = &told.conditions[0];
    assert!(
        ready.message.contains("granary reinstate acme"),
        "{}",
        ready.message
    );
    assert!(
        ready.message.contains("2026-11-28T10:00:00Z"),
        "{}",
        ready.message
    );
    insta::assert_json_snapshot!(told.offboarding, @r#"
    {
      "step": "Grace",
      "startedAt": "2026-11-21T11:00:00Z",
      "accessCutAt": "2026-11-21T10:00:00Z",
      "graceEndsAt": "2026-11-28T10:00:00Z"
    }
    "#);
}

#[test]
fn times_never_run_backwards_however_clocks_do() {
    let journal = resting();
    assert_eq!(journal.moment(now()), now());
    assert_eq!(journal.moment(now() - 9.hours()), now() - 1.hour());
}

/// A journal of an offboarding that is done.
fn complete() -> Journal {
    let at = |minute: i64| Some(now() + minute.minutes());
    let proof = |minute: i64| Proof {
        tried: Attempt::Unwrap,
        data_key: Some(DataKey {
            purpose: "app".to_owned(),
            version: 1,
        }),
        outcome: Outcome::Refused,
        answer: "the key is disabled".to_owned(),
        at: now() + minute.minutes(),
    };
    Journal {
        access_cut: at(0),
        pods_stopped: at(1),
        shred_begun: at(2),
        key: Some(Key {
            provider: "local".to_owned(),
            id: format!("local:{UID}"),
        }),
        keys_disabled: at(3),
        proofs: vec![proof(4), proof(8)],
        proved: at(4),
        removed: Some(Removed {
            objects: 31,
            volumes: 1,
            bytes: 1 << 30,
        }),
        volumes_deleted: at(5),
        deletion_scheduled: at(6),
        destruction_due: at(7 * 24 * 60 + 6),
        proved_again: at(8),
        shredded: at(9),
        ..Journal::default()
    }
}

fn identity() -> crate::evidence::Tenant {
    crate::evidence::Tenant {
        name: "acme".to_owned(),
        uid: UID.parse().unwrap(),
        namespace: NAMESPACE.to_owned(),
    }
}

#[test]
fn both_records_of_a_complete_journal_are_possible_and_signed() {
    let key = SigningKey::generate().unwrap();
    let journal = complete();
    let week = now() + (8 * 24).hours();
    for (destroyed, at, stage) in [
        (None, now() + 9.minutes(), Stage::Shredded),
        (Some(week), week, Stage::Destroyed),
    ] {
        let record = record::record(identity(), &journal, destroyed, at);
        assert_eq!(record.stage, stage);
        let envelope = record::sign(record, &key).unwrap().to_string();
        let public = [key.public().clone()];
        let verified = crate::evidence::verify(envelope.as_bytes(), &public).unwrap();
        assert_eq!(verified.statement.record().stage, stage);
    }
}

#[rstest]
#[case::not_proven(|journal: &mut Journal| { journal.proofs.remove(0); })]
#[case::not_proven_again(|journal: &mut Journal| { journal.proofs.remove(1); })]
#[case::not_deleted(|journal: &mut Journal| journal.volumes_deleted = None)]
#[case::not_scheduled(|journal: &mut Journal| journal.deletion_scheduled = None)]
fn a_half_shred_is_not_signed(#[case] forget: fn(&mut Journal)) {
    let key = SigningKey::generate().unwrap();
    let mut journal = complete();
    forget(&mut journal);
    let record = record::record(identity(), &journal, None, now() + 9.minutes());
    assert!(record::sign(record, &key).is_err());
}

#[test]
fn notes_leave_the_announcement_as_it_was() {
    let noted = act().noting(serde_json::to_value(complete()).unwrap());
    let detail = noted.detail();
    assert_eq!(detail["announced"]["actor"], "ada");
    assert_eq!(
        serde_json::from_value::<Journal>(detail.clone()).unwrap(),
        complete()
    );
    let again = Act::resume(noted.operation().clone()).unwrap();
    assert_eq!(
        again,
        act().noting(serde_json::to_value(complete()).unwrap())
    );
}

#[test]
fn a_journal_survives_the_registry_and_one_of_an_earlier_version_is_read() {
    let journal = complete();
    let stored = serde_json::to_value(&journal).unwrap();
    assert_eq!(serde_json::from_value::<Journal>(stored).unwrap(), journal);
    assert_eq!(
        serde_json::from_value::<Journal>(json!({})).unwrap(),
        Journal::default()
    );
}
