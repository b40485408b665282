//! The audit: who did what, as a chain of rows that only grows.
//!
//! An act is two rows with one id: `started`, which commits together with the change that it announces, and
//! `finished`; or one row, `refused`. Each row carries the hash of the row before it and its own hash over that and all
//! its fields ([`Link`]). The rows are written by a function of the database that decides sequence, time and hashes
//! (`migrations/V2__audit.sql`); role `app` can call it and change nothing. [`verify`] computes the chain anew, in Rust
//! and not in the database, and names every row that does not fit.
//!
//! A year is kept, in a partition a month. A month that is dropped leaves the hash of its last row as an anchor.
//!
//! Nothing secret goes in, and of personal data only who acted and whose silo it was.

mod append;
mod chain;
mod entry;
mod hash;
mod list;
mod months;
mod verify;

pub use append::append;
pub use chain::{Finding, Head, HeadError, Report};
pub use entry::{Action, Entry, Phase, Record, Recorded};
pub use hash::{Hash, HashError, Link};
pub use list::{Filter, latest, page};
pub use months::{Expired, expire_months, prepare_months};
pub use verify::{head, verify};
