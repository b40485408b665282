//! PostgreSQL's log lines: parsed, freed of tenant data, and logged as the agent's own JSON.
//!
//! With terse verbosity a line carries no statement, parameter or row. The message of a failed statement can still quote
//! a value ("invalid input syntax for type integer: …"), so only its SQLSTATE is kept. What tells about the server and
//! not about a statement, by the process that says it or by its SQLSTATE, keeps its text.

use std::collections::VecDeque;

/// Classes of SQLSTATE whose message is about the server: 00 for what is no error at all, connections, authentication,
/// resources, operator intervention, system errors, configuration files, internal errors.
const SERVER_CLASSES: [&str; 8] = ["00", "08", "28", "53", "57", "58", "F0", "XX"];
/// Processes that never touch a row's values. All others do: sessions, autovacuum, parallel workers.
const SERVER_PROCESSES: [&str; 6] = [
    "postmaster",
    "startup",
    "checkpointer",
    "background writer",
    "walwriter",
    "archiver",
];
/// What a connection attempt gets while the server starts or stops.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// How many last words are kept.
const LAST_WORDS: usize = 4;

/// One entry of the server's log.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    process: &'a str,
    sqlstate: &'a str,
    role: &'a str,
    backend: &'a str,
    severity: &'a str,
    message: &'a str,
}

impl<'a> Entry<'a> {
    /// Reads a line that begins with [`super::settings::LOG_LINE_PREFIX`].
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(5, '\u{1f}');
        let (process, sqlstate, role, backend) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let (severity, message) = fields.next()?.split_once(':')?;
        Some(Self {
            process,
            sqlstate,
            role,
            backend,
            severity,
            message: message.trim_start(),
        })
    }

    /// The message, or what is said instead of one that may quote tenant data.
    fn public_message(&self) -> &'a str {
        let about_the_server = SERVER_PROCESSES.contains(&self.backend)
            || SERVER_CLASSES
                .iter()
                .any(|class| self.sqlstate.starts_with(class));
        if about_the_server {
            self.message
        } else {
            "a statement failed"
        }
    }
}

/// Logs lines and remembers the last ones that explain why the server ended.
#[derive(Debug, Default)]
pub struct Log {
    last_words: VecDeque<String>,
    /// Whether the previous line was withheld, so that its continuation is, too.
    withheld: bool,
}

impl Log {
    /// Logs one line of the server's standard error.
    pub fn line(&mut self, line: &str) {
        let Some(entry) = Entry::parse(line) else {
            self.unprefixed(line.trim());
            return;
        };
        let message = entry.public_message();
        self.withheld = message != entry.message;
        let Entry {
            process,
            sqlstate,
            role,
            backend,
            severity,
            ..
        } = entry;
        match severity {
            "PANIC" | "FATAL" if sqlstate == CANNOT_CONNECT_NOW => {
                tracing::debug!(target: "postgres", process, sqlstate, role, backend, severity, "{message}");
            }
            "PANIC" | "FATAL" => {
                tracing::error!(target: "postgres", process, sqlstate, role, backend, severity, "{message}");
                // One client's refused connection is not why a server ends.
                if backend != "client backend" {
                    self.remember(format!("{severity}: {message}"));
                }
            }
            "ERROR" | "WARNING" => {
                tracing::warn!(target: "postgres", process, sqlstate, role, backend, severity, "{message}");
            }
            _ => {
                tracing::info!(target: "postgres", process, sqlstate, role, backend, severity, "{message}");
            }
        }
    }

    /// A continuation, the loader's own words, or what PostgreSQL says before it has read its configuration.
    fn unprefixed(&mut self, line: &str) {
        if self.withheld || line.is_empty() {
            return;
        }
        if let Some(start) = line.find("FATAL:") {
            tracing::error!(target: "postgres", "{line}");
            self.remember(line[start..].to_owned());
        } else {
            tracing::info!(target: "postgres", "{line}");
        }
    }

    /// The last FATAL and PANIC messages of the server itself, oldest first.
    pub fn last_words(&self) -> String {
        self.last_words
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn remember(&mut self, words: String) {
        if self.last_words.back() == Some(&words) {
            return;
        }
        if self.last_words.len() == LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "31\u{1f}53100\u{1f}\u{1f}checkpointer\u{1f}PANIC:  could not write to file \"pg_wal/xlogtemp.31\": No space left on device";

    #[test]
    fn a_line_is_taken_apart() {
        let entry = Entry::parse(PANIC).unwrap();
        assert_eq!(
            (entry.process, entry.sqlstate, entry.backend, entry.severity),
            ("31", "53100", "checkpointer", "PANIC")
        );
        assert!(entry.public_message().ends_with("No space left on device"));
    }

    #[test]
    fn a_failed_statement_keeps_its_values_to_itself() {
        let line = "40\u{1f}22P02\u{1f}app\u{1f}client backend\u{1f}ERROR:  invalid input syntax for type integer: \"4111 1111\"";
        assert_eq!(
            Entry::parse(line).unwrap().public_message(),
            "a statement failed"
        );
        let automatic = line.replace("client backend", "autovacuum worker");
        assert_eq!(
            Entry::parse(&automatic).unwrap().public_message(),
            "a statement failed"
        );
        let server = line.replace("client backend", "postmaster");
        assert!(
            Entry::parse(&server)
                .unwrap()
                .public_message()
                .starts_with("invalid input"),
            "the server's own words stay"
        );
        let mut log = Log::default();
        log.line(line);
        assert!(log.withheld, "and so does its continuation");
        log.line(PANIC);
        assert!(!log.withheld);
    }

    #[test]
    fn the_last_words_are_the_fatal_ones() {
        let mut log = Log::default();
        log.line("1\u{1f}00000\u{1f}\u{1f}postmaster\u{1f}LOG:  starting PostgreSQL");
        log.line("9\u{1f}57P03\u{1f}\u{1f}client backend\u{1f}FATAL:  the database system is starting up");
        log.line("9\u{1f}28000\u{1f}app\u{1f}client backend\u{1f}FATAL:  no pg_hba.conf entry for host \"::1\"");
        assert_eq!(log.last_words(), "");
        log.line(PANIC);
        log.line(PANIC);
        for i in 0..LAST_WORDS - 1 {
            log.line(&format!(
                "1\u{1f}XX000\u{1f}\u{1f}postmaster\u{1f}FATAL:  reason {i}"
            ));
        }
        assert!(
            log.last_words().starts_with("PANIC: could not write"),
            "{}",
            log.last_words()
        );
        assert_eq!(log.last_words().matches("; ").count(), LAST_WORDS - 1);
    }

    #[test]
    fn words_said_before_the_configuration_is_read_count() {
        let mut log = Log::default();
        log.line("2026-01-01 00:00:00.000 GMT [7] FATAL:  configuration file \"/run/postgresql.conf\" contains errors");
        assert_eq!(
            log.last_words(),
            "FATAL:  configuration file \"/run/postgresql.conf\" contains errors"
        );
    }

    #[test]
    fn a_line_of_something_else_is_no_entry() {
        assert_eq!(Entry::parse("\tcontinued: here"), None);
        assert_eq!(
            Entry::parse("postgres: error while loading shared libraries"),
            None
        );
    }
}
