//! A tenant that rests keeps its data and nothing that runs.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use granary::api::Phase;

use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique};
use crate::web;

#[tokio::test]
async fn a_suspended_tenant_keeps_its_volume_and_comes_back_with_its_data() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("rest");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "rest").await;
        web::add_entry(&silo.host().await, "flour").await;
        let volume = silo
            .get::<PersistentVolumeClaim>("data-database-0")
            .await
            .uid();

        silo.change(json!({"state": "Suspended"})).await;
        silo.wait("is Suspended", |tenant| {
            tenant
                .status
                .as_ref()
                .is_some_and(|status| status.phase == Phase::Suspended)
        })
        .await;
        eventually("no pod runs", async || {
            let pods = silo
                .api::<Pod>()
                .list(&ListParams::default())
                .await
                .expect("pods");
            let running = |pod: &Pod| {
                let phase = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                phase != Some("Succeeded")
            };
            !pods.iter().any(running)
        })
        .await;
        silo.page_turns(503).await;
        let claim: PersistentVolumeClaim = silo.get("data-database-0").await;
        assert_eq!(claim.uid(), volume);

        silo.change(json!({"state": "Active"})).await;
        silo.ready().await;
        silo.page_turns(200).await;
        assert!(silo.page().await.body.contains("flour"));
    })
    .await;
}
