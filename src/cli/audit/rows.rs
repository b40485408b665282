//! Rows of the audit as they are printed.

use serde::Serialize;

use super::super::REPORT_VERSION;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::printer::View;
use super::super::table::{Grid, Tone};
use crate::audit::{Phase, Record};

/// Rows, oldest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rows {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Record>,
}

impl Rows {
    /// These rows.
    pub const fn new(items: Vec<Record>) -> Self {
        Self {
            api_version: REPORT_VERSION,
            kind: "AuditList",
            items,
        }
    }
}

impl View for Rows {
    fn table(&self, wide: bool, colour: bool) -> String {
        if self.items.is_empty() {
            return String::new();
        }
        let mut headings = vec![
            "SEQ", "TIME", "ACTOR", "ACTION", "PHASE", "TENANT", "OUTCOME",
        ];
        if wide {
            headings.extend(["TENANT-UID", "ID", "DETAIL"]);
        }
        let mut grid = Grid::new(colour, &headings);
        for row in &self.items {
            let tone = if row.phase == Phase::Refused.as_str() {
                Tone::Warn
            } else {
                Tone::Plain
            };
            grid.row(cells(row, wide).into_iter().map(|cell| (cell, tone)));
        }
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|row| row.seq.to_string()).collect()
    }
}

/// The cells of a row; times to the second.
pub fn cells(row: &Record, wide: bool) -> Vec<String> {
    let mut cells = vec![
        row.seq.to_string(),
        row.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        row.actor.clone(),
        row.action.clone(),
        row.phase.clone(),
        row.tenant.clone().unwrap_or_default(),
        row.outcome.clone().unwrap_or_default(),
    ];
    if wide {
        cells.extend([
            row.tenant_uid
                .map(|uid| uid.to_string())
                .unwrap_or_default(),
            row.id.to_string(),
            row.detail.to_string(),
        ]);
    }
    cells
}

/// A row as one line of JSON.
pub fn json_line(row: &Record) -> Result<String, Failure> {
    serde_json::to_string(row).map_err(|error| {
        Failure::new(Exit::Failure, "cannot encode the output").why(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(seq: i64) -> Record {
        serde_json::from_value(json!({
            "seq": seq, "at": "2026-11-21T15:20:33.123456Z", "id": "01920000-0000-7000-8000-000000000001",
            "phase": if seq == 2 { "refused" } else { "started" }, "actor": "ada@acme.example",
            "action": "key-unwrapped", "tenantUid": "4f1c09ab-7d00-4000-8000-0000000000aa", "tenant": "acme",
            "outcome": if seq == 2 { json!("not this tenant's pod") } else { json!(null) },
            "detail": {"purpose": "app"}, "prev": "0".repeat(64), "hash": "f".repeat(64),
        }))
        .expect("a row")
    }

    #[test]
    fn the_table_abridges_and_the_wide_one_tells_more() {
        let rows = Rows::new(vec![row(1), row(2)]);
        insta::assert_snapshot!(rows.table(false, false));
        insta::assert_snapshot!(rows.table(true, false));
        assert_eq!(Rows::new(Vec::new()).table(false, false), "");
    }

    #[test]
    fn a_line_of_json_is_complete_and_reads_back() {
        let line = json_line(&row(1)).expect("JSON");
        assert_eq!(line.lines().count(), 1);
        let back: Record = serde_json::from_str(&line).expect("a row");
        assert_eq!(back, row(1));
        assert_eq!(back.at.to_string(), "2026-11-21T15:20:33.123456Z");
    }
}
