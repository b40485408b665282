//! Tests against a real cluster in which Granary's chart is installed.
//!
//! | variable              | what it says                                                                   |
//! |-----------------------|--------------------------------------------------------------------------------|
//! | `KUBECONFIG`          | which cluster                                                                  |
//! | `GRANARY_BIN`         | the command line's program                                                     |
//! | `GRANARY_GATEWAY`     | `host:port` of the gateway's HTTPS listener (127.0.0.1:8443)                    |
//! | `GRANARY_GATEWAY_HTTP`| `host:port` of the gateway's HTTP listener (127.0.0.1:8080)                     |
//! | `GRANARY_CA`          | file with the authority of the gateway's certificate                           |
//! | `GRANARY_AUDIT_LOG`   | the API server's audit log, if it is not beside the kubeconfig                 |
//! | `GRANARY_POD_ADDRESS` | any address in the pods' network, which this machine is reached from (10.244.0.1:9) |
//!
//! Tests run side by side; those that stop or break what all share wait until they are alone (see `plane`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]
#![allow(
    clippy::large_futures,
    reason = "each is made once, by the test that it is"
)]

mod admission;
mod audit;
mod certificates;
mod chart;
mod cli;
mod database;
mod drift;
mod economy;
mod exports;
mod faults;
mod isolation;
mod keys;
mod leaks;
mod lifecycle;
mod offboarding;
mod plane;
mod plane_secrets;
mod releases;
mod rotation;
mod silo;
#[path = "../specs/mod.rs"]
mod specs;
mod support;
mod suspension;
mod tenant_keys;
mod web;
