//! `granary audit tail --follow`: a line for each row, as they come.

use std::time::Duration;

use super::super::access::{Access, explain};
use super::super::failure::Failure;
use super::super::globals::Output;
use super::super::printer::{Printer, yaml};
use super::super::table::plain;
use super::{PAGE, rows};
use crate::audit::{self, Filter, Record};

/// How often new rows are asked for.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints what comes after row `seen`, until the process is told to stop.
pub async fn run(
    filter: &Filter,
    mut seen: i64,
    access: &Access,
    printer: Printer,
) -> Result<(), Failure> {
    loop {
        let mut connection = access.connection().await?;
        let page = audit::page(&mut connection, filter, seen, PAGE)
            .await
            .map_err(|error| explain("cannot read the audit", &error))?;
        drop(connection);
        for row in &page {
            printer.data(&line(row, printer.output())?)?;
            seen = row.seq;
        }
        if page.len() < PAGE as usize {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One row, without knowing how wide others are.
pub fn line(row: &Record, output: Output) -> Result<String, Failure> {
    match output {
        Output::Json => rows::json_line(row),
        Output::Yaml => Ok(format!("---\n{}", yaml(row)?)),
        Output::Name => Ok(row.seq.to_string()),
        Output::Table | Output::Wide => {
            Ok(plain(&rows::cells(row, output == Output::Wide).join("  ")))
        }
    }
}
