//! Tables without lines, as kubectl prints them, and the tones that carry meaning besides the words.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;

/// What a text says beyond its words. Never the only carrier: everything reads without colour too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On the way, or worth a look.
    Warn,
    /// Broken.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
}

/// Text without anything that could steer a terminal: what is printed may come from pods and events.
#[must_use]
pub fn plain(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    printable.trim_end().to_owned()
}

/// The text in its tone.
#[must_use]
pub fn toned(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => text.green().to_string(),
        Tone::Warn => text.yellow().to_string(),
        Tone::Bad => text.red().to_string(),
        Tone::Dim => text.dimmed().to_string(),
        Tone::Strong => text.bold().to_string(),
    }
}

/// A table in the making.
#[derive(Debug)]
pub struct Grid {
    table: Table,
    indent: &'static str,
}

impl Grid {
    /// An empty table with these column headings.
    #[must_use]
    pub fn new(colour: bool, headings: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(
                headings
                    .iter()
                    .map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)),
            );
        if colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        Self { table, indent: "" }
    }

    /// Moves the whole table to the right.
    #[must_use]
    pub fn indented(mut self) -> Self {
        self.indent = "  ";
        self
    }

    /// Adds a row; an empty cell is shown as `-`, so that columns can be told apart by programs too.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = (T, Tone)>) {
        self.table.add_row(cells.into_iter().map(|(text, tone)| {
            let text = plain(text.as_ref());
            let cell = Cell::new(if text.is_empty() { "-" } else { &text });
            match tone {
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Warn => cell.fg(Color::Yellow),
                Tone::Bad => cell.fg(Color::Red),
                Tone::Dim => cell.add_attribute(Attribute::Dim),
                Tone::Strong => cell.add_attribute(Attribute::Bold),
            }
        }));
    }

    /// The table as text, without trailing blanks.
    #[must_use]
    pub fn render(mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let lines: Vec<String> = self
            .table
            .lines()
            .map(|line| format!("{}{}", self.indent, without_padding(&line)))
            .collect();
        lines.join("\n")
    }
}

/// The line without blanks at its end, which a terminal would wrap. In colour they stand before the closing code.
fn without_padding(line: &str) -> String {
    const RESET: &str = "\u{1b}[0m";
    match line.trim_end().strip_suffix(RESET) {
        Some(text) => format!("{}{RESET}", text.trim_end()),
        None => line.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        let mut grid = Grid::new(false, &["NAME", "PHASE"]);
        grid.row([("acme", Tone::Plain), ("Ready", Tone::Good)]);
        grid.row([("a-much-longer-name", Tone::Plain), ("", Tone::Plain)]);
        assert_eq!(
            grid.render(),
            "NAME                 PHASE\nacme                 Ready\na-much-longer-name   -"
        );
    }

    #[test]
    fn what_a_pod_says_cannot_steer_the_terminal() {
        let mut grid = Grid::new(false, &["MESSAGE"]);
        grid.row([("\u{1b}[2Jgone\r\nsecond line", Tone::Plain)]);
        let text = grid.render();
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
    }

    #[test]
    fn colour_only_when_asked_for() {
        let render = |colour| {
            let mut grid = Grid::new(colour, &["PHASE"]);
            grid.row([("Ready", Tone::Good)]);
            grid.render()
        };
        assert!(render(true).contains('\u{1b}'));
        assert!(!render(false).contains('\u{1b}'));
        for line in render(true).lines() {
            assert!(!line.contains(" \u{1b}[0m"), "{line:?}");
        }
        assert!(toned("x", Tone::Bad, true).contains('\u{1b}'));
        assert_eq!(toned("x", Tone::Bad, false), "x");
    }
}
