//! From a new tenant to a tenant that is gone, seen from outside.

use http::{Request, StatusCode, header};
use http_body_util::Full;
use rustls::ProtocolVersion;

use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, unique};
use crate::web;

#[tokio::test]
async fn each_tenant_has_its_own_page_and_its_own_book() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("own");
    cleaning_up(&client, &test, async {
        let (one, two) = Silo::onboard_two(&client, &test, "own").await;
        let (host_one, host_two) = (one.host().await, two.host().await);

        for silo in [&one, &two] {
            let page = silo.page().await;
            assert_eq!(page.status, 200);
            assert_eq!(page.protocol, Some(ProtocolVersion::TLSv1_3));
            assert!(page.body.contains(&format!("Books of {}", silo.name)));
        }
        assert!(!web::speaks_tls_12(&host_one).await, "TLS 1.2 is spoken");

        web::add_entry(&host_one, "flour").await;
        assert!(one.page().await.body.contains("flour"));
        assert!(!two.page().await.body.contains("flour"));

        let plain = web::get_plain(&host_one, "/some?where=1").await.unwrap();
        assert_eq!(plain.status, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(
            plain.headers[header::LOCATION],
            format!("https://{host_one}/some?where=1")
        );

        let nobody = host_one.replace(&one.name, &unique("nobody"));
        assert_eq!(web::get(&nobody, "/").await.unwrap().status, 404);

        let mixed = Request::get("/").header(header::HOST, &host_two);
        let mixed = mixed.body(Full::default()).unwrap();
        let answer = web::send(&host_one, mixed).await.unwrap();
        assert_eq!(answer.status, 421, "asked {host_one} for {host_two}");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_tenant_leaves_nothing_and_comes_back_as_another() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("gone");
    cleaning_up(&client, &test, async {
        let (going, staying) = Silo::onboard_two(&client, &test, "gone").await;
        web::add_entry(&going.host().await, "flour").await;
        web::add_entry(&staying.host().await, "butter").await;
        let authority = going.secret("ca").await;
        let (had, kept) = (going.objects().await, staying.objects().await);
        assert!(had.len() > 25, "{had:#?}");
        assert!(
            had.iter()
                .any(|object| object.starts_with("PersistentVolume "))
        );

        going.delete().await;
        assert_eq!(going.objects().await, std::collections::BTreeSet::new());
        assert_eq!(staying.objects().await, kept);
        assert!(staying.page().await.body.contains("butter"));

        let again = Silo::create(&client, &test, &going.name, serde_json::json!({})).await;
        again.ready().await;
        assert_ne!(again.uid, going.uid);
        assert_ne!(again.namespace, going.namespace);
        assert_ne!(again.secret("ca").await, authority);
        let page = again.page().await;
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("flour"), "the book is not empty");
    })
    .await;
}
