//! `granary export`: fetch the sealed export that was made of a tenant before its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::access::{Access, explain};
use super::argument;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::look;
use super::printer::{Printer, View};
use super::table::{Grid, Tone};
use crate::keys::TenantUid;
use crate::registry::exports::{self, Export};
use crate::registry::tenants::Tenant;
use crate::registry::{Connection, RegistryError};

/// Fetch the sealed export that was made of a tenant before its end
///
/// It is made while a tenant is offboarded whose plan names a recipient (spec.export.recipient), and can be fetched for
/// 30 days. Open it with the recipient's identity: `age --decrypt -i KEY FILE | pg_restore --create -d postgres`
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Name of the tenant, or its UID where several had the name
    #[arg(value_name = "NAME|UID", value_parser = argument::tenant)]
    tenant: String,
    /// Where to write it; must not exist
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Namespace that Granary is installed in
    #[arg(short, long, default_value = "granary-system")]
    namespace: String,
}

/// What was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    uid: TenantUid,
    file: PathBuf,
    bytes: u64,
    sha256: String,
    sealed_with: String,
    created_at: Timestamp,
}

impl View for Exported {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["NAME", "FILE", "SIZE", "SEALED-FOR"]);
        let size = look::bytes(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        grid.row([
            (self.name.clone(), Tone::Plain),
            (self.file.display().to_string(), Tone::Plain),
            (size, Tone::Plain),
            (self.sealed_with.clone(), Tone::Dim),
        ]);
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        vec![self.file.display().to_string()]
    }
}

/// Runs `granary export`.
pub async fn run(args: &ExportArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let what = format!("cannot write {}", args.file.display());
    if args.file.exists() {
        return Err(Failure::new(Exit::Usage, what)
            .why("it exists, and nothing is overwritten")
            .next("choose another --file"));
    }
    let access = Access::open(cluster, &args.namespace).await?;
    let mut connection = access.connection().await?;
    let unreadable = |error: &RegistryError| explain("cannot read the registry", error);
    let known = Access::tenants(&mut connection, &args.tenant)
        .await
        .map_err(|error| unreadable(&error))?;
    let (tenant, export) = newest(&known, &args.tenant, &mut connection).await?;
    let draft = Draft::new(&args.file).map_err(|error| unwritable(&what, &error))?;
    let digest = fetch(tenant.uid, &mut connection, &draft)
        .await
        .map_err(|error| match error {
            Fetching::Registry(error) => unreadable(&error),
            Fetching::File(error) => unwritable(&what, &error),
        })?;
    if digest != export.sha256 {
        return Err(Failure::new(
            Exit::Failure,
            format!("the export of tenant {} is damaged", tenant.name),
        )
        .why(format!(
            "its SHA-256 is {digest}, and was {} when it was made",
            export.sha256
        )));
    }
    draft
        .keep(&args.file)
        .map_err(|error| unwritable(&what, &error))?;
    printer.show(&Exported {
        api_version: super::REPORT_VERSION,
        kind: "Export",
        name: tenant.name.clone(),
        uid: tenant.uid,
        file: args.file.clone(),
        bytes: export.bytes,
        sha256: export.sha256,
        sealed_with: export.sealed_with,
        created_at: export.created_at,
    })
}

/// The last of these tenants that has an export.
async fn newest<'a>(
    known: &'a [Tenant],
    asked: &str,
    connection: &mut Connection,
) -> Result<(&'a Tenant, Export), Failure> {
    for tenant in known.iter().rev() {
        let found = exports::find(connection, tenant.uid).await;
        if let Some(export) = found.map_err(|error| explain("cannot read the registry", &error))? {
            return Ok((tenant, export));
        }
    }
    let failure = Failure::new(
        Exit::NotFound,
        format!("there is no export of tenant {asked:?}"),
    );
    Err(if known.is_empty() {
        failure.why("the registry knows no tenant of that name or UID")
    } else {
        failure.why(
            "one is made while a tenant is offboarded whose plan has spec.export, and kept for 30 days",
        )
    })
}

enum Fetching {
    Registry(RegistryError),
    File(io::Error),
}

/// Writes every piece, and returns the SHA-256 of the whole.
async fn fetch(
    tenant: TenantUid,
    connection: &mut Connection,
    draft: &Draft,
) -> Result<String, Fetching> {
    let mut digest = Sha256::new();
    for number in 0.. {
        let piece = exports::piece(connection, tenant, number).await;
        let Some(piece) = piece.map_err(Fetching::Registry)? else {
            break;
        };
        digest.update(&piece);
        (&draft.file).write_all(&piece).map_err(Fetching::File)?;
    }
    let hex: Vec<String> = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(hex.concat())
}

/// The file while it is not whole, under another name; removed if it never is.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    fn new(target: &Path) -> io::Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { file, path })
    }

    fn keep(&self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nothing is there any more once it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

fn unwritable(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failure, what).why(error.to_string())
}
