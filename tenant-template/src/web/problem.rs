//! Answers that are not the page that was asked for. They say what to do, and nothing about the inside.

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::book;
use crate::logging::{chain, query_failure};
use crate::vault::SealError;

/// A problem to show as a page. [`super::guard::answer`] makes the page, because it knows the request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    NotFound,
    MethodNotAllowed,
    /// The request was sent from another site, or hides where it came from.
    ForeignOrigin,
    WrongHost,
    TooLarge,
    BadForm,
    TooSlow,
    DatabaseAway,
    KeysMissing,
    Internal,
}

impl Problem {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadForm => StatusCode::BAD_REQUEST,
            Self::TooSlow | Self::DatabaseAway | Self::KeysMissing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => (
                "Nothing here",
                "This page does not exist, or the entry was deleted.",
            ),
            Self::MethodNotAllowed => (
                "That does not work here",
                "This address does not take that kind of request.",
            ),
            Self::ForeignOrigin => (
                "Not sent from this book",
                "For your safety, changes are only accepted from the book’s own pages. Open the book and try again.",
            ),
            Self::WrongHost => (
                "Wrong address",
                "This book is not served under the address that was asked for.",
            ),
            Self::TooLarge => (
                "Too much at once",
                "What was sent is larger than any entry can be.",
            ),
            Self::BadForm => (
                "That could not be read",
                "The form did not arrive as it should. Open the book and try again.",
            ),
            Self::TooSlow => (
                "That took too long",
                "Nothing is wrong with what you did. Please try again in a moment.",
            ),
            Self::DatabaseAway | Self::KeysMissing => (
                "The book cannot be opened right now",
                "Your entries are safe. Please try again in a moment.",
            ),
            Self::Internal => (
                "Something went wrong",
                "It is not your fault. If it happens again, tell the person who runs this book the reference below.",
            ),
        }
    }

    /// The page, with the reference under which the log has the details.
    pub(super) fn page(self, book: &str, reference: &str) -> Response {
        let (title, message) = self.text();
        let page = ProblemPage {
            book,
            title,
            message,
            reference,
        };
        let mut response = match page.render() {
            Ok(html) => Html(html).into_response(),
            // Without its template the title still helps.
            Err(_) => title.into_response(),
        };
        *response.status_mut() = self.status();
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<sqlx::Error> for Problem {
    /// Logs the cause, which the page does not show.
    fn from(error: sqlx::Error) -> Self {
        let reason = query_failure(&error);
        if is_away(&error) {
            tracing::warn!(reason, "the database is away");
            Self::DatabaseAway
        } else {
            tracing::error!(reason, "a query failed");
            Self::Internal
        }
    }
}

/// Whether the database could not be asked at all, so that the same request may work later.
fn is_away(error: &sqlx::Error) -> bool {
    /// Classes of SQLSTATE: no connection, login refused, database missing, out of resources, starting or stopping.
    const AWAY: [&str; 5] = ["08", "28", "3D", "53", "57"];
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| AWAY.iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

impl From<book::Error> for Problem {
    /// Logs the cause, which the page does not show.
    fn from(error: book::Error) -> Self {
        match error {
            book::Error::Database(error) => error.into(),
            book::Error::Keys(error) => error.into(),
        }
    }
}

impl From<SealError> for Problem {
    /// Logs the cause, which the page does not show.
    fn from(error: SealError) -> Self {
        match error {
            SealError::NoKeys(_) => {
                tracing::warn!(reason = %error, "the keys are missing");
                Self::KeysMissing
            }
            SealError::Failed => {
                tracing::error!(reason = %error, "a description could not be sealed");
                Self::Internal
            }
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        tracing::error!(reason = chain(&error), "a page could not be made");
        Self::Internal
    }
}

impl From<FormRejection> for Problem {
    fn from(rejection: FormRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self::TooLarge
        } else {
            Self::BadForm
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    book: &'a str,
    title: &'a str,
    message: &'a str,
    reference: &'a str,
}
