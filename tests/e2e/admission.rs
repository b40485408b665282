//! What the API server refuses, with the field named and nothing written.

use granary::api::{PLAN_CATALOG, Plan, PlanCatalog, Tenant};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, ListParams};
use kube::core::Status;
use serde_json::{Value, json};

use crate::plane::shared;
use crate::specs::{self, with};
use crate::support::{
    PLANE, apply, cleaning_up, client, collection, leftovers, marked, named, request, unique,
    wait_for,
};

/// Makes the object as most clients do. The answer to a name that is taken says that nothing else was wrong.
async fn create(client: &kube::Client, object: &Value, options: &str) -> Result<(), Box<Status>> {
    match request(
        client,
        "POST",
        &format!("{}?fieldManager=e2e{options}", collection(object)),
        object,
    )
    .await
    {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}

/// A tenant whose silo has no pods, so that a test of admission costs little.
fn quiet() -> Value {
    with(
        specs::tenant(),
        json!({"spec": {"state": "Suspended", "app": null}}),
    )
}

#[tokio::test]
async fn good_specs_are_taken() {
    let client = client().await;
    for object in specs::good() {
        let created = create(&client, &object, "&dryRun=All&fieldValidation=Strict").await;
        assert!(created.is_ok(), "{created:?}: {object:#}");
    }
}

#[tokio::test]
async fn bad_specs_are_refused_and_nothing_is_written() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("bad");
    cleaning_up(&client, &test, async {
        let mut missed = Vec::new();
        for row in specs::bad() {
            let mut object = marked(row.object, &test);
            if row.field != "metadata.name" {
                object = named(object, &unique("bad"));
            }
            match create(&client, &object, "&fieldValidation=Strict").await {
                Err(status) if status.message.contains(row.field) => {}
                other => missed.push(format!("{} ({}): {other:?}", row.what, row.field)),
            }
        }
        assert!(missed.is_empty(), "{missed:#?}");
        assert_eq!(
            leftovers(&client, &test).await,
            Vec::<String>::new(),
            "something was written"
        );
    })
    .await;
}

