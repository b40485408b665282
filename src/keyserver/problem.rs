//! What a caller is told when a request is refused: a status, a stable code, what is wrong and what to do.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The body of every answer that is not a success, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// One of [`Code`], as text.
    pub code: String,
    /// What is wrong, naming the object.
    pub detail: String,
    /// What to do.
    pub next: String,
    /// A stable word that says more than the code, where there is one: what the KMS answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds after which the same request may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// Declares the codes with their text, status and what to do about each.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $next:literal;)*) => {
        /// Why a request was refused. Callers decide by it, so a code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// The code as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What the caller can do.
            const fn next(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }
        }
    };
}

codes! {
    /// No bearer token, or something that is none.
    NoToken = "no-token", UNAUTHORIZED,
        "send the pod's projected token of audience granary-keys as `authorization: Bearer …`";
    /// The API server does not vouch for the token.
    TokenRefused = "token-refused", UNAUTHORIZED,
        "read the token file anew: it has to be a projected token of audience granary-keys, not expired, of a pod that runs";
    /// The pod that the token was made for is not there any more.
    PodGone = "pod-gone", UNAUTHORIZED,
        "nothing: keys are for pods that run";
    /// The caller belongs to no silo and is not the operator.
    NotInSilo = "not-in-silo", FORBIDDEN,
        "only pods in a silo's namespace get keys; `kubectl get tenants` shows each tenant's namespace";
    /// This account may not have keys of this purpose.
    PurposeNotAllowed = "purpose-not-allowed", FORBIDDEN,
        "ask for the account's own purpose: `app` and `migrate` get app, `database` gets backup";
    /// Only the operator may manage keys.
    NotOperator = "not-operator", FORBIDDEN,
        "keys are managed with `granary keys`, which goes through the operator";
    /// The operator may do anything with keys but read them.
    OperatorMayNotUnwrap = "operator-may-not-unwrap", FORBIDDEN,
        "nothing: only a silo's own pods get its keys";
    /// The tenant's state allows no keys.
    TenantNotLive = "tenant-not-live", FORBIDDEN,
        "`granary status NAME` shows the tenant's state; `granary reinstate NAME` undoes an offboarding in its grace period";
    /// The key's state allows no use.
    KeyNotEnabled = "key-not-enabled", FORBIDDEN,
        "`granary keys list NAME` shows the key's state";
    /// There is no tenant with this UID in the registry.
    TenantUnknown = "tenant-unknown", NOT_FOUND,
        "check the UID: `kubectl get tenant NAME -o jsonpath={.metadata.uid}`";
    /// The tenant has no key of this purpose yet.
    NoKeyYet = "no-key-yet", NOT_FOUND,
        "wait: the operator has the key made while it builds the silo";
    /// There is no such path.
    NoSuchPath = "no-such-path", NOT_FOUND,
        "check the path and the versions of client and server";
    /// The path does not take this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED,
        "check the method and the versions of client and server";
    /// The body is not what the path takes.
    BadRequest = "bad-request", BAD_REQUEST,
        "send the JSON object that this path takes";
    /// The body is too large.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE,
        "send the JSON object that this path takes";
    /// The object is in another state than the request supposes.
    Conflict = "conflict", CONFLICT,
        "read the tenant's keys again and decide anew";
    /// The tenant still lives, so its key is not destroyed.
    TenantLive = "tenant-live", CONFLICT,
        "offboard the tenant first: `granary offboard NAME`";
    /// The caller asks too often.
    TooManyRequests = "too-many-requests", TOO_MANY_REQUESTS,
        "wait as long as `retryAfterSeconds` says";
    /// The KMS refuses the key server.
    KmsDenied = "kms-denied", BAD_GATEWAY,
        "check the key server's credentials and the key's policy at the KMS";
    /// What the KMS or the registry holds does not fit together.
    KeyUnusable = "key-unusable", BAD_GATEWAY,
        "compare the key at the KMS with `granary keys list NAME`, and run `granary audit verify`";
    /// The KMS cannot be reached or asks for patience.
    KmsUnavailable = "kms-unavailable", SERVICE_UNAVAILABLE,
        "wait: the same request succeeds when the KMS answers again";
    /// The registry cannot be reached.
    RegistryUnavailable = "registry-unavailable", SERVICE_UNAVAILABLE,
        "wait: the same request succeeds when the registry answers again";
    /// The API server cannot be asked.
    ApiServerUnavailable = "api-server-unavailable", SERVICE_UNAVAILABLE,
        "wait: the same request succeeds when the API server answers again";
    /// A fault of this server.
    Internal = "internal", INTERNAL_SERVER_ERROR,
        "look into the key server's log";
}

impl Code {
    /// Whether the caller asked for something that it may not have, which the audit then says.
    #[must_use]
    pub fn is_denial(self) -> bool {
        self.status() == StatusCode::FORBIDDEN
    }
}

/// A request that is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// What is wrong, naming the object.
    pub detail: String,
    /// A stable word that says more than the code, where there is one.
    pub reason: Option<&'static str>,
    /// How long to wait before the same request may succeed.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Refused for this reason.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            reason: None,
            retry_after: None,
        }
    }

    /// Refused for now.
    pub fn for_now(code: Code, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(code, detail)
        }
    }

    fn problem(self) -> Problem {
        Problem {
            status: self.code.status().as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail,
            next: self.code.next().to_owned(),
            reason: self.reason.map(str::to_owned),
            // A fraction of a second counts as a whole one: earlier would be too early.
            retry_after_seconds: self
                .retry_after
                .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code;
        let problem = self.problem();
        let retry_after = problem.retry_after_seconds;
        let mut response = (code.status(), Json(problem)).into_response();
        response.extensions_mut().insert(Outcome(code.as_str()));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_refusal_says_what_is_wrong_and_what_to_do() {
        let refusal = Refusal::for_now(
            Code::TooManyRequests,
            "pod silo-acme/app-1 asks too often",
            Duration::from_millis(1200),
        );
        let response = refusal.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({
                "status": 429, "code": "too-many-requests", "detail": "pod silo-acme/app-1 asks too often",
                "next": "wait as long as `retryAfterSeconds` says", "retryAfterSeconds": 2,
            })
        );
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_who_they_are() {
        let response = Refusal::new(Code::NoToken, "no token").into_response();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}
