//! The end of a tenant: access goes at once, the rest after a grace period in which it can come back, and what is left is
//! a signed record.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use granary::api::{ConditionStatus, ConditionType, Phase, Tenant};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use sqlx::{Executor, Row};

use crate::database::{Database, Identity};
use crate::keys::{KeyServer, pod_token};
use crate::plane::{exclusive, kill_all, shared, whole};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, request, unique};
use crate::tenant_keys::{acts, counts, without_registry};
use crate::web;

/// Longest time until nobody reaches a tenant's page any more.
const CUT_WITHIN: Duration = Duration::from_mins(1);

/// What the page shows where a text cannot be opened.
const UNREADABLE: &str = "This text cannot be shown";

/// Runs the program in a thread of its own.
async fn granary(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
    command.args(args);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it ends")
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command prints that has to succeed.
pub async fn done(args: &[&str]) -> String {
    let output = granary(args).await;
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn json_of(args: &[&str]) -> Value {
    let text = done(&[args, &["-o", "json"]].concat()).await;
    serde_json::from_str(&text).expect("JSON")
}

/// What a command says that has to end with this code.
pub async fn fails(args: &[&str], code: i32) -> String {
    let output = granary(args).await;
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}",
        said(&output)
    );
    assert!(output.stdout.is_empty(), "{args:?} prints data");
    said(&output)
}

fn phase(tenant: &Tenant) -> Option<Phase> {
    tenant.status.as_ref().map(|status| status.phase)
}

async fn running_pods(silo: &Silo) -> usize {
    let pods = silo.api::<Pod>().list(&ListParams::default()).await;
    pods.expect("pods").items.len()
}

/// The record of a tenant, verified with the plane's own key, and what it says.
pub async fn record(tenant: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, key) = (
        folder.path().join("record.json"),
        folder.path().join("plane.pem"),
    );
    fs::write(&file, done(&["evidence", tenant, "-o", "json"]).await).expect("a file");
    fs::write(&key, done(&["evidence", "key"]).await).expect("a file");
    let (file, key) = (file.display().to_string(), key.display().to_string());
    let report = json_of(&["evidence", "verify", &file, "--key", &key]).await;
    // One digit of a time is another one: it proves nothing any more.
    let mut envelope: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON");
    let payload = envelope["payload"].as_str().expect("a payload").to_owned();
    let middle = payload.len() / 2;
    let other = if payload.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    envelope["payload"] = format!("{}{other}{}", &payload[..middle], &payload[middle + 1..]).into();
    fs::write(&file, envelope.to_string()).expect("a file");
    let refused = fails(&["evidence", "verify", &file, "--key", &key], 5).await;
    assert!(refused.contains("proves nothing"), "{refused}");
    report["record"].clone()
}

#[tokio::test]
async fn access_is_cut_at_once_and_until_the_grace_period_ends_it_comes_back() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("grace");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "grace").await;
        let name = silo.name.as_str();
        web::add_entry(&silo.host().await, "flour").await;
        let keyserver = KeyServer::reach(&client).await;
        let token = pod_token(&silo, "app").await;
        keyserver
            .unwrap(&token, "app")
            .await
            .expect("it is the pod's own key");

        let live = fails(&["evidence", "show", name], 4).await;
        assert!(live.contains("it lives"), "{live}");
        let wrong = fails(&["reinstate", name], 4).await;
        assert!(wrong.contains("not being offboarded"), "{wrong}");

        let began = Instant::now();
        let report = json_of(&["offboard", name, "--confirm", name]).await;
        assert!(began.elapsed() < CUT_WITHIN, "{:?}", began.elapsed());
        assert_eq!(report["state"], "Offboarded", "{report}");
        assert!(report["graceEndsAt"].is_string(), "{report}");
        silo.page_turns(404).await;
        assert_eq!(running_pods(&silo).await, 0);
        let refused = keyserver.unwrap(&token, "app").await;
        assert!(matches!(refused, Err((401 | 403, _))), "{refused:?}");
        let in_grace = fails(&["evidence", "show", name], 4).await;
        assert!(in_grace.contains("being offboarded"), "{in_grace}");

        let back = json_of(&["reinstate", name]).await;
        assert_eq!(back["status"]["phase"], "Ready", "{back}");
        assert_eq!(back["status"]["offboarding"], Value::Null);
        assert!(silo.page().await.body.contains("flour"));
        let all = acts(name);
        let wanted = [
            "tenant-offboarded started",
            "tenant-offboarded finished",
            "tenant-reinstated started",
            "tenant-reinstated finished",
            "tenant-changed started",
            "key-disabled started",
        ];
        assert_eq!(counts(&all, wanted), [1, 1, 1, 1, 0, 0], "{all:#?}");
    })
    .await;
}

