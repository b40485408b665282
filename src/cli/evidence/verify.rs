//! `granary evidence verify`: a deletion record, checked without any cluster.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::exit::Exit;
use super::super::failure::{Failure, root_cause};
use super::super::printer::Printer;
use super::report::Report;
use crate::evidence::{self, KeyError, MAX_BYTES, PublicKey};

/// Check a deletion record offline: its signature, and that it is complete and in order
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The signed record (a DSSE envelope); - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of the plane that signed it, as PEM (repeat for several: one is enough)
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
}

/// Runs `granary evidence verify`.
pub fn run(args: &VerifyArgs, printer: Printer) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for path in &args.keys {
        keys.extend(PublicKey::read_all(path).map_err(|error| unusable_key(path, &error))?);
    }
    let envelope = read(&args.file).map_err(|error| {
        Failure::new(
            Exit::Failure,
            format!("cannot read {}", args.file.display()),
        )
        .why(error.to_string())
    })?;
    let verified = evidence::verify(&envelope, &keys).map_err(|error| {
        let what = format!("{} proves nothing", args.file.display());
        let failure = Failure::new(Exit::Refused, what).why(error.to_string());
        match std::error::Error::source(&error) {
            Some(source) => failure.why(root_cause(source)),
            None => failure,
        }
    })?;
    printer.show(&Report::of(verified))
}

fn unusable_key(path: &Path, error: &KeyError) -> Failure {
    let exit = match error {
        KeyError::Read { .. } => Exit::Failure,
        _ => Exit::Refused,
    };
    let failure = Failure::new(
        exit,
        format!("cannot check with the key {}", path.display()),
    )
    .why(error.to_string());
    match std::error::Error::source(error) {
        Some(source) => failure.why(root_cause(source)),
        None => failure,
    }
}

/// One byte more than is allowed is enough to say that it is too much.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
    let mut content = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut content)?;
    } else {
        File::open(file)?.take(limit).read_to_end(&mut content)?;
    }
    Ok(content)
}
