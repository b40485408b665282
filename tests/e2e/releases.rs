//! Releases that cannot take over, and the old one that goes on serving.

use granary::api::{ConditionStatus, ConditionType, Release};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::plane::{operator_image, shared};
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique};
use crate::web;

#[tokio::test]
async fn a_release_that_cannot_run_leaves_the_old_one_serving() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("release");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "release").await;
        web::add_entry(&silo.host().await, "flour").await;
        let served = silo.ready().await.status.expect("a status").release;

        let nowhere = format!("localhost/nowhere@sha256:{}", "0".repeat(64));
        // The operator's image has no command `migrate`, so this migration fails.
        let wrong = operator_image(&client).await;
        for (image, reasons) in [
            (&nowhere, ["ErrImagePull", "ImagePullBackOff"]),
            (&wrong, ["ContainerFailed", "CrashLoopBackOff"]),
        ] {
            silo.change(json!({"app": {"image": image}})).await;
            let condition = silo
                .wait_condition(
                    ConditionType::MigrationReady,
                    ConditionStatus::False,
                    &reasons,
                )
                .await;
            assert!(!condition.message.is_empty());
            let page = silo.page().await;
            assert!(
                page.status == 200 && page.body.contains("flour"),
                "{page:?}"
            );
            let tenant = silo.wait("names the release that serves", |_| true).await;
            let status = tenant.status.expect("a status");
            assert_eq!(status.release, served);
            assert_ne!(Some(Release::of_image(image).to_string()), served);
        }

        silo.change(json!({"app": null})).await;
        silo.ready().await;
        eventually("only the served release's migration is left", async || {
            let jobs = silo
                .api::<Job>()
                .list(&ListParams::default())
                .await
                .expect("jobs");
            let names: Vec<String> = jobs.iter().map(ResourceExt::name_any).collect();
            names == [format!("migrate-{}", served.clone().unwrap_or_default())]
        })
        .await;
        assert_eq!(silo.page().await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_whose_image_does_not_exist_is_told_so_and_converges() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("image");
    cleaning_up(&client, &test, async {
        let nowhere = format!("localhost/nowhere@sha256:{}", "0".repeat(64));
        let silo = Silo::create(
            &client,
            &test,
            &unique("image"),
            json!({"app": {"image": nowhere}}),
        )
        .await;
        let condition = silo
            .wait_condition(
                ConditionType::AppReady,
                ConditionStatus::False,
                &["ErrImagePull", "ImagePullBackOff"],
            )
            .await;
        assert!(condition.message.contains("nowhere"), "{condition:?}");

        silo.change(json!({"app": null})).await;
        silo.ready().await;
        assert_eq!(silo.page().await.status, 200);
    })
    .await;
}