/// Everything of a tenant that somebody may have kept.
struct Loot {
    app: Identity,
    token: String,
    sealed: Vec<u8>,
    row: i64,
}

impl Loot {
    async fn of(silo: &Silo) -> Self {
        let owner = Identity::of(silo, "migrate-tls").await;
        let database = Database::of(silo).await;
        let mut session = database
            .session("owner", Some(&owner))
            .await
            .expect("the owner may log in");
        let rows = session
            .fetch_all(
                "SELECT id, description_sealed FROM entry WHERE description_sealed IS NOT NULL",
            )
            .await
            .expect("rows");
        let row = rows.first().expect("an entry");
        Self {
            app: Identity::of(silo, "app-tls").await,
            token: pod_token(silo, "app").await,
            row: row.get(0),
            sealed: row.get(1),
        }
    }

    /// That nothing of it opens anything of another tenant's silo, or of its own that is gone.
    async fn is_worthless_at(&self, heir: &Silo, keyserver: &KeyServer) {
        let refused = keyserver.unwrap(&self.token, "app").await;
        assert!(matches!(refused, Err((401 | 403, _))), "{refused:?}");
        let database = Database::of(heir).await;
        let strange = database.session("app", Some(&self.app)).await;
        assert!(
            strange.is_err(),
            "the old certificate opens the heir's database"
        );
        // What the old volume held, where the heir's app looks for its own.
        let owner = Identity::of(heir, "migrate-tls").await;
        let mut session = database
            .session("owner", Some(&owner))
            .await
            .expect("the owner may log in");
        sqlx::query(
            "INSERT INTO entry (id, request, on_date, description_sealed, amount) OVERRIDING SYSTEM VALUE
             VALUES ($1, gen_random_uuid(), current_date, $2, 1)",
        )
        .bind(self.row)
        .bind(&self.sealed)
        .execute(&mut session)
        .await
        .expect("a row");
        let page = heir.page().await;
        assert!(page.body.contains(UNREADABLE), "{}", page.body);
        assert!(!page.body.contains("flour"));
    }
}

#[tokio::test]
async fn a_tenant_that_is_destroyed_is_proven_to_be_and_its_name_may_return() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("shred");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "shred").await;
        let name = silo.name.clone();
        web::add_entry(&silo.host().await, "flour").await;
        let loot = Loot::of(&silo).await;
        let key = silo
            .ready()
            .await
            .status
            .and_then(|status| status.key)
            .expect("a key");

        let report = json_of(&["offboard", "--now", &name, "--confirm", &name]).await;
        assert_eq!(report["state"], "Removed", "{report}");
        assert_eq!(silo.objects().await, std::collections::BTreeSet::new());

        let record = record(&name).await;
        assert_eq!(record["stage"], "shredded");
        assert_eq!(record["tenant"]["uid"], silo.uid.as_str());
        assert_eq!(record["keys"][0]["id"], key.id.as_str());
        assert_eq!(record["steps"]["destroyed"], Value::Null);
        assert!(record["destructionDue"].is_string());
        assert_eq!(record["removed"]["volumes"], 1);
        assert!(record["removed"]["objects"].as_u64() > Some(20), "{record}");
        // Each data key was refused twice: after disabling, and after the deletion was scheduled.
        let proofs = record["proofs"].as_array().expect("proofs");
        let data_keys = record["dataKeys"].as_array().expect("data keys");
        assert_eq!((data_keys.len(), proofs.len()), (2, 4), "{record}");
        assert!(proofs.iter().all(|proof| proof["outcome"] == "refused"));

        let all = acts(&name);
        let wanted = [
            "tenant-offboarded started",
            "tenant-shredded started",
            "key-disabled finished",
            "key-refusal-proven finished",
            "key-deletion-scheduled finished",
            "evidence-recorded finished",
            "tenant-shredded finished",
            "tenant-offboarded finished",
        ];
        assert_eq!(counts(&all, wanted), [1, 1, 1, 2, 1, 1, 1, 1], "{all:#?}");

        let heir = Silo::create(&client, &test, &name, json!({})).await;
        heir.ready().await;
        assert_ne!(heir.namespace, silo.namespace);
        let keyserver = KeyServer::reach(&client).await;
        loot.is_worthless_at(&heir, &keyserver).await;
        let living = fails(&["evidence", &name], 4).await;
        assert!(
            living.contains(&silo.uid),
            "it names who had the name before: {living}"
        );
        json_of(&["evidence", &silo.uid]).await;
        let everything = json_of(&["evidence", "show", &name, "--all"]).await;
        assert_eq!(everything["items"].as_array().map(Vec::len), Some(1));
    })
    .await;
}

