//! The printer: data on stdout, everything else on stderr.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::globals::{Globals, Output, Terminal};
use super::table::{Tone, plain, toned};

/// Something that a command prints: complete as JSON or YAML, abridged as a table.
pub trait View: Serialize {
    /// The table for people.
    fn table(&self, wide: bool, colour: bool) -> String;

    /// `kind.group/name` of each object in it.
    fn names(&self) -> Vec<String>;
}

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    output: Output,
    quiet: bool,
    terminal: Terminal,
}

impl Printer {
    /// The printer for these options and this terminal.
    #[must_use]
    pub const fn new(globals: &Globals, terminal: Terminal) -> Self {
        Self {
            output: globals.output,
            quiet: globals.quiet,
            terminal,
        }
    }

    /// How data is to be printed.
    #[must_use]
    pub const fn output(self) -> Output {
        self.output
    }

    /// What the terminal allows.
    #[must_use]
    pub const fn terminal(self) -> Terminal {
        self.terminal
    }

    /// Whether only data and errors are wanted.
    #[must_use]
    pub const fn quiet(self) -> bool {
        self.quiet
    }

    /// Prints a view the way that was asked for.
    pub fn show(self, view: &impl View) -> Result<(), Failure> {
        let text = match self.output {
            Output::Table => view.table(false, self.terminal.colour_data),
            Output::Wide => view.table(true, self.terminal.colour_data),
            Output::Json => json(view)?,
            Output::Yaml => yaml(view)?,
            Output::Name => view.names().join("\n"),
        };
        self.data(&text)
    }

    /// Prints data on stdout, ended by one line end.
    #[expect(
        clippy::unused_self,
        reason = "only who has the printer writes to the streams"
    )]
    pub fn data(self, text: &str) -> Result<(), Failure> {
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(|error| cannot_write(&error))
    }

    /// Makes room for the next view of the same thing: a cleared screen for people, nothing for programs.
    pub fn clear(self) -> Result<(), Failure> {
        let for_people = matches!(self.output, Output::Table | Output::Wide);
        if !for_people {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let separator = if self.terminal.data_is_seen {
            "\u{1b}[H\u{1b}[2J\u{1b}[3J"
        } else {
            "\n"
        };
        write!(stdout, "{separator}").map_err(|error| cannot_write(&error))
    }

    /// Says something about the progress on stderr, unless told to be quiet.
    pub fn note(self, text: &str) {
        if !self.quiet {
            say(&plain(text));
        }
    }

    /// Says what a question at the prompt is about, however quiet.
    #[expect(
        clippy::unused_self,
        reason = "only who has the printer writes to the streams"
    )]
    pub fn ask(self, text: &str) {
        say(&plain(text));
    }

    /// Explains a failure on stderr.
    pub fn failure(self, failure: &Failure) {
        for (heading, text) in failure.lines() {
            let tone = match heading {
                "error" => Tone::Bad,
                "next" => Tone::Good,
                _ => Tone::Strong,
            };
            let heading = match heading {
                "error" => "error:".to_owned(),
                other => format!("  {other}:"),
            };
            let heading = toned(&heading, tone, self.terminal.colour_messages);
            let mut lines = text.lines().map(plain);
            say(&format!("{heading} {}", lines.next().unwrap_or_default()));
            for line in lines {
                say(&format!("        {line}"));
            }
        }
    }
}

/// One line on stderr. Nobody can be told when that fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A view as JSON.
pub fn json(view: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string_pretty(view).map_err(|error| cannot_encode(&error))
}

/// A view as YAML.
pub fn yaml(view: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    // Through a JSON value, so that both show the same fields in the same order.
    let value = serde_json::to_value(view).map_err(|error| cannot_encode(&error))?;
    serde_saphyr::to_string(&value).map_err(|error| cannot_encode(&error))
}

fn cannot_encode(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failure, "cannot encode the output").why(error.to_string())
}

fn cannot_write(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::reader_left()
    } else {
        Failure::new(Exit::Failure, "cannot write to standard output").why(error.to_string())
    }
}
