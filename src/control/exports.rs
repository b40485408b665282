//! The export of a tenant that ends: its database, sealed by its own agent for a recipient that the plan names, kept in
//! the registry until somebody fetches it. What passes through here is sealed.

use std::borrow::Cow;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    act::{Act, Announcement},
    context::Context,
    tenant_keys::{KeysError, Subject},
};
use crate::{
    audit::Action,
    https::client::{Download, FetchError},
    keys::TenantUid,
    registry::{
        Registry, RegistryError,
        exports::{self, Export},
        operations::Kind,
    },
};

/// An export that is larger is not taken: the registry is no store for large databases.
const LARGEST: u64 = 1 << 30;

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database is not there to be asked.
    #[error(
        "no pod of the database can be asked; if the tenant was suspended, resume it first, or take spec.export off its plan"
    )]
    NoDatabase,
    /// The agent did not hand it out, or not all of it.
    #[error("its database did not hand it out")]
    Fetch(#[from] FetchError),
    /// The agent refused.
    #[error("its database's agent refused with status {0}; the log of pod database-0 says why")]
    Refused(StatusCode),
    /// Larger than [`LARGEST`].
    #[error("it is larger than {} MiB; export it by hand and turn the plan's export off", LARGEST >> 20)]
    TooLarge,
    /// The registry does not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry is not there.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl ExportError {
    /// Stable reason for a condition.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Registry(error) => Cow::Borrowed(error.reason()),
            Self::Keys(error) => error.reason(),
            Self::TooLarge => Cow::Borrowed("ExportTooLarge"),
            Self::NoDatabase | Self::Fetch(_) | Self::Refused(_) => Cow::Borrowed("ExportFailed"),
        }
    }
}

/// Makes the export, or finds the one that was made since then. `ip` is the address of the database's pod.
///
/// # Errors
/// See [`ExportError`]; it may be asked again, and begins anew.
pub async fn take(
    context: &Context,
    subject: Subject<'_>,
    since: Timestamp,
    ip: Option<&str>,
    recipient: &str,
) -> Result<Export, ExportError> {
    let uid = subject.tenant_uid()?;
    let registry = context.keys.registry()?;
    let found = exports::find(&mut *registry.acquire().await?, uid).await?;
    if let Some(export) = found.filter(|export| export.created_at >= since) {
        return Ok(export);
    }
    let announcement = Announcement {
        kind: Kind::Export,
        action: Action::TenantExported,
        actor: context.keys.actor_of(&subject),
        detail: json!({"sealedWith": recipient}),
    };
    let act = Act::begin(registry.begin().await?, (uid, subject.name), announcement).await?;
    let download = context
        .probes
        .export(subject.uid, ip.ok_or(ExportError::NoDatabase)?, recipient)
        .await
        .ok_or(ExportError::NoDatabase)??;
    if download.status != StatusCode::OK {
        return Err(ExportError::Refused(download.status));
    }
    let (bytes, sha256) = store(&registry, uid, download).await?;
    let export = Export {
        bytes,
        sha256,
        sealed_with: recipient.to_owned(),
        created_at: Timestamp::now(),
    };
    let mut transaction = registry.begin().await?;
    exports::complete(&mut transaction, uid, &export).await?;
    act.finish(transaction, "done").await?;
    Ok(export)
}

/// Writes what comes into the registry, piece by piece. Returns how much it was, and its SHA-256.
async fn store(
    registry: &Registry,
    uid: TenantUid,
    mut download: Download,
) -> Result<(u64, String), ExportError> {
    exports::start(&mut *registry.acquire().await?, uid).await?;
    let (mut gathered, mut number, mut bytes) = (Vec::with_capacity(exports::PIECE), 0, 0_u64);
    let mut digest = Sha256::new();
    loop {
        let piece = download.piece().await?;
        if let Some(piece) = &piece {
            digest.update(piece);
            bytes = bytes.saturating_add(piece.len() as u64);
            gathered.extend_from_slice(piece);
        }
        if bytes > LARGEST {
            return Err(ExportError::TooLarge);
        }
        while gathered.len() >= exports::PIECE || (piece.is_none() && !gathered.is_empty()) {
            let length = gathered.len().min(exports::PIECE);
            let content: Vec<u8> = gathered.drain(..length).collect();
            exports::add_piece(&mut *registry.acquire().await?, uid, number, &content).await?;
            number += 1;
        }
        if piece.is_none() {
            let hex: Vec<String> = digest
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            return Ok((bytes, hex.concat()));
        }
    }
}
