//! JSON logs on standard output, one object a line.
//!
//! Never logged: amounts, descriptions, form bodies, cookies, tokens, query strings, keys.

use std::error::Error;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Starts logging with `filter` (`info`, or per target: `info,sqlx=debug`).
pub fn init(filter: &Targets) {
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_filter(filter.clone());
    // A second start (several servers in one test process) keeps the first.
    let _ = tracing_subscriber::registry().with(json).try_init();
}

/// Logs why the process ends.
pub fn failure(error: &dyn Error) {
    tracing::error!(reason = chain(error), "stopped");
}

/// The error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// A failed query in one line. Messages of the database can quote values of the book, so only their code is kept.
#[must_use]
pub fn query_failure(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            match database.constraint() {
                Some(constraint) => format!("the database answered {code} about {constraint}"),
                None => format!("the database answered {code}"),
            }
        }
        other => chain(other),
    }
}
