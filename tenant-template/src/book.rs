//! The cash book's queries. Every statement is a constant; every value is a parameter. Descriptions are sealed here on
//! their way in and opened on their way out, so that nothing else has to know.

use std::collections::HashMap;

use sqlx::{PgConnection, PgPool};
use time::Date;
use uuid::Uuid;

use crate::entry::NewEntry;
use crate::money::Amount;
use crate::vault::{NoKeys, Place, SealError, Unreadable, Vault};

/// Entries on one page.
pub const PAGE_SIZE: i64 = 50;

/// Why the book could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("a query failed")]
    Database(#[from] sqlx::Error),
    /// The keys are not there, or could not be used.
    #[error("descriptions cannot be sealed or opened")]
    Keys(#[from] SealError),
}

impl From<NoKeys> for Error {
    fn from(error: NoKeys) -> Self {
        Self::Keys(error.into())
    }
}

/// What an entry was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    /// The text.
    Text(String),
    /// It was altered outside the book, or its key is gone.
    Unreadable,
}

impl Description {
    /// The text, unless it is unreadable.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unreadable => None,
        }
    }
}

/// One entry of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Identity; grows with time.
    pub id: i64,
    /// The day it happened.
    pub on: Date,
    /// What it was for.
    pub description: Description,
    /// Positive for income, negative for expense.
    pub amount: Amount,
}

/// What came in and went out in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sum of the income.
    pub income: Amount,
    /// Sum of the expenses: zero or negative.
    pub expense: Amount,
}

/// The entries of one month that are on this page, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthOfPage {
    /// First day of the month.
    pub month: Date,
    /// Totals of the whole month, also of its entries on other pages.
    pub totals: Totals,
    /// The entries, each with the balance of the book after it.
    pub lines: Vec<(Entry, Amount)>,
}

/// One page of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Months on this page, newest first.
    pub months: Vec<MonthOfPage>,
    /// Balance of the whole book.
    pub balance: Amount,
    /// Totals of the current month.
    pub current: Totals,
    /// Entries in the whole book.
    pub count: i64,
    /// This page; the first is 1.
    pub number: i64,
    /// Number of pages, at least 1.
    pub pages: i64,
}

/// An entry as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    on_date: Date,
    /// The text itself, where it is not sealed yet; else a filler.
    description: String,
    description_sealed: Option<Vec<u8>>,
    amount: i64,
}

impl Row {
    /// The description, opened.
    pub(crate) fn text(&self, vault: &Vault) -> Result<String, Unreadable> {
        match &self.description_sealed {
            Some(sealed) => vault.open(description_of(self.id), sealed),
            None => Ok(self.description.clone()),
        }
    }

    /// The entry with its description opened. One that cannot be read is logged and spoils nothing else.
    fn open(self, vault: &Vault) -> Entry {
        let description = match self.text(vault) {
            Ok(text) => Description::Text(text),
            Err(why) => {
                tracing::error!(entry = self.id, reason = %why, "a description cannot be read");
                Description::Unreadable
            }
        };
        Entry {
            id: self.id,
            on: self.on_date,
            description,
            amount: Amount(self.amount),
        }
    }
}

/// Where the sealed description of an entry belongs.
#[must_use]
pub fn description_of(entry: i64) -> Place {
    Place {
        table: "entry",
        column: "description_sealed",
        row: entry,
    }
}

/// Reads page `number` (the nearest that exists) as of one moment, so that its sums agree with its lines.
pub async fn page(pool: &PgPool, vault: &Vault, number: i64, today: Date) -> Result<Page, Error> {
    // Without any key nothing could be read: better a clear answer than a page of unreadable lines.
    vault.keys()?;
    let mut snapshot = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let (count, balance): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(sum(amount), 0)::bigint FROM entry")
            .fetch_one(&mut *snapshot)
            .await?;
    let pages = (count.max(1) - 1) / PAGE_SIZE + 1;
    let number = number.clamp(1, pages);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, on_date, description, description_sealed, amount FROM entry \
         ORDER BY on_date DESC, id DESC LIMIT $1 OFFSET $2",
    )
    .bind(PAGE_SIZE)
    .bind((number - 1) * PAGE_SIZE)
    .fetch_all(&mut *snapshot)
    .await?;
    let entries: Vec<Entry> = rows.into_iter().map(|row| row.open(vault)).collect();
    let start = match entries.first() {
        Some(newest) if number > 1 => balance_after(&mut snapshot, newest).await?,
        _ => balance,
    };
    let oldest = entries.last().map_or(today, |entry| entry.on);
    let newest = entries.first().map_or(today, |entry| entry.on);
    let totals = month_totals(&mut snapshot, oldest, newest, today).await?;
    snapshot.commit().await?;
    Ok(Page {
        months: by_month(entries, Amount(start), &totals),
        balance: Amount(balance),
        current: totals.get(&month_of(today)).copied().unwrap_or_default(),
        count,
        number,
        pages,
    })
}

async fn balance_after(connection: &mut PgConnection, entry: &Entry) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(sum(amount), 0)::bigint FROM entry WHERE (on_date, id) <= ($1, $2)",
    )
    .bind(entry.on)
    .bind(entry.id)
    .fetch_one(connection)
    .await
}

