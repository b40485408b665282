//! A pod's own data keys: fetched from the key server into memory, kept up to date while the pod runs.
//!
//! ```text
//! /run/granary/keys/app/1        a key that is only read with any more
//! /run/granary/keys/app/2        32 bytes, mode 0400
//! /run/granary/keys/app/active   the version for writes, as text; written last
//! ```

mod args;
mod folder;
mod keeper;
mod ready;

pub use args::{KEYS_PERIOD, KeysArgs, KeysReadyArgs};
pub use folder::{FolderError, KeyFolder};
pub use keeper::{Keeper, KeeperError, keep};
pub use ready::wait;
