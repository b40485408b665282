//! The `granary` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything can ask for TLS; it fails only if a provider is there already, and then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    granary::cli::main()
}
