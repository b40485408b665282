//! `granary audit`: who did what, and whether the record of it is whole.

mod filter;
mod follow;
mod rows;
mod verdict;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::access::{Access, explain};
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::Printer;
use crate::audit::{self, Head};
use filter::FilterArgs;
use rows::Rows;
use verdict::Verdict;

/// Rows that are read at once.
const PAGE: u32 = 500;

/// Read and check the audit: who did what
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Namespace that Granary is installed in
    #[arg(short, long, default_value = "granary-system", global = true)]
    namespace: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    List(ListArgs),
    Tail(TailArgs),
    Verify(VerifyArgs),
    Export(ExportArgs),
}

/// List what was done, oldest first
#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most this many rows; more of them is an error, so that nothing is left out unnoticed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,
}

/// Show what was done last
#[derive(Args, Debug)]
struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many rows
    #[arg(long, value_name = "N", default_value_t = 20)]
    lines: u32,
    /// Go on with what is done from now on, a line each
    #[arg(short, long)]
    follow: bool,
}

/// Check that no row of the audit was edited, removed, moved or added
#[derive(Args, Debug)]
struct VerifyArgs {
    /// Head that an earlier check printed and that was kept elsewhere: shows also what was cut off or written anew since
    #[arg(long, value_name = "SEQ:HASH")]
    head: Option<Head>,
}

/// Print the audit as JSON, a row a line, oldest first
#[derive(Args, Debug)]
struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs `granary audit …`.
pub async fn run(args: &AuditArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let access = Access::open(cluster, &args.namespace).await?;
    match &args.task {
        Task::List(args) => list(args, &access, printer).await,
        Task::Tail(args) => tail(args, &access, printer).await,
        Task::Verify(args) => verify(args, &access, printer).await,
        Task::Export(args) => export(args, &access, printer).await,
    }
}

async fn list(args: &ListArgs, access: &Access, printer: Printer) -> Result<(), Failure> {
    let filter = args.filter.filter(Timestamp::now());
    let mut connection = access.connection().await?;
    let mut items = Vec::new();
    loop {
        let after = items.last().map_or(0, |row: &audit::Record| row.seq);
        let page = audit::page(&mut connection, &filter, after, PAGE)
            .await
            .map_err(|error| explain("cannot read the audit", &error))?;
        let end = page.len() < PAGE as usize;
        items.extend(page);
        if items.len() > args.limit {
            return Err(Failure::new(
                Exit::Refused,
                format!("there are more than {} rows", args.limit),
            )
            .next("granary audit list --since 24h   # or another filter, or a higher --limit")
            .next("granary audit export   # all of them, a row a line"));
        }
        if end {
            break;
        }
    }
    if items.is_empty() {
        printer.note("No rows found.");
    }
    printer.show(&Rows::new(items))
}

async fn tail(args: &TailArgs, access: &Access, printer: Printer) -> Result<(), Failure> {
    let filter = args.filter.filter(Timestamp::now());
    let mut connection = access.connection().await?;
    // Taken first: what comes meanwhile is then shown by what follows, and not lost in between.
    let head = audit::head(&mut connection)
        .await
        .map_err(|error| explain("cannot read the audit", &error))?;
    let rows = audit::latest(&mut connection, &filter, args.lines)
        .await
        .map_err(|error| explain("cannot read the audit", &error))?;
    if !args.follow {
        if rows.is_empty() {
            printer.note("No rows found.");
        }
        return printer.show(&Rows::new(rows));
    }
    let seen = rows.last().map_or(head.seq, |row| row.seq.max(head.seq));
    for row in &rows {
        printer.data(&follow::line(row, printer.output())?)?;
    }
    drop(connection);
    follow::run(&filter, seen, access, printer).await
}

async fn verify(args: &VerifyArgs, access: &Access, printer: Printer) -> Result<(), Failure> {
    let mut connection = access.connection().await?;
    let report = audit::verify(&mut connection, args.head)
        .await
        .map_err(|error| explain("cannot check the audit", &error))?;
    let verdict = Verdict::new(report);
    printer.show(&verdict)?;
    verdict.into_result()
}

async fn export(args: &ExportArgs, access: &Access, printer: Printer) -> Result<(), Failure> {
    let filter = args.filter.filter(Timestamp::now());
    let mut connection = access.connection().await?;
    let mut after = 0;
    loop {
        let page = audit::page(&mut connection, &filter, after, PAGE)
            .await
            .map_err(|error| explain("cannot read the audit", &error))?;
        for row in &page {
            printer.data(&rows::json_line(row)?)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.seq,
            _ => return Ok(()),
        }
    }
}
