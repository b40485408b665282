//! What the SDK says went wrong, as one of our errors.

use std::error::Error;
use std::iter::successors;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::EndpointError;
use crate::keys::KmsError;

/// What a call returned, or why it failed.
pub(super) fn outcome<T, E>(
    action: &'static str,
    object: &str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    answer.map_err(|error| Failure::new(action, object, &error))
}

/// A call that failed: what was called for which object, and what came of it.
pub(super) struct Failure {
    action: &'static str,
    object: String,
    kind: Kind,
    detail: String,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AlreadyExists,
    Ciphertext,
    Conflict,
    Denied,
    NotFound,
    Quota,
    State,
    Throttled,
    Unexpected,
    Unreachable,
}

impl Failure {
    /// Of an error that the SDK returned. Only its code and message are kept: a response that could not be read may
    /// contain a key, and the SDK's error would print it.
    fn new<E>(action: &'static str, object: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (kind, detail) = match error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                match answer.err().code() {
                    Some(code) => {
                        let message = answer.err().message().unwrap_or("no message");
                        (classify(code, status), format!("{code}: {message}"))
                    }
                    None => unreadable(status),
                }
            }
            SdkError::TimeoutError(_) => (Kind::Unreachable, "no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                // Not sent because of where it would have gone.
                Some(cause) if causes(cause).any(<dyn Error>::is::<EndpointError>) => {
                    (Kind::Unexpected, chain(cause))
                }
                Some(cause) => (Kind::Unreachable, chain(cause)),
                None => (Kind::Unreachable, "not sent".to_owned()),
            },
            SdkError::ResponseError(answer) => unreadable(answer.raw().status().as_u16()),
            // Nothing was sent and nothing received: there is no key in it.
            other => (Kind::Unexpected, chain(other)),
        };
        Self {
            action,
            object: object.to_owned(),
            kind,
            detail,
        }
    }

    /// The KMS knows no such key or alias.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Somebody made it before.
    pub fn is_already_there(&self) -> bool {
        self.kind == Kind::AlreadyExists
    }

    /// The same kind of change is under way.
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }

    /// The key's state does not allow it; which state that is has to be asked.
    pub fn is_state(&self) -> bool {
        self.kind == Kind::State
    }

    /// Ciphertext, key and encryption context do not belong together.
    pub fn is_ciphertext(&self) -> bool {
        self.kind == Kind::Ciphertext
    }
}

impl From<Failure> for KmsError {
    fn from(failure: Failure) -> Self {
        let Failure {
            action,
            object,
            kind,
            detail,
        } = failure;
        match kind {
            Kind::Denied => Self::Denied {
                action,
                object,
                detail,
            },
            Kind::NotFound => Self::NotFound { key: object },
            Kind::Quota => Self::Quota {
                action,
                object,
                detail,
            },
            Kind::Throttled => Self::Throttled { action, object },
            Kind::Conflict | Kind::Unreachable => Self::Unreachable {
                action,
                object,
                detail,
            },
            Kind::AlreadyExists | Kind::Ciphertext | Kind::State | Kind::Unexpected => {
                Self::Unexpected {
                    action,
                    object,
                    detail,
                }
            }
        }
    }
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source())
}

/// The same on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// An answer that says nothing. One of success was damaged or cut off on its way: what was asked is done.
fn unreadable(status: u16) -> (Kind, String) {
    let kind = match status {
        200..300 => Kind::Unreachable,
        _ => classify("", status),
    };
    (kind, format!("unreadable answer with status {status}"))
}

/// By AWS's error code, and where that is unknown by the status.
fn classify(code: &str, status: u16) -> Kind {
    match code {
        "AlreadyExistsException" => Kind::AlreadyExists,
        "InvalidCiphertextException" | "IncorrectKeyException" => Kind::Ciphertext,
        "ConflictException" => Kind::Conflict,
        "AccessDeniedException"
        | "AccessDenied"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorizedException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Kind::Denied,
        "NotFoundException" => Kind::NotFound,
        "LimitExceededException" => Kind::Quota,
        "DisabledException" | "KMSInvalidStateException" => Kind::State,
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "TooManyRequestsException" => Kind::Throttled,
        "DependencyTimeoutException"
        | "InternalFailure"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "RequestTimeout"
        | "ServiceUnavailable" => Kind::Unreachable,
        _ => match status {
            401 | 403 => Kind::Denied,
            429 => Kind::Throttled,
            408 | 500.. => Kind::Unreachable,
            _ => Kind::Unexpected,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        assert_eq!(classify("SomethingNew", 403), Kind::Denied);
        assert_eq!(classify("SomethingNew", 429), Kind::Throttled);
        assert_eq!(classify("SomethingNew", 503), Kind::Unreachable);
        assert_eq!(classify("SomethingNew", 400), Kind::Unexpected);
        assert_eq!(classify("ThrottlingException", 400), Kind::Throttled);
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let failure = |kind| {
            KmsError::from(Failure {
                action: "Decrypt",
                object: "arn:aws:kms:eu:1:key/1".to_owned(),
                kind,
                detail: "because".to_owned(),
            })
        };
        for kind in [Kind::Throttled, Kind::Unreachable, Kind::Conflict] {
            assert!(failure(kind).is_transient(), "{kind:?}");
        }
        for kind in [
            Kind::AlreadyExists,
            Kind::Ciphertext,
            Kind::Denied,
            Kind::NotFound,
            Kind::Quota,
            Kind::State,
            Kind::Unexpected,
        ] {
            assert!(!failure(kind).is_transient(), "{kind:?}");
        }
    }
}