#[tokio::test]
async fn bad_changes_are_refused_and_good_ones_taken() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("change");
    cleaning_up(&client, &test, async {
        let bad = specs::bad_changes()
            .into_iter()
            .map(|change| (change, true));
        for (change, refused) in bad.chain(
            specs::good_changes()
                .into_iter()
                .map(|change| (change, false)),
        ) {
            let name = unique("change");
            let quiet = |object: Value| {
                let object = marked(named(object, &name), &test);
                if object["kind"] == "Tenant" {
                    with(object, json!({"spec": {"state": "Suspended"}}))
                } else {
                    object
                }
            };
            apply(&client, &quiet(change.before), "")
                .await
                .expect(change.what);
            match apply(&client, &quiet(change.after), "&dryRun=All").await {
                Err(status) if refused && status.message.contains(change.field) => {}
                Ok(_) if !refused => {}
                other => panic!("{} ({}): {other:?}", change.what, change.field),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_refused_or_dropped_with_a_warning() {
    let client = client().await;
    let object = with(
        named(quiet(), &unique("unknown")),
        json!({"spec": {"plam": "small"}}),
    );
    let strict = create(&client, &object, "&dryRun=All&fieldValidation=Strict")
        .await
        .expect_err("strict");
    assert!(
        strict.message.contains("unknown field \"spec.plam\""),
        "{strict:?}"
    );
    let applied = apply(&client, &object, "&dryRun=All")
        .await
        .expect_err("server-side apply");
    assert!(applied.message.contains("spec.plam"), "{applied:?}");
    // A client that asks for no check gets none: the API server drops the field and says so in a header only.
    let path = format!("{}?dryRun=All", collection(&object));
    let dropped = request(&client, "POST", &path, &object)
        .await
        .expect("taken");
    assert_eq!(dropped["spec"]["plam"], Value::Null);
}

#[tokio::test]
async fn the_plan_must_exist_and_stays_while_it_is_used() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("plan");
    cleaning_up(&client, &test, async {
        let (plan, tenant) = (unique("plan"), unique("plan"));
        let object = marked(
            named(with(quiet(), json!({"spec": {"plan": plan}})), &tenant),
            &test,
        );
        let refused = apply(&client, &object, "").await.expect_err("no such plan");
        assert!(
            refused
                .message
                .contains(&format!("spec.plan: there is no Plan \"{plan}\"")),
            "{refused:?}"
        );

        let wide = with(
            marked(named(specs::plan(), &plan), &test),
            json!({"spec": {"database": {"storageClassName": null}}}),
        );
        apply(&client, &wide, "").await.expect("the plan is good");
        let catalogs: Api<PlanCatalog> = Api::all(client.clone());
        let known = plan.clone();
        let listed = move |catalog: Option<&PlanCatalog>| {
            catalog.is_some_and(|catalog| catalog.spec.plans.contains(&known))
        };
        wait_for(catalogs, PLAN_CATALOG, "lists the plan", listed).await;
        let taken = eventually_applied(&client, &object).await;
        assert_eq!(taken["spec"]["plan"], json!(plan));

        let plans: Api<Plan> = Api::all(client.clone());
        let refused = plans
            .delete(&plan, &DeleteParams::default())
            .await
            .expect_err("the plan is used")
            .to_string();
        assert!(
            refused.contains(&tenant) && refused.contains("spec.plan"),
            "{refused}"
        );
        let moved = with(object, json!({"spec": {"plan": "small"}}));
        apply(&client, &moved, "").await.expect("the tenant moves");
        wait_for(
            Api::<Tenant>::all(client.clone()),
            &tenant,
            "moves",
            |tenant: Option<&Tenant>| tenant.is_some_and(|tenant| tenant.spec.plan == "small"),
        )
        .await;
        eventually_deleted(&plans, &plan).await;
    })
    .await;
}

/// Applies once the API server's own watch has seen the catalogue, moments after ours has.
async fn eventually_applied(client: &kube::Client, object: &Value) -> Value {
    let attempts = async {
        loop {
            match apply(client, object, "").await {
                Ok(object) => return object,
                Err(status) => assert!(status.message.contains("spec.plan"), "{status:?}"),
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), attempts)
        .await
        .expect("the plan is known within moments")
}

/// Deletes once the API server's own watch has seen that no tenant uses the plan.
async fn eventually_deleted(plans: &Api<Plan>, plan: &str) {
    let attempts = async { while plans.delete(plan, &DeleteParams::default()).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), attempts)
        .await
        .expect("a plan nobody uses can be deleted");
}

#[tokio::test]
async fn domains_under_the_base_domain_are_refused() {
    let client = client().await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), PLANE);
    let operator = json!(
        deployments
            .get("granary-operator")
            .await
            .expect("the operator")
    );
    let settings = operator["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .expect("settings")
        .clone();
    let base = settings
        .iter()
        .find(|setting| setting["name"] == "GRANARY_BASE_DOMAIN")
        .expect("a base domain")["value"]
        .clone();
    let base = base.as_str().expect("text");
    for domain in [
        base.to_owned(),
        format!("other.{base}"),
        format!("a.b.{base}"),
    ] {
        let object = with(
            named(quiet(), &unique("domain")),
            json!({"spec": {"domains": ["ok.example", domain]}}),
        );
        let refused = create(&client, &object, "&dryRun=All")
            .await
            .expect_err(&domain);
        assert!(
            refused.message.contains("spec.domains") && refused.message.contains(&domain),
            "{refused:?}"
        );
    }
    let object = with(
        named(quiet(), &unique("domain")),
        json!({"spec": {"domains": [format!("not{base}.example")]}}),
    );
    create(&client, &object, "&dryRun=All")
        .await
        .expect("a domain elsewhere");
}

#[tokio::test]
async fn an_active_protected_tenant_is_not_deleted() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("protected");
    cleaning_up(&client, &test, async {
        let name = unique("protected");
        let spec = |state: &str, protected: bool| json!({"spec": {"state": state, "deletionProtection": protected}});
        let object = marked(named(quiet(), &name), &test);
        apply(&client, &with(object.clone(), spec("Active", true)), "").await.expect("a tenant");
        let tenants: Api<Tenant> = Api::all(client.clone());
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };

        let refused = tenants.delete(&name, &DeleteParams::default()).await.expect_err("protected").to_string();
        assert!(refused.contains(&format!("granary offboard {name}")), "{refused}");
        let all = ListParams::default().labels(&format!("granary.dev/test={test}"));
        tenants.delete_collection(&DeleteParams::default(), &all).await.expect_err("protected from a sweep, too");
        let kept = tenants.get(&name).await.expect("it is still there");
        assert_eq!(kept.metadata.deletion_timestamp, None);

        for (state, protected) in [("Active", false), ("Offboarded", true), ("Suspended", true)] {
            apply(&client, &with(object.clone(), spec(state, protected)), "").await.expect(state);
            tenants.delete(&name, &dry).await.unwrap_or_else(|error| panic!("{state} {protected}: {error}"));
        }
    })
    .await;
}

#[tokio::test]
async fn the_api_server_finds_nothing_wrong_with_the_policies() {
    let client = client().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let ours = policies
        .list(&ListParams::default().labels("app.kubernetes.io/part-of=granary"))
        .await
        .expect("policies")
        .items;
    assert_eq!(ours.len(), 6);
    for policy in ours {
        let name = policy.metadata.name.expect("a name");
        let checked = wait_for(
            policies.clone(),
            &name,
            "is type-checked",
            |policy: Option<&ValidatingAdmissionPolicy>| {
                policy
                    .and_then(|policy| policy.status.as_ref())
                    .is_some_and(|status| status.type_checking.is_some())
            },
        )
        .await
        .and_then(|policy| policy.status?.type_checking?.expression_warnings);
        assert_eq!(checked.unwrap_or_default(), [], "{name}");
    }
}

#[tokio::test]
async fn every_field_is_explained() {
    let client = client().await;
    let api = request(
        &client,
        "GET",
        "/openapi/v3/apis/granary.dev/v1alpha1",
        &Value::Null,
    )
    .await
    .expect("the schema");
    let schemas = api["components"]["schemas"].as_object().expect("schemas");
    for kind in ["Tenant", "Plan", "PlanCatalog"] {
        let (_, schema) = schemas
            .iter()
            .find(|(name, _)| name.ends_with(&format!(".{kind}")))
            .expect(kind);
        let mut bare = Vec::new();
        specs::without_description(schema, kind, &mut bare);
        assert_eq!(bare, Vec::<String>::new());
    }
}