/// Totals of the months from `oldest` to `newest`, and of the month of `today`.
async fn month_totals(
    connection: &mut PgConnection,
    oldest: Date,
    newest: Date,
    today: Date,
) -> Result<HashMap<Date, Totals>, sqlx::Error> {
    let rows: Vec<(Date, i64, i64)> = sqlx::query_as(
        "SELECT date_trunc('month', on_date::timestamp)::date AS month, \
                coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint, \
                coalesce(sum(amount) FILTER (WHERE amount < 0), 0)::bigint \
         FROM entry \
         WHERE (on_date >= $1 AND on_date < $2 + interval '1 month') \
            OR (on_date >= $3 AND on_date < $3 + interval '1 month') \
         GROUP BY month",
    )
    .bind(month_of(oldest))
    .bind(month_of(newest))
    .bind(month_of(today))
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(month, income, expense)| {
            (
                month,
                Totals {
                    income: Amount(income),
                    expense: Amount(expense),
                },
            )
        })
        .collect())
}

/// Groups `entries` (newest first) by month; `balance` is the one after the newest of them.
fn by_month(
    entries: Vec<Entry>,
    mut balance: Amount,
    totals: &HashMap<Date, Totals>,
) -> Vec<MonthOfPage> {
    let mut months: Vec<MonthOfPage> = Vec::new();
    for entry in entries {
        let month = month_of(entry.on);
        let after = balance;
        balance = Amount(balance.0 - entry.amount.0);
        match months.last_mut() {
            Some(last) if last.month == month => last.lines.push((entry, after)),
            _ => months.push(MonthOfPage {
                month,
                totals: totals.get(&month).copied().unwrap_or_default(),
                lines: vec![(entry, after)],
            }),
        }
    }
    months
}

/// First day of the month of `date`.
#[must_use]
pub fn month_of(date: Date) -> Date {
    // Every month has a first day.
    date.replace_day(1).unwrap_or(date)
}

/// Writes `entry` and returns its identity. The same form sent twice (a double click, a lost answer) is written once.
pub async fn add(pool: &PgPool, vault: &Vault, entry: &NewEntry) -> Result<i64, Error> {
    let mut connection = pool.acquire().await?;
    if let Some(id) = insert(&mut connection, vault, entry, entry.request).await? {
        return Ok(id);
    }
    let sent: Option<Row> = sqlx::query_as(
        "SELECT id, on_date, description, description_sealed, amount FROM entry \
         WHERE request = $1 AND on_date = $2 AND amount = $3",
    )
    .bind(entry.request)
    .bind(entry.on)
    .bind(entry.amount.0)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(sent) = sent
        && sent.text(vault).as_ref() == Ok(&entry.description)
    {
        return Ok(sent.id);
    }
    // The form was sent before with something else in it (back, change, send): that is another entry.
    Ok(insert(&mut connection, vault, entry, Uuid::new_v4())
        .await?
        .ok_or(sqlx::Error::RowNotFound)?)
}

async fn insert(
    connection: &mut PgConnection,
    vault: &Vault,
    entry: &NewEntry,
    request: Uuid,
) -> Result<Option<i64>, Error> {
    // The description is bound to its row, so the row's number must be known before it is written.
    let id: i64 = sqlx::query_scalar("SELECT nextval(pg_get_serial_sequence('entry', 'id'))")
        .fetch_one(&mut *connection)
        .await?;
    let sealed = vault.seal(description_of(id), &entry.description)?;
    let written = sqlx::query_scalar(
        "INSERT INTO entry (id, request, on_date, description_sealed, amount) OVERRIDING SYSTEM VALUE \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (request) DO NOTHING RETURNING id",
    )
    .bind(id)
    .bind(request)
    .bind(entry.on)
    .bind(sealed)
    .bind(entry.amount.0)
    .fetch_optional(connection)
    .await?;
    Ok(written)
}

/// The page that shows the entry, or the first when it is gone.
pub async fn page_of(pool: &PgPool, id: i64) -> Result<i64, sqlx::Error> {
    let newer: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM entry AS newer, entry AS this \
         WHERE this.id = $1 AND (newer.on_date, newer.id) > (this.on_date, this.id)",
    )
    .bind(id)
    .fetch_one(pool)
    .await?;
    Ok(newer / PAGE_SIZE + 1)
}

/// Finds an entry.
pub async fn find(pool: &PgPool, vault: &Vault, id: i64) -> Result<Option<Entry>, Error> {
    vault.keys()?;
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, on_date, description, description_sealed, amount FROM entry WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| row.open(vault)))
}

/// Deletes an entry; false when there was none.
pub async fn delete(pool: &PgPool, id: i64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM entry WHERE id = $1")
        .bind(id)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn months_are_grouped_and_balances_run_backwards() {
        let entry = |id, on, amount| Entry {
            id,
            on,
            description: Description::Text("x".to_owned()),
            amount: Amount(amount),
        };
        let entries = vec![
            entry(3, date!(2026 - 11 - 02), -500),
            entry(2, date!(2026 - 11 - 01), 2_000),
            entry(1, date!(2026 - 10 - 31), 1_000),
        ];
        let november = Totals {
            income: Amount(2_000),
            expense: Amount(-500),
        };
        let months = by_month(
            entries,
            Amount(2_500),
            &HashMap::from([(date!(2026 - 11 - 01), november)]),
        );
        let balances: Vec<Vec<i64>> = months
            .iter()
            .map(|month| month.lines.iter().map(|(_, after)| after.0).collect())
            .collect();
        assert_eq!(balances, [vec![2_500, 3_000], vec![1_000]]);
        assert_eq!(months[0].totals, november);
        assert_eq!(months[1].totals, Totals::default());
    }
}
