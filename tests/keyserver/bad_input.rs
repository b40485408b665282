//! Requests that make no sense: each gets a problem that says what to do, and changes nothing.

use rstest::rstest;
use serde_json::Value;

use crate::plane::Plane;

const UID: &str = "4f1c09ab-7d20-4c58-8ccc-000000000001";

fn assert_problem((status, body): (u16, Value), expected: u16, code: &str) {
    assert_eq!(
        (status, body["code"].as_str()),
        (expected, Some(code)),
        "{body}"
    );
    for field in ["detail", "next"] {
        assert!(!body[field].as_str().unwrap().is_empty(), "{body}");
    }
    assert_eq!(body["status"], expected);
}

#[rstest]
#[case::nothing("", 400)]
#[case::garbage("{{{", 400)]
#[case::a_list("[]", 400)]
#[case::no_purpose("{}", 400)]
#[case::another_spelling(r#"{"purpose":"App"}"#, 400)]
#[case::an_unknown_purpose(r#"{"purpose":"root"}"#, 400)]
#[case::an_unknown_field(r#"{"purpose":"app","tenant":"globex"}"#, 400)]
#[case::a_negative_version(r#"{"purpose":"app","have":[-1]}"#, 400)]
#[case::two_values(r#"{"purpose":"app"}{"purpose":"app"}"#, 400)]
#[case::not_utf8("{\"purpose\":\"\u{fffd}\"}", 400)]
#[tokio::test]
async fn bodies_that_are_no_request_for_keys(#[case] body: &str, #[case] status: u16) {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let good = plane
        .request(
            "POST",
            "/v1/unwrap",
            Some(&pod.token),
            r#"{"purpose":"app"}"#,
        )
        .await;
    assert_eq!(good.0, 200, "{}", good.1);
    let rows = plane.audit().await.len();
    let bad = plane
        .request("POST", "/v1/unwrap", Some(&pod.token), body)
        .await;
    assert_problem(bad, status, "bad-request");
    assert_eq!(plane.audit().await.len(), rows);
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let pod = plane.api.pod(&acme.namespace, "app");
    let huge = vec![b' '; 17 * 1024];
    let answer = plane
        .request("POST", "/v1/unwrap", Some(&pod.token), huge)
        .await;
    assert_problem(answer, 413, "too-large");
}

#[tokio::test]
async fn who_does_not_say_who_they_are_gets_nothing() {
    let plane = Plane::start().await;
    for (method, path) in [
        ("POST", "/v1/unwrap"),
        ("GET", &format!("/v1/tenants/{UID}/keys")),
        ("POST", &format!("/v1/tenants/{UID}/destroy")),
    ] {
        let answer = plane.request(method, path, None, "{}").await;
        assert_problem(answer, 401, "no-token");
        let answer = plane
            .request(method, path, Some("no token at all"), "{}")
            .await;
        assert_problem(answer, 401, "no-token");
        let answer = plane.request(method, path, Some("a.b.c"), "{}").await;
        assert_problem(answer, 401, "token-refused");
    }
    assert!(plane.audit().await.is_empty());
}

#[rstest]
#[case("GET", "/v1/unwrap", 405, "method-not-allowed")]
#[case("POST", "/v1/wrap", 404, "no-such-path")]
#[case("POST", "/", 404, "no-such-path")]
#[case("DELETE", "/v1/tenants/x/keys", 405, "method-not-allowed")]
#[tokio::test]
async fn paths_that_are_none(
    #[case] method: &str,
    #[case] path: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let plane = Plane::start().await;
    let answer = plane
        .request(method, path, Some(&plane.operator.token), "")
        .await;
    assert_problem(answer, status, code);
}

#[tokio::test]
async fn a_tenant_that_nobody_knows() {
    let plane = Plane::start().await;
    let token = plane.operator.token.clone();
    for (method, action, body) in [
        ("GET", "keys", ""),
        ("POST", "rotate", r#"{"purpose":"app","from":1}"#),
        ("POST", "retire", r#"{"purpose":"app","version":1}"#),
        ("POST", "rewrap", r#"{"from":1}"#),
        ("POST", "disable", ""),
        ("POST", "enable", "{}"),
        ("POST", "destroy", r#"{"days":7}"#),
        ("POST", "prove", ""),
    ] {
        let path = format!("/v1/tenants/{UID}/{action}");
        let answer = plane.request(method, &path, Some(&token), body).await;
        assert_problem(answer, 404, "tenant-unknown");
        for wrong in ["acme", &UID.to_uppercase(), "..%2F..%2Funwrap"] {
            let path = format!("/v1/tenants/{wrong}/{action}");
            let answer = plane.request(method, &path, Some(&token), body).await;
            assert_problem(answer, 400, "bad-request");
        }
    }
    assert!(plane.audit().await.is_empty());
}

#[rstest]
#[case("GET", "keys?describe=maybe", "")]
#[case("GET", "keys?decrypt=true", "")]
#[case("POST", "keys", r#"{"name":"acme"}"#)]
#[case("POST", "keys", r#"{"name":"acme","namespace":"x","key":"AAAA"}"#)]
#[case("POST", "rotate", r#"{"purpose":"app"}"#)]
#[case("POST", "rotate", r#"{"purpose":"app","from":4294967296}"#)]
#[case("POST", "rewrap", "")]
#[case("POST", "disable", r#"{"really":true}"#)]
#[case("POST", "destroy", "{}")]
#[case("POST", "destroy", r#"{"days":0}"#)]
#[case("POST", "destroy", r#"{"days":31}"#)]
#[tokio::test]
async fn arguments_that_an_action_does_not_take(
    #[case] method: &str,
    #[case] action: &str,
    #[case] body: &str,
) {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let rows = plane.audit().await.len();
    let path = format!("/v1/tenants/{}/{action}", acme.uid);
    let answer = plane
        .request(method, &path, Some(&plane.operator.token), body)
        .await;
    assert_problem(answer, 400, "bad-request");
    assert_eq!(plane.audit().await.len(), rows);
}

#[tokio::test]
async fn another_identity_under_a_known_uid() {
    let plane = Plane::start().await;
    let acme = plane.tenant_with_keys("acme").await;
    let path = format!("/v1/tenants/{}/keys", acme.uid);
    for body in [
        format!(r#"{{"name":"globex","namespace":"{}"}}"#, acme.namespace),
        r#"{"name":"acme","namespace":"default"}"#.to_owned(),
    ] {
        let answer = plane
            .request("POST", &path, Some(&plane.operator.token), body)
            .await;
        assert_problem(answer, 409, "conflict");
    }
    // And another UID under a name that is taken.
    let path = format!("/v1/tenants/{UID}/keys");
    let body = r#"{"name":"acme","namespace":"silo-acme-4f1c09ab7d"}"#;
    let answer = plane
        .request("POST", &path, Some(&plane.operator.token), body)
        .await;
    assert_problem(answer, 409, "conflict");
}
