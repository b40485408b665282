//! Keys: what they belong to, how wrapped ones are written down, and the KMS that wraps and unwraps them.
//!
//! ```text
//! KMS: one key per tenant UID ─wraps→ data keys, by purpose and version ─encrypt→ columns, backups
//!      never leaves the KMS           wrapped: registry, heads of backups
//!                                     in the clear: memory of the pods that own them
//! ```
//!
//! [`Kms`] is what every backend does, [`Provider`] the one that [`KmsSettings`] name. A key in the clear is a
//! [`PlainKey`], which prints nothing of itself and is wiped when dropped; a [`WrappedKey`] may be stored anywhere.

mod aws;
mod context;
mod envelope;
mod error;
mod key;
mod kms;
mod local;
mod plain;
mod settings;

pub use aws::{Aws, AwsSettings, EndpointError, TrustError};
pub use context::{Context, ContextError, Purpose, TenantUid};
pub use envelope::{EnvelopeError, Header, ProviderName, WrappedKey};
pub use error::KmsError;
pub use key::{KeyId, KeyIdError, KeyState};
pub use kms::{DELETION_DAYS, Kms, Provider};
pub use local::{FolderStore, KekStore, Local, RootKey, RootKeyError, StoreError};
pub use plain::{KEY_LENGTH, PlainKey, WrongLength};
pub use settings::{KmsSettings, StartError};