#[tokio::test]
async fn when_the_grace_period_is_over_nobody_comes_back_and_the_resource_stays() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("over");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "over").await;
        let name = silo.name.as_str();
        silo.change(json!({"state": "Offboarded", "offboarding": {"gracePeriod": "2s"}}))
            .await;
        let shredded = silo
            .wait("is Shredded", |tenant| {
                phase(tenant) == Some(Phase::Shredded)
            })
            .await;
        let status = shredded
            .status
            .expect("a status")
            .offboarding
            .expect("how it ended");
        assert!(
            status.shredded_at.is_some() && status.key_destroyed_at.is_some(),
            "{status:?}"
        );
        let path = format!("/apis/granary.dev/v1alpha1/tenants/{name}");
        let mut wanted_back = request(&client, "GET", &path, &Value::Null)
            .await
            .expect("it is there");
        wanted_back["spec"]["state"] = "Active".into();
        let refused = request(&client, "PUT", &path, &wanted_back)
            .await
            .expect_err("it cannot come back");
        assert!(
            refused.message.contains("spec.state"),
            "{}",
            refused.message
        );
        let refused = fails(&["reinstate", name], 4).await;
        assert!(refused.contains("destroyed"), "{refused}");
        assert_eq!(record(name).await["stage"], "shredded");
        let report = json_of(&["offboard", name, "--confirm", name]).await;
        assert_eq!(report["state"], "Removed");
        fails(&["status", name], 3).await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_is_killed_in_the_middle_goes_on() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("killed");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "killed").await;
        let name = silo.name.as_str();
        json_of(&["offboard", "--now", name, "--confirm", name, "--no-wait"]).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            kill_all(&client).await;
        }
        whole(&client).await;
        let tenants: Api<Tenant> = Api::all(client.clone());
        eventually("it is gone", async || {
            let _deleted = tenants.delete(name, &DeleteParams::default()).await;
            tenants.get_opt(name).await.expect("an answer").is_none()
        })
        .await;
        assert_eq!(record(name).await["stage"], "shredded");
        let all = acts(name);
        for act in ["tenant-offboarded", "tenant-shredded", "evidence-recorded"] {
            let (started, finished) = (format!("{act} started"), format!("{act} finished"));
            assert_eq!(counts(&all, [&started, &finished]), [1, 1], "{all:#?}");
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_registry_nothing_is_done_and_the_tenant_says_so() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("unheard");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "unheard").await;
        without_registry(&client, async {
            silo.change(json!({"state": "Offboarded"})).await;
            let reasons = ["RegistryUnavailable", "RegistryBusy"];
            silo.wait_condition(ConditionType::Ready, ConditionStatus::False, &reasons)
                .await;
            assert_eq!(silo.page().await.status, 200, "nothing is done unaudited");
        })
        .await;
        silo.wait("is Offboarded", |tenant| {
            phase(tenant) == Some(Phase::Offboarded)
        })
        .await;
        silo.page_turns(404).await;
        let all = acts(&silo.name);
        assert_eq!(counts(&all, ["tenant-offboarded started"]), [1], "{all:#?}");
    })
    .await;
}
