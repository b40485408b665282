//! What the key server depends on is away, slow or changes; and callers that do not stop.

use std::fs;
use std::time::Duration;

use granary::keys::Purpose;
use granary::keyserver::client::ClientError;
use tokio::io::AsyncReadExt;

use crate::api_server::ApiServer;
use crate::callers::{active, code};
use crate::plane::Plane;
use crate::postgres::{Postgres, VOLATILE};

fn is_transient<T: std::fmt::Debug>(result: &Result<T, ClientError>) -> bool {
    result.as_ref().is_err_and(ClientError::is_transient)
}

#[tokio::test]
async fn without_the_registry_nothing_is_done_and_nothing_is_lost() {
    let mut postgres = Postgres::start(&VOLATILE);
    let plane = Plane::start_on(&postgres, ApiServer::start().await, &[]).await;
    let acme = plane.tenant_with_keys("acme").await;
    let globex = plane.tenant("globex");
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let key = active(&app, Purpose::App).await;
    let (status, readiness) = plane.request("GET", "/readyz", None, "").await;
    assert_eq!(
        (status, &readiness["ready"]),
        (200, &true.into()),
        "{readiness}"
    );
    assert_eq!(readiness["kms"], "reachable");

    postgres.stop();
    let refused = app.unwrap(Purpose::App, &[]).await;
    assert!(is_transient(&refused), "{refused:?}");
    assert_eq!(code(refused), "registry-unavailable");
    let refused = plane.operate().ensure(globex.uid, &globex.request()).await;
    assert_eq!(code(refused), "registry-unavailable");
    let (status, readiness) = plane.request("GET", "/readyz", None, "").await;
    assert_eq!(status, 503, "{readiness}");
    let (status, _) = plane.request("GET", "/healthz", None, "").await;
    assert_eq!(status, 200, "alive it is");

    postgres.restart();
    assert_eq!(active(&app, Purpose::App).await, key);
    plane.ensure(&globex).await;
    plane.stop().await;
}

#[tokio::test]
async fn without_the_api_server_nobody_is_believed() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&app, Purpose::App).await;
    plane.api.away(true);
    let refused = app.unwrap(Purpose::App, &[]).await;
    assert!(is_transient(&refused), "{refused:?}");
    assert_eq!(code(refused), "api-server-unavailable");
    plane.api.away(false);
    active(&app, Purpose::App).await;
}

#[tokio::test]
async fn who_asks_too_often_waits_and_nobody_else_does() {
    let plane = Plane::start_on(
        Postgres::shared(),
        ApiServer::start().await,
        &["--pod-rate", "1", "--pod-burst", "3"],
    )
    .await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let database = plane.client(&plane.api.pod(&acme.namespace, "database"));
    let mut granted = 0;
    let refused = loop {
        match app.unwrap(Purpose::App, &[]).await {
            Ok(_) => granted += 1,
            refused => break refused,
        }
        assert!(granted < 100, "nothing holds it back");
    };
    assert!(granted >= 3, "{granted}");
    assert!(is_transient(&refused), "{refused:?}");
    let Err(error) = &refused else { unreachable!() };
    assert_eq!(error.retry_after().unwrap().as_secs(), 1);
    assert_eq!(code(refused), "too-many-requests");
    active(&database, Purpose::Backup).await;
    plane.operate().keys(acme.uid, false).await.unwrap();
    // What was held back is counted and not audited.
    let rows = plane.rows("key-unwrapped").await;
    assert!(rows.iter().all(|row| row.0 != "refused"), "{rows:?}");
    let line = "granary_keyserver_request_duration_seconds_count{path=\"/v1/unwrap\",outcome=\"too-many-requests\"}";
    assert!(plane.figure(line).await >= 1);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    let connect = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let address = format!("127.0.0.1:{}", plane.port).parse().unwrap();
        socket.connect(address).await.unwrap()
    };
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(connect().await);
    }
    // One more is closed at once, and others do not notice.
    let mut surplus = connect().await;
    let closed = tokio::time::timeout(Duration::from_secs(5), surplus.read_u8()).await;
    assert!(closed.is_ok_and(|read| read.is_err()), "it stays open");
    active(&app, Purpose::App).await;
    // Room comes back.
    drop(idle);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut next = connect().await;
    let open = tokio::time::timeout(Duration::from_millis(500), next.read_u8()).await;
    assert!(open.is_err(), "it is closed");
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    active(&app, Purpose::App).await;
    // A whole other authority: who trusts it alone is served once the files were looked at again.
    let other = crate::postgres::Authority::new();
    let leaf = other.server();
    fs::write(plane.file("tls.crt"), &leaf.certificate).unwrap();
    fs::write(plane.file("tls.key"), &leaf.key).unwrap();
    let pod = plane.api.pod(&acme.namespace, "database");
    let mut reach = plane.reach(&pod);
    reach.files.ca_file = plane.file("other.crt");
    fs::write(&reach.files.ca_file, other.pem()).unwrap();
    let client = granary::keyserver::client::Client::new(&reach).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match client.unwrap(Purpose::Backup, &[]).await {
            Ok(_) => break,
            Err(ClientError::Unreachable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the old certificate stays"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // And who trusts only the old one is not.
    assert!(matches!(
        app.unwrap(Purpose::App, &[]).await,
        Err(ClientError::Unreachable(_))
    ));
}

#[tokio::test]
async fn requests_that_run_are_finished_when_it_is_told_to_stop() {
    let plane = Plane::start().await;
    let acme = plane.tenant("acme");
    let operator = plane.operate();
    let request = acme.request();
    let making = operator.ensure(acme.uid, &request);
    let registry = plane.registry.clone();
    let (made, ()) = futures::join!(making, async {
        // The request has been announced; now the server is told to stop.
        loop {
            let mut connection = registry.acquire().await.unwrap();
            let rows =
                granary::audit::latest(&mut connection, &granary::audit::Filter::default(), 1)
                    .await
                    .unwrap();
            if !rows.is_empty() {
                break;
            }
        }
        plane.stop().await;
    });
    assert_eq!(made.unwrap().data_keys.len(), 2);
}
