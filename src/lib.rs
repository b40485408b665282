//! Granary gives every customer of a SaaS product their own silo.
//!
//! This file is the map. A `Tenant` becomes a silo in one pass through one pipeline:
//!
//! ```text
//! Tenant ─observe→ Observed ─validate→ ValidTenant ─plan→ Plan ─execute→ Executed ─assess→ Status ─publish→ API server
//!         (reads)            (pure)                (pure)        (writes)           (pure)          (writes)
//! ```
//!
//! | module        | what it holds                                                              | may use                    |
//! |---------------|----------------------------------------------------------------------------|----------------------------|
//! | [`api`]       | `Tenant` and `Plan` resources, their rules, conditions and names            | nothing of ours            |
//! | [`resources`] | one pure builder per Kubernetes kind of a silo                              | `api`, `pki` (types)       |
//! | [`pki`]       | certificate authorities and leafs of silos and plane                        | `api`                      |
//! | [`control`]   | the operator: the pipeline above, watches, leader election                  | all but `cli`              |
//! | [`agent`]     | PID 1 of a database pod; fetches a pod's own keys                           | `telemetry`, `https`, `keyserver` (client) |
//! | [`keys`]      | data keys, their envelope, and the KMS that wraps them                      | nothing of ours            |
//! | [`effects`]   | a name for every write, and faults on purpose in tests                     | `keys` (types)             |
//! | [`evidence`]  | the signed record that a tenant's data is gone, and checking it offline     | nothing of ours            |
//! | [`registry`]  | the plane's PostgreSQL: connection, migrations, one file per table          | `keys` (types), `https`, `effects` |
//! | [`audit`]     | the chain of who did what: append, list, verify                             | `keys`, `registry`         |
//! | [`keyserver`] | the only client of the KMS: gives each pod the keys of its own silo         | `keys`, `registry`, `audit`, `api`, `https`, `telemetry`, `effects` |
//! | [`cli`]       | one file per command, printer, exit codes                                   | all                        |
//! | [`telemetry`] | logs, metrics, health endpoints                                             | `https`                    |
//! | [`https`]     | TLS 1.3 servers and clients, certificate files that change                  | nothing of ours            |
//! | [`config`]    | the operator's settings, read once                                          | `keys` (types), `telemetry`|

pub mod agent;
pub mod api;
pub mod audit;
pub mod cli;
pub mod config;
pub mod control;
pub mod effects;
pub mod evidence;
pub mod https;
pub mod keys;
pub mod keyserver;
pub mod pki;
pub mod registry;
pub mod resources;
pub mod telemetry;
