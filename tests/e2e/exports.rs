//! The export before a tenant's end: sealed for the recipient that its plan names, fetched from the registry, and part of
//! the signed record.

use std::io::Read;
use std::iter;

use age::x25519::Identity;
use granary::api::Plan;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::offboarding::{done, fails, record};
use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{apply, cleaning_up, client, eventually, marked, unique};
use crate::web;

#[tokio::test]
async fn a_tenant_that_ends_is_exported_for_whom_its_plan_names() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("export");
    cleaning_up(&client, &test, async {
        let identity = Identity::generate();
        let recipient = identity.to_public().to_string();
        let plans: Api<Plan> = Api::all(client.clone());
        let small = plans.get("small").await.expect("plan small");
        let mut plan = json!({
            "apiVersion": "granary.dev/v1alpha1",
            "kind": "Plan",
            "metadata": {"name": unique("exported")},
            "spec": serde_json::to_value(&small.spec).expect("JSON"),
        });
        plan["spec"]["export"] = json!({"recipient": recipient});
        let plan = marked(plan, &test);
        apply(&client, &plan, "").await.expect("the plan is taken");
        let name = unique("export");
        let spec = json!({"plan": plan["metadata"]["name"]});
        eventually("the plan can be used", async || {
            let tenant = json!({
                "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": spec,
            });
            apply(&client, &tenant, "&dryRun=All").await.is_ok()
        })
        .await;
        let silo = Silo::create(&client, &test, &name, spec).await;
        let tenant = silo.ready().await;
        assert_eq!(
            Value::from(tenant.spec.plan.clone()),
            plan["metadata"]["name"]
        );
        web::add_entry(&silo.host().await, "flour").await;

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("export.age");
        let path = file.display().to_string();
        let none = fails(&["export", &name, "--file", &path], 3).await;
        assert!(none.contains("there is no export"), "{none}");

        done(&["offboard", "--now", &name, "--confirm", &name]).await;
        done(&["export", &name, "--file", &path]).await;
        let sealed = std::fs::read(&file).expect("the export");
        let decryptor = age::Decryptor::new(&sealed[..]).expect("an age file");
        let mut dump = Vec::new();
        decryptor
            .decrypt(iter::once(&identity as _))
            .expect("its recipient opens it")
            .read_to_end(&mut dump)
            .expect("it is whole");
        assert!(dump.starts_with(b"PGDMP"));

        let record = record(&name).await;
        let digest: Vec<String> = Sha256::digest(&sealed)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(record["export"]["sha256"], digest.concat());
        assert_eq!(record["export"]["sealedWith"], recipient);
        assert!(record["steps"]["exported"].is_string(), "{record}");
        let again = fails(
            &["export", &tenant.uid().unwrap_or_default(), "--file", &path],
            2,
        )
        .await;
        assert!(again.contains("nothing is overwritten"), "{again}");
    })
    .await;
}
