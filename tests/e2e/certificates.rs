//! Certificates that come of age are replaced under a running silo.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::net::TcpStream;

use crate::database::{Database, served};
use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, eventually, unique};
use crate::web;

/// The certificates that PostgreSQL and the app serve now, each checked against the silo's bundle.
async fn served_now(silo: &Silo) -> Option<[CertificateDer<'static>; 2]> {
    let database = Database::of(silo).await;
    let pod = silo.pods("app").await.first()?.name_any();
    let app = silo.forward(&pod, 8443).await;
    let stream = TcpStream::connect(app.address).await.ok()?;
    let bundle = silo.secret("app-tls").await.remove("ca.crt")?;
    Some([
        database.certificate(&TLS13).await.ok()?,
        served(stream, &bundle, "app", &TLS13, None).await.ok()?,
    ])
}

/// Pods with how often their containers were started again.
async fn pods(silo: &Silo) -> Vec<(String, i32)> {
    let mut pods = silo.pods("database").await;
    pods.extend(silo.pods("app").await);
    pods.into_iter()
        .map(|pod| {
            let statuses = pod
                .status
                .clone()
                .and_then(|status| status.container_statuses);
            let restarts = statuses
                .unwrap_or_default()
                .iter()
                .map(|status| status.restart_count)
                .sum();
            (pod.uid().unwrap_or_default(), restarts)
        })
        .collect()
}

#[tokio::test]
async fn certificates_are_renewed_and_loaded_while_every_request_is_answered() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("renew");
    cleaning_up(&client, &test, async {
        let silo = Silo::onboard(&client, &test, "renew").await;
        let host = silo.host().await;
        web::add_entry(&host, "flour").await;
        let (pods_before, authority) = (pods(&silo).await, silo.secret("ca").await);
        let before = served_now(&silo).await.expect("certificates are served");

        let (asked, failed) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let visitor = tokio::spawn({
            let (asked, failed) = (asked.clone(), failed.clone());
            async move {
                loop {
                    match web::get(&host, "/").await {
                        Ok(answer) if answer.status == 200 => {}
                        other => failed.lock().expect("the list").push(format!("{other:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
        // The annotation is what the operator goes by: with it in the past, the certificates are due.
        let due =
            json!({"metadata": {"annotations": {"granary.dev/renew-at": "2020-01-01T00:00:00Z"}}});
        silo.api::<Secret>()
            .patch("database-tls", &PatchParams::default(), &Patch::Merge(due))
            .await
            .unwrap();
        eventually("both servers have new certificates", async || {
            let now = served_now(&silo).await;
            now.is_some_and(|now| now[0] != before[0] && now[1] != before[1])
        })
        .await;
        visitor.abort();

        assert!(asked.load(Ordering::Relaxed) > 20);
        let failed = failed.lock().expect("the list").clone();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(
            pods(&silo).await,
            pods_before,
            "pods were replaced or restarted"
        );
        assert_eq!(
            silo.secret("ca").await,
            authority,
            "the authority is not due"
        );
        web::add_entry(&silo.host().await, "butter").await;
    })
    .await;
}
