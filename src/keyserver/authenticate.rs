//! Who asks: a projected token, vouched for by the API server, of a pod that still runs.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use super::problem::{Code, Refusal};
use crate::api::plane::KEYS_AUDIENCE;

/// Longest wait for one answer of the API server.
pub const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest token that is sent on; real ones have about a thousand characters.
const LONGEST_TOKEN: usize = 8 * 1024;

/// What every ServiceAccount's user name starts with.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// What the API server says of the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// The token's own id, which the API server also writes into its audit log.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// A pod that runs, and its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of pod and account.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub account: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// The token's id (`JTI=…`), where the API server gives one.
    pub credential: Option<String>,
}

impl Caller {
    /// The Kubernetes user that this is.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{ACCOUNT_PREFIX}{}:{}", self.namespace, self.account)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            account,
            pod,
            ..
        } = self;
        write!(f, "pod {namespace}/{pod} (account {account})")
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |detail: &str| Err(Refusal::new(Code::NoToken, detail));
    let mut found = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (found.next(), found.next()) {
        (Some(value), None) => value,
        (None, _) => return refuse("the request has no authorization header"),
        (Some(_), Some(_)) => return refuse("the request has more than one authorization header"),
    };
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return refuse("the authorization header is not `Bearer` and a token");
    };
    // A signed token is three parts of base64url; nothing else is worth a question to the API server.
    let plausible = token.len() <= LONGEST_TOKEN
        && token.split('.').count() == 3
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if scheme.eq_ignore_ascii_case("bearer") && plausible {
        Ok(token)
    } else {
        refuse("the authorization header does not hold a ServiceAccount's token")
    }
}

/// Asks the API server whose token this is.
pub async fn review(client: &Client, token: &str) -> Result<Caller, Refusal> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![KEYS_AUDIENCE.to_owned()]),
            token: Some(token.to_owned()),
        },
        ..TokenReview::default()
    };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let options = PostParams::default();
    let review = asked("whose token this is", reviews.create(&options, &review)).await?;
    caller(review.status.as_ref())
}

/// Asks the API server whether the caller's pod still runs. It would not vouch for the token of a pod that is gone, but
/// it does for one that is on its way out.
pub async fn check_pod(client: &Client, caller: &Caller) -> Result<(), Refusal> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &caller.namespace);
    let pod = asked("whether the pod still runs", pods.get_opt(&caller.pod)).await?;
    if pod.is_some_and(|pod| runs(&pod, caller)) {
        return Ok(());
    }
    let detail = format!("{caller} with UID {} does not run", caller.pod_uid);
    Err(Refusal::new(Code::PodGone, detail))
}

/// An answer of the API server, in time.
pub async fn asked<T>(
    question: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Refusal> {
    let failed = |why: String| {
        tracing::warn!(question, why, "the API server could not be asked");
        let detail = format!("cannot ask the API server {question}");
        Refusal::for_now(Code::ApiServerUnavailable, detail, Duration::from_secs(1))
    };
    match tokio::time::timeout(API_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {API_TIMEOUT:?}"))),
    }
}

/// What the API server says of a token. A token that is not bound to a pod is refused, whoever it is for.
fn caller(review: Option<&TokenReviewStatus>) -> Result<Caller, Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(
            Code::TokenRefused,
            format!("the token is refused: {why}"),
        ))
    };
    let Some(review) = review else {
        return refuse("the API server said nothing of it");
    };
    if review.authenticated != Some(true) {
        return refuse(review.error.as_deref().unwrap_or("it is not valid"));
    }
    // An API server that knows no audiences would leave them out and vouch for any token.
    let for_us = review
        .audiences
        .as_ref()
        .is_some_and(|audiences| audiences.iter().any(|audience| audience == KEYS_AUDIENCE));
    if !for_us {
        return refuse("it is not for audience granary-keys");
    }
    let Some(user) = &review.user else {
        return refuse("the API server named no user");
    };
    let account = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix(ACCOUNT_PREFIX)?.split_once(':'));
    let Some((namespace, account)) = account else {
        return refuse("it is not a ServiceAccount's");
    };
    let extra = |name: &str| match user.extra.as_ref()?.get(name)?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    };
    let (Some(pod), Some(pod_uid)) = (extra(POD_NAME), extra(POD_UID)) else {
        return refuse("it is not bound to a pod");
    };
    Ok(Caller {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod,
        pod_uid,
        credential: extra(CREDENTIAL),
    })
}

