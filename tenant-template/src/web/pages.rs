//! The pages of the book.

use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use time::{Date, OffsetDateTime};

use super::App;
use super::csrf::{self, Token};
use super::problem::Problem;
use crate::book::{self, Entry, Page};
use crate::entry::{EntryForm, FIRST_DAY, FieldErrors, MAX_DESCRIPTION};

/// The query of the book's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    /// The page to show. Text, so that nonsense shows the first page and not an error.
    page: String,
    /// What was just done: `added` or `deleted`.
    done: String,
}

impl View {
    fn number(&self) -> i64 {
        self.page.parse().unwrap_or(1)
    }

    fn message(&self) -> &'static str {
        match self.done.as_str() {
            "added" => "The entry was added.",
            "deleted" => "The entry was deleted.",
            _ => "",
        }
    }
}

/// The form of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeleteForm {
    csrf: String,
    page: String,
}

#[derive(Template)]
#[template(path = "book.html")]
struct BookPage<'a> {
    app: &'a App,
    token: &'a Token,
    page: &'a Page,
    today: Date,
    form: &'a EntryForm,
    errors: &'a FieldErrors,
    /// What was just done, or empty.
    done: &'a str,
    /// Why the form was not accepted as a whole, or empty.
    refused: &'a str,
}

#[derive(Template)]
#[template(path = "delete.html")]
struct DeletePage<'a> {
    app: &'a App,
    token: &'a Token,
    entry: &'a Entry,
    page: i64,
    refused: &'a str,
}

const EXPIRED: &str =
    "This page had been open for too long. Nothing was changed yet: please send it again.";

/// `GET /`: the book.
pub(super) async fn book(
    State(app): State<App>,
    headers: HeaderMap,
    view: Result<Query<View>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(view) = view.unwrap_or_default();
    let today = today();
    let page = book::page(&app.pool, &app.vault, view.number(), today).await?;
    let token = Token::of(&headers);
    let shown = BookPage {
        app: &app,
        token: &token,
        page: &page,
        today,
        form: &EntryForm::empty(today),
        errors: &FieldErrors::default(),
        done: view.message(),
        refused: "",
    };
    Ok(html(StatusCode::OK, &shown, &token)?)
}

/// `POST /entries`: adds an entry, or shows the book again with what is wrong.
pub(super) async fn add(
    State(app): State<App>,
    headers: HeaderMap,
    form: Result<Form<EntryForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form?;
    let today = today();
    if !csrf::matches(&headers, &form.csrf) {
        return shown_again(&app, &headers, &form, &FieldErrors::default(), EXPIRED).await;
    }
    match form.validate(today) {
        Ok(entry) => {
            let id = book::add(&app.pool, &app.vault, &entry).await?;
            let page = book::page_of(&app.pool, id).await?;
            Ok(Redirect::to(&format!("/?page={page}&done=added#entry-{id}")).into_response())
        }
        Err(errors) => shown_again(&app, &headers, &form, &errors, "").await,
    }
}

async fn shown_again(
    app: &App,
    headers: &HeaderMap,
    form: &EntryForm,
    errors: &FieldErrors,
    refused: &str,
) -> Result<Response, Problem> {
    let today = today();
    let page = book::page(&app.pool, &app.vault, 1, today).await?;
    let token = Token::of(headers);
    let status = if refused.is_empty() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::FORBIDDEN
    };
    let shown = BookPage {
        app,
        token: &token,
        page: &page,
        today,
        form,
        errors,
        done: "",
        refused,
    };
    Ok(html(status, &shown, &token)?)
}

/// `GET /entries/{id}/delete`: asks before deleting.
pub(super) async fn confirm_delete(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    view: Result<Query<View>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(view) = view.unwrap_or_default();
    ask(&app, &headers, &id, view.number(), "").await
}

/// `POST /entries/{id}/delete`: deletes the entry.
pub(super) async fn delete(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    form: Result<Form<DeleteForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form?;
    let page = form.page.parse().unwrap_or(1);
    if !csrf::matches(&headers, &form.csrf) {
        return ask(&app, &headers, &id, page, EXPIRED).await;
    }
    if book::delete(&app.pool, entry_id(&id)?).await? {
        Ok(Redirect::to(&format!("/?page={page}&done=deleted")).into_response())
    } else {
        Err(Problem::NotFound)
    }
}

async fn ask(
    app: &App,
    headers: &HeaderMap,
    id: &str,
    page: i64,
    refused: &str,
) -> Result<Response, Problem> {
    let entry = book::find(&app.pool, &app.vault, entry_id(id)?)
        .await?
        .ok_or(Problem::NotFound)?;
    let token = Token::of(headers);
    let status = if refused.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::FORBIDDEN
    };
    Ok(html(
        status,
        &DeletePage {
            app,
            token: &token,
            entry: &entry,
            page,
            refused,
        },
        &token,
    )?)
}

/// An address with something else than a number in it is one that does not exist.
fn entry_id(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::NotFound)
}

pub(super) async fn not_found() -> Problem {
    Problem::NotFound
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::MethodNotAllowed
}

fn html(
    status: StatusCode,
    page: &impl Template,
    token: &Token,
) -> Result<Response, askama::Error> {
    let mut response = (status, Html(page.render()?)).into_response();
    if let Some((name, value)) = token.cookie() {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The day in UTC; the form lets people choose another.
fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

/// How templates show dates. They pass every field by reference.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "templates pass every field by reference"
)]
mod day {
    use time::Date;

    /// `2026-11-21`, for machines.
    pub(super) fn iso(date: &Date) -> String {
        crate::entry::iso(*date)
    }

    /// `21 Nov`.
    pub(super) fn short(date: &Date) -> String {
        format!("{} {:.3}", date.day(), date.month().to_string())
    }

    /// `21 November 2026`.
    pub(super) fn long(date: &Date) -> String {
        format!("{} {} {}", date.day(), date.month(), date.year())
    }

    /// `November 2026`.
    pub(super) fn month(date: &Date) -> String {
        format!("{} {}", date.month(), date.year())
    }
}
