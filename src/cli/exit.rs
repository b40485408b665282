//! Exit codes: one enum, documented in `--help` and docs/cli.md.

use std::process::ExitCode;

/// How a command ended, as the process' exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Success,
    /// It failed for a reason that has no code of its own.
    Failure,
    /// The command line makes no sense, or misses something.
    Usage,
    /// The named object does not exist.
    NotFound,
    /// It exists already, or somebody else changed it meanwhile.
    Conflict,
    /// Validation, an admission policy or missing permissions refused it.
    Refused,
    /// It was not done within the timeout; it may still get done.
    TimedOut,
    /// No cluster could be talked to.
    Unreachable,
    /// The person at the prompt said no; nothing was changed.
    Cancelled,
    /// Stopped by Ctrl-C while waiting; what was started goes on.
    Interrupted,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::Unreachable => 7,
            Self::Cancelled => 8,
            Self::Interrupted => 130,
        }
    }

    /// What the code means, for `--help` and the reference.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "what was asked for is done",
            Self::Failure => "failure without a code of its own (doctor: a check failed)",
            Self::Usage => "the command line makes no sense, or misses something",
            Self::NotFound => "the named object does not exist",
            Self::Conflict => "it exists already, or its state does not allow this",
            Self::Refused => "refused by validation, an admission policy or missing permissions",
            Self::TimedOut => "not done within the timeout; it may still get done",
            Self::Unreachable => "no cluster could be talked to",
            Self::Cancelled => "you said no at the prompt; nothing was changed",
            Self::Interrupted => "stopped by Ctrl-C while waiting; what was started goes on",
        }
    }

    /// The table of codes, one a line.
    #[must_use]
    pub fn table() -> String {
        let rows: Vec<String> = Self::ALL
            .iter()
            .map(|exit| format!("  {:<4} {}", exit.code(), exit.meaning()))
            .collect();
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endings_share_a_code() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn the_table_names_every_code() {
        let table = Exit::table();
        for exit in Exit::ALL {
            assert!(
                table.contains(&format!("  {:<4} ", exit.code())),
                "{exit:?}"
            );
        }
    }
}
