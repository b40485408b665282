//! Proof that a form came from one of our own pages, without accounts: the page sets a cookie that no other site can
//! set (`__Host-`) and repeats its value in the form, which no other site can read.

use axum::http::{HeaderMap, HeaderValue, header};
use uuid::Uuid;

const COOKIE: &str = "__Host-book";

/// The token of one browser.
#[derive(Clone)]
pub(super) struct Token {
    value: String,
    fresh: bool,
}

impl Token {
    /// The token the browser already has, or a new one (122 random bits).
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match sent(headers) {
            Some(value) => Self {
                value,
                fresh: false,
            },
            None => Self {
                value: Uuid::new_v4().simple().to_string(),
                fresh: true,
            },
        }
    }

    /// For the hidden field of a form.
    pub(super) fn value(&self) -> &str {
        &self.value
    }

    /// The header that gives the token to the browser; none if it has it.
    pub(super) fn cookie(&self) -> Option<(header::HeaderName, HeaderValue)> {
        if !self.fresh {
            return None;
        }
        let cookie = format!(
            "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax",
            self.value
        );
        HeaderValue::try_from(cookie)
            .ok()
            .map(|value| (header::SET_COOKIE, value))
    }
}

/// Whether the form and the cookie carry the same token.
pub(super) fn matches(headers: &HeaderMap, form: &str) -> bool {
    sent(headers).is_some_and(|cookie| same(cookie.as_bytes(), form.as_bytes()))
}

/// Compares in a time that does not tell where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

/// The token in the request's cookies, if it is well formed.
fn sent(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, value)| {
            *name == COOKIE
                && value.len() == 32
                && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(cookie).unwrap())])
    }

    #[test]
    fn a_token_is_kept_and_matches_only_itself() {
        let first = Token::of(&HeaderMap::new());
        let (_, cookie) = first.cookie().unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(
            cookie.starts_with("__Host-book=")
                && cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax")
        );

        let browser = headers(&format!("other=1; {COOKIE}={}", first.value()));
        let second = Token::of(&browser);
        assert_eq!(second.value(), first.value());
        assert!(second.cookie().is_none());
        assert!(matches(&browser, first.value()));
        assert!(!matches(&browser, ""));
        assert!(!matches(&browser, Token::of(&HeaderMap::new()).value()));
        assert!(!matches(&HeaderMap::new(), first.value()));
    }

    #[test]
    fn an_empty_or_odd_cookie_never_matches() {
        for value in ["", "short", &"z".repeat(32)] {
            let browser = headers(&format!("{COOKIE}={value}"));
            assert!(!matches(&browser, value));
            assert!(Token::of(&browser).cookie().is_some());
        }
    }
}
