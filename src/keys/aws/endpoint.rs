//! No key leaves in the clear: a KMS is spoken to over TLS, unless it is on this machine.

use std::net::IpAddr;

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use http::Uri;

/// An endpoint that is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Keys would go over the network in the clear.
    #[error(
        "the KMS endpoint {0} has no TLS, and unwrapped keys would be readable on the way: use https, or an address of this machine"
    )]
    Plain(String),
    /// It is no address.
    #[error("{0:?} is no KMS endpoint: write it as https://HOST or https://HOST:PORT")]
    NoUrl(String),
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// In the clear, on this machine.
    Loopback,
    /// Over TLS.
    Tls,
}

/// Refuses what is no URL, and `http` to anywhere but this machine.
pub(super) fn check(url: &str) -> Result<Transport, EndpointError> {
    let no_url = || EndpointError::NoUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| no_url())?;
    let host = uri.host().ok_or_else(no_url)?;
    match uri.scheme_str() {
        Some("https") => Ok(Transport::Tls),
        Some("http") if is_loopback(host) => Ok(Transport::Loopback),
        Some("http") => Err(EndpointError::Plain(url.to_owned())),
        _ => Err(no_url()),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The same for each request, whoever named its endpoint.
#[derive(Debug)]
pub(super) struct HttpsOutsideLoopback;

impl Intercept for HttpsOutsideLoopback {
    fn name(&self) -> &'static str {
        "HttpsOutsideLoopback"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        check(context.request().uri())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://kms.eu-central-1.amazonaws.com")]
    #[case("https://10.0.0.7:8443")]
    #[case("http://127.0.0.1:5000")]
    #[case("http://127.8.0.1")]
    #[case("http://[::1]:5000/")]
    #[case("http://localhost:5000")]
    fn tls_or_this_machine(#[case] url: &str) {
        let expected = if url.starts_with("https:") {
            Transport::Tls
        } else {
            Transport::Loopback
        };
        assert_eq!(check(url), Ok(expected));
    }

    #[rstest]
    #[case("http://kms.eu-central-1.amazonaws.com")]
    #[case("http://10.0.0.7:5000")]
    #[case("http://0.0.0.0:5000")]
    #[case("http://localhost.example:5000")]
    #[case("http://127.0.0.1.example:5000")]
    #[case("http://127.0.0.1@kms.example:5000")]
    #[case("http://[::2]:5000")]
    fn keys_do_not_go_over_the_network_in_the_clear(#[case] url: &str) {
        assert_eq!(check(url), Err(EndpointError::Plain(url.to_owned())));
    }

    #[rstest]
    #[case("")]
    #[case("kms.example")]
    #[case("kms.example:443")]
    #[case("ftp://kms.example")]
    #[case("https://")]
    #[case("https:///path")]
    fn what_is_no_url_is_refused(#[case] url: &str) {
        assert_eq!(check(url), Err(EndpointError::NoUrl(url.to_owned())));
    }
}
