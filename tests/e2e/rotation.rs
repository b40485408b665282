//! Keys are replaced while people work: no request fails, nothing is lost, and an operator that is killed goes on.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use granary::api::Tenant;
use granary::api::keys::{DataKeyPurpose, DataKeyState};
use granary::https::client::{self as https, Target};
use kube::ResourceExt;
use serde_json::{Value, json};
use sqlx::{Executor, Row};
use tokio::task::JoinHandle;

use crate::database::{Database, Identity};
use crate::plane::{exclusive, kill_all, shared, whole};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique};
use crate::tenant_keys::{acts, counts};
use crate::web;

/// What the page shows where a text cannot be opened.
const UNREADABLE: &str = "This text cannot be shown";

/// Entries as a build from before sealing wrote them.
const ROWS: &str = "INSERT INTO entry (request, on_date, description, amount) \
    SELECT gen_random_uuid(), date '2025-01-01' + n % 300, 'old ' || n, 100 FROM generate_series(1, 3000) n";

/// Rows by the version that they are sealed with; 0: with none.
const BY_VERSION: &str = "SELECT coalesce(get_byte(description_sealed, 4), 0) AS version, count(*) AS rows FROM entry GROUP BY 1";

/// Runs `granary keys …`; its output.
async fn granary(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
    command.arg("keys").args(args);
    let said = format!("{command:?}");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it ends")
        .expect("the program runs");
    assert!(
        output.status.success(),
        "{said}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What each pod of the app says of its keys.
async fn keyz(silo: &Silo) -> Vec<Value> {
    let mut answers = Vec::new();
    let authority = silo.secret("app-tls").await.remove("ca.crt");
    let authority = authority.expect("an authority");
    for pod in silo.pods("app").await {
        let forward = silo.forward(&pod.name_any(), 8443).await;
        let tls = https::client_config(authority.as_bytes(), None).expect("an authority");
        let target = Target {
            address: forward.address.to_string(),
            server_name: "app".to_owned(),
            host: "app".to_owned(),
            path: "/keyz",
        };
        let (status, body) = https::get(tls, &target, Duration::from_secs(10))
            .await
            .expect("the app answers");
        assert!(status.is_success(), "{status}");
        answers.push(serde_json::from_slice(&body).expect("JSON"));
    }
    answers
}

async fn rows_by_version(silo: &Silo) -> BTreeMap<i32, i64> {
    let identity = Identity::of(silo, "migrate-tls").await;
    let database = Database::of(silo).await;
    let mut session = database.session("owner", Some(&identity)).await;
    let session = session.as_mut().expect("the owner may log in");
    let rows = session.fetch_all(BY_VERSION).await.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Fills the book, and waits until all of it is sealed.
async fn fill(silo: &Silo) {
    let identity = Identity::of(silo, "migrate-tls").await;
    let database = Database::of(silo).await;
    let mut session = database.session("owner", Some(&identity)).await;
    let session = session.as_mut().expect("the owner may log in");
    session.execute(ROWS).await.expect("rows");
    eventually("every row is sealed", async || {
        keyz(silo)
            .await
            .iter()
            .all(|keys| keys["unsealed"] == 0 && keys["stale"] == json!({}))
    })
    .await;
}

/// People who read and write all the time.
struct Visitors {
    asked: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Visitors {
    fn come(host: &str) -> Self {
        let (asked, failed) = (Arc::default(), Arc::default());
        let tasks = (0..3)
            .map(|number| {
                let host = host.to_owned();
                let (asked, failed): (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) =
                    (Arc::clone(&asked), Arc::clone(&failed));
                tokio::spawn(async move {
                    loop {
                        if let Err(error) = visit(&host, number == 0).await {
                            failed.lock().expect("the list").push(error);
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                })
            })
            .collect();
        Self {
            asked,
            failed,
            tasks,
        }
    }

    /// Ends the visits. None may have failed.
    fn go(self) -> usize {
        for task in self.tasks {
            task.abort();
        }
        let failed = self.failed.lock().expect("the list").clone();
        assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
        self.asked.load(Ordering::Relaxed)
    }
}

/// Reads the first page, and enters something if wanted.
async fn visit(host: &str, writes: bool) -> Result<(), String> {
    let page = web::get(host, "/").await?;
    if page.status != 200 || page.body.contains(UNREADABLE) {
        return Err(format!("{page:?}"));
    }
    if writes {
        let answer = web::send_entry(host, &page, "meanwhile").await;
        if !answer.status.is_redirection() {
            return Err(format!("{answer:?}"));
        }
    }
    Ok(())
}

/// Whether each purpose has version 2 writing, none retiring, and version 1 retired.
fn is_rotated(tenant: &Tenant) -> bool {
    let key = tenant.status.as_ref().and_then(|status| status.key.clone());
    let Some(key) = key.filter(|key| key.rotation.is_none() && key.version == 2) else {
        return false;
    };
    [DataKeyPurpose::App, DataKeyPurpose::Backup]
        .into_iter()
        .all(|purpose| {
            let states: Vec<_> = key
                .data_keys
                .iter()
                .filter(|key| key.purpose == purpose)
                .map(|key| (key.version, key.state))
                .collect();
            states == [(2, DataKeyState::Active), (1, DataKeyState::Retired)]
        })
}

#[tokio::test]
async fn keys_are_replaced_while_every_request_is_answered() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("rotate");
    cleaning_up(&client, &test, async {
        let pods = json!({"app": {"replicas": 2}});
        let silo = Silo::create(&client, &test, &unique("rotate"), pods).await;
        silo.ready().await;
        let host = silo.host().await;
        web::add_entry(&host, "flour").await;
        fill(&silo).await;
        assert_eq!(rows_by_version(&silo).await, BTreeMap::from([(1, 3001)]));

        let visitors = Visitors::come(&host);
        let started = std::time::Instant::now();
        granary(&["rotate", &silo.name, "--timeout", "3m"]).await;
        println!("rotated after {:?}", started.elapsed());
        let tenant = silo.wait("has new keys", is_rotated).await;
        assert!(visitors.go() > 50);
        // What is under way when a visitor is stopped ends.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let versions: Vec<i32> = rows_by_version(&silo).await.into_keys().collect();
        assert_eq!(versions, [2], "rows under the old version");
        eventually("pods forget the old version", async || {
            keyz(&silo)
                .await
                .iter()
                .all(|keys| keys["readable"] == json!([2]))
        })
        .await;
        let page = silo.page().await;
        assert!(!page.body.contains(UNREADABLE), "{}", page.body);
        let through_the_gateway = web::get(&host, "/keyz").await.expect("an answer");
        assert_eq!(through_the_gateway.status, 404);

        let listed = granary(&["list", &silo.name, "-o", "json"]).await;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let key = tenant.status.and_then(|status| status.key).expect("a key");
        assert_eq!(listed["items"][0]["key"]["id"], json!(key.id));
        let wanted = [
            "tenant-keys-rotated started",
            "tenant-keys-rotated finished",
            "data-key-created finished",
            "data-key-retired finished",
            "key-rotated finished",
            "data-key-rewrapped finished",
        ];
        let acts = acts(&silo.name);
        assert_eq!(counts(&acts, wanted), [1, 1, 4, 2, 1, 2], "{acts:#?}");
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_is_killed_goes_on_and_announces_nothing_twice() {
    let _plane = exclusive().await;
    let client = client().await;
    let test = unique("resume");
    cleaning_up(&client, &test, async {
        let (one, other) = Silo::onboard_two(&client, &test, "resume").await;
        fill(&one).await;
        let untouched = ["rotate", "--all", "--older-than", "3650d"];
        assert_eq!(granary(&untouched).await, "");
        let visitors = Visitors::come(&one.host().await);
        granary(&["rotate", "--all", "--older-than", "1s", "--no-wait"]).await;
        for silo in [&one, &other] {
            silo.wait("is rotating", |tenant| {
                let status = tenant.status.as_ref();
                status.is_some_and(|status| {
                    status
                        .key
                        .as_ref()
                        .is_some_and(|key| key.rotation.is_some())
                })
            })
            .await;
        }
        kill_all(&client).await;
        whole(&client).await;
        kill_all(&client).await;
        whole(&client).await;
        for silo in [&one, &other] {
            silo.wait("has new keys", is_rotated).await;
            silo.ready().await;
            let acts = acts(&silo.name);
            let wanted = [
                "tenant-keys-rotated started",
                "tenant-keys-rotated finished",
                "key-rotated started",
                "data-key-created started",
                "data-key-retired started",
            ];
            assert_eq!(counts(&acts, wanted), [1, 1, 1, 4, 2], "{acts:#?}");
        }
        visitors.go();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let versions: Vec<i32> = rows_by_version(&one).await.into_keys().collect();
        assert_eq!(versions, [2]);
        assert!(!one.page().await.body.contains(UNREADABLE));
    })
    .await;
}