/// Whether this is the caller's pod, and not on its way out.
fn runs(pod: &Pod, caller: &Caller) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    pod.uid().as_deref() == Some(&caller.pod_uid)
        && account == Some(&caller.account)
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::AUTHORIZATION,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_token_is_taken_as_it_is() {
        assert_eq!(bearer(&headers(&["Bearer a.b-c_.d"])).unwrap(), "a.b-c_.d");
        assert_eq!(bearer(&headers(&["bearer a.b.c"])).unwrap(), "a.b.c");
    }

    #[rstest]
    #[case(&[])]
    #[case(&["Bearer a.b.c", "Bearer d.e.f"])]
    #[case(&["a.b.c"])]
    #[case(&["Basic YWRtaW46YWRtaW4="])]
    #[case(&["Bearer "])]
    #[case(&["Bearer a.b"])]
    #[case(&["Bearer a.b.c d"])]
    #[case(&["Bearer a.b.c\u{e9}"])]
    #[case(&["Bearer a.b.{}"])]
    fn anything_else_is_none(#[case] values: &[&str]) {
        let refusal = bearer(&headers(values)).unwrap_err();
        assert_eq!(refusal.code, Code::NoToken);
    }

    #[test]
    fn a_token_of_a_megabyte_is_not_sent_on() {
        let long = format!("Bearer a.b.{}", "c".repeat(1 << 20));
        assert!(bearer(&headers(&[&long])).is_err());
    }

    fn review() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["granary-keys"],
            "user": {
                "username": "system:serviceaccount:silo-acme-4f1c09ab7d:app",
                "uid": "11111111-0000-0000-0000-000000000000",
                "groups": ["system:serviceaccounts"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["app-1"],
                    "authentication.kubernetes.io/pod-uid": ["22222222-0000-0000-0000-000000000000"],
                    "authentication.kubernetes.io/credential-id": ["JTI=7"],
                },
            },
        })
    }

    fn read(review: Value) -> Result<Caller, Refusal> {
        caller(Some(&serde_json::from_value(review).unwrap()))
    }

    #[test]
    fn a_review_names_account_and_pod() {
        let found = read(review()).unwrap();
        assert_eq!(
            found,
            Caller {
                namespace: "silo-acme-4f1c09ab7d".to_owned(),
                account: "app".to_owned(),
                pod: "app-1".to_owned(),
                pod_uid: "22222222-0000-0000-0000-000000000000".to_owned(),
                credential: Some("JTI=7".to_owned()),
            }
        );
        assert_eq!(
            found.user(),
            "system:serviceaccount:silo-acme-4f1c09ab7d:app"
        );
    }

    #[rstest]
    #[case::not_valid("/authenticated", json!(false))]
    #[case::said_nothing("/authenticated", Value::Null)]
    #[case::knows_no_audiences("/audiences", Value::Null)]
    #[case::for_the_api_server("/audiences", json!(["https://kubernetes.default.svc"]))]
    #[case::nobody("/user", Value::Null)]
    #[case::a_person("/user/username", json!("alice"))]
    #[case::not_quite_an_account("/user/username", json!("system:serviceaccount:acme"))]
    #[case::not_bound("/user/extra", Value::Null)]
    #[case::no_pod("/user/extra/authentication.kubernetes.io~1pod-name", json!([]))]
    #[case::two_pods("/user/extra/authentication.kubernetes.io~1pod-name", json!(["a", "b"]))]
    #[case::no_uid("/user/extra/authentication.kubernetes.io~1pod-uid", json!([]))]
    fn what_the_api_server_does_not_vouch_for_is_refused(
        #[case] place: &str,
        #[case] value: Value,
    ) {
        let mut review = review();
        *review.pointer_mut(place).unwrap() = value;
        assert_eq!(read(review).unwrap_err().code, Code::TokenRefused);
    }

    #[test]
    fn why_the_api_server_refuses_is_passed_on() {
        let refusal = read(json!({"error": "token has expired"})).unwrap_err();
        assert!(refusal.detail.contains("token has expired"), "{refusal}");
        assert_eq!(caller(None).unwrap_err().code, Code::TokenRefused);
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "app-1", "uid": "22222222-0000-0000-0000-000000000000"},
            "spec": {"serviceAccountName": "app", "containers": []},
            "status": {"phase": "Pending"},
        })
    }

    #[rstest]
    #[case::starts("/status/phase", json!("Pending"), true)]
    #[case::works("/status/phase", json!("Running"), true)]
    #[case::not_seen_by_a_kubelet_yet("/status", Value::Null, true)]
    #[case::ended_well("/status/phase", json!("Succeeded"), false)]
    #[case::ended_badly("/status/phase", json!("Failed"), false)]
    #[case::namesake("/metadata/uid", json!("33333333-0000-0000-0000-000000000000"), false)]
    #[case::no_uid("/metadata/uid", Value::Null, false)]
    #[case::another_account("/spec/serviceAccountName", json!("database"), false)]
    fn only_the_very_pod_counts_while_it_runs(
        #[case] place: &str,
        #[case] value: Value,
        #[case] expected: bool,
    ) {
        let mut pod = pod();
        *pod.pointer_mut(place).unwrap() = value;
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(runs(&pod, &read(review()).unwrap()), expected);
    }

    #[test]
    fn a_pod_on_its_way_out_gets_nothing() {
        let mut pod = pod();
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert!(!runs(&pod, &read(review()).unwrap()));
    }
}
