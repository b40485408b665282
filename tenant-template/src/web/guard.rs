//! What every request passes.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::App;
use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// No request takes longer, except a probe that is held open.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// What every answer says to the browser. The policy allows no script at all, and styles and pictures only as files
/// of this origin. `same-origin` keeps the Origin header on our own forms, which `no-referrer` would remove.
const SECURITY_HEADERS: [(HeaderName, &str); 8] = [
    (
        header::STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];

/// Names the request, makes problems into pages, sets the headers and logs one line.
pub(super) async fn answer(State(app): State<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = known_method(request.method());
    // The route, never the address itself: what people type must not reach the log.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let mut response = next.run(request).await;

    if let Some(problem) = response.extensions().get::<Problem>().copied() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.page(&app.display_name, &id);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages hold the tenant's figures; only assets allow themselves to be kept.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::try_from(&id) {
        headers.insert(REQUEST_ID, value);
    }

    let status = response.status().as_u16();
    let latency_ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    if matches!(path.as_str(), "/healthz" | "/readyz" | "/keyz") {
        tracing::debug!(request_id = id, method, path, status, latency_ms, "request");
    } else {
        tracing::info!(request_id = id, method, path, status, latency_ms, "request");
    }
    response
}

/// The id the gateway gave, if it is a harmless one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (8..=64).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(harmless)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Ends requests that take too long, so that a slow body or database cannot hold them for ever.
pub(super) async fn time_limit(request: Request, next: Next) -> Response {
    let held_open = request.uri().path() == "/readyz";
    if held_open {
        return next.run(request).await;
    }
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::TooSlow.into_response(),
    }
}

/// Refuses requests for a host that is not the tenant's: with 421 a browser or gateway that reused a connection
/// opens another one.
pub(super) async fn host(State(app): State<App>, request: Request, next: Next) -> Response {
    let ours = asked_host(&request).is_some_and(|host| host == app.url.host() || in_cluster(&host));
    if ours {
        next.run(request).await
    } else {
        Problem::WrongHost.into_response()
    }
}

/// Hides a page from everybody who comes by the tenant's public name, as all do who come through the gateway.
pub(super) async fn not_public(request: Request, next: Next) -> Response {
    if asked_host(&request).is_some_and(|host| in_cluster(&host)) {
        next.run(request).await
    } else {
        Problem::NotFound.into_response()
    }
}

/// The host that a request is for.
fn asked_host(request: &Request) -> Option<String> {
    let authority = request.uri().authority().map(Authority::as_str);
    let named = || request.headers().get(header::HOST)?.to_str().ok();
    authority.or_else(named).map(host_name)
}

/// Host name without port and trailing dot, in lower case.
fn host_name(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The names under which the app's own Service is reached; nobody can own them in the public DNS.
fn in_cluster(host: &str) -> bool {
    let labels: Vec<&str> = host
        .strip_suffix(".cluster.local")
        .unwrap_or(host)
        .split('.')
        .collect();
    matches!(*labels, ["localhost" | "app"] | ["app", _, "svc"])
}

/// Accepts changes only from our own pages. Browsers send `Origin` with every form; what does not is no browser.
pub(super) async fn origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if safe || from_our_page(request.headers(), app.url.origin()) {
        next.run(request).await
    } else {
        Problem::ForeignOrigin.into_response()
    }
}

fn from_our_page(headers: &HeaderMap, ours: &str) -> bool {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let same_site =
        text(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    same_site && text(header::ORIGIN) == Some(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_compared_without_port_dot_and_case() {
        for authority in [
            "acme.example.com",
            "Acme.Example.com:8443",
            "acme.example.com.",
            "acme.example.com.:443",
        ] {
            assert_eq!(host_name(authority), "acme.example.com");
        }
        assert_eq!(host_name("[::1]:8443"), "[::1]");
    }

    #[test]
    fn only_the_services_own_names_are_in_cluster() {
        for name in [
            "app",
            "localhost",
            "app.silo-acme-1.svc",
            "app.silo-acme-1.svc.cluster.local",
        ] {
            assert!(in_cluster(name), "{name}");
        }
        for name in [
            "",
            "evil.com",
            "app.evil.com",
            "app.svc.evil.com",
            "evil.svc",
            "10.0.0.1",
        ] {
            assert!(!in_cluster(name), "{name}");
        }
    }

    #[test]
    fn changes_come_from_our_origin_only() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect()
        };
        let ours = "https://acme.example.com";
        assert!(from_our_page(&headers(&[("origin", ours)]), ours));
        assert!(from_our_page(
            &headers(&[("origin", ours), ("sec-fetch-site", "same-origin")]),
            ours
        ));
        for foreign in [
            headers(&[]),
            headers(&[("origin", "null")]),
            headers(&[("origin", "https://evil.example.com")]),
            headers(&[("origin", "http://acme.example.com")]),
            headers(&[("origin", "https://acme.example.com:8443")]),
            headers(&[("origin", ours), ("sec-fetch-site", "cross-site")]),
            headers(&[("origin", ours), ("sec-fetch-site", "same-site")]),
        ] {
            assert!(!from_our_page(&foreign, ours), "{foreign:?}");
        }
    }

    #[test]
    fn a_request_id_cannot_carry_anything_else() {
        let with = |id: &str| {
            request_id(&HeaderMap::from_iter([(
                REQUEST_ID,
                HeaderValue::try_from(id).unwrap(),
            )]))
        };
        assert_eq!(with("0193-abcd_EF"), "0193-abcd_EF");
        for odd in [
            "",
            "short",
            "has space in it",
            "quote\"quote\"",
            &"x".repeat(65),
        ] {
            assert_ne!(with(odd), odd);
        }
    }
}
