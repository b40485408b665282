//! The `granary` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    granary::cli::main()
}
