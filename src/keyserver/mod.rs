//! The key server: the only client of the KMS. Pods get the keys of their own silo from it, the operator manages keys
//! through it and never reads one.
//!
//! ```text
//! request ─ admission ── authenticate ── authorize ── handlers ─┬─ trail: started
//!           rate, body   token → pod     account,     one file  ├─ kms: the KMS, with patience
//!                        → it runs       states       each      └─ record, trail: finished
//!                        tenants: namespace → Tenant
//! ```
//!
//! Every change writes down its intent before the KMS is asked and can be asked for again: what a crash or a lost answer
//! left half done is found by the tenant's UID and finished. `client` is the other side of all this.

mod admission;
mod authenticate;
mod authorize;
mod bucket;
pub mod client;
mod cooldown;
mod handlers;
mod kms;
mod making;
mod metrics;
mod opening;
mod outcome;
mod pace;
mod problem;
mod record;
mod run;
mod settings;
mod shared;
mod store;
mod tenants;
mod trail;
pub mod wire;

pub use opening::Opening;
pub use problem::{Code, Problem};
pub use run::{Surroundings, run, serve};
pub use settings::KeyServerSettings;
