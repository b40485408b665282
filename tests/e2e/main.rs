//! Tests against a real cluster in which Granary's chart is installed. `KUBECONFIG` says which.

mod admission;
mod chart;
mod cli;
#[path = "../specs/mod.rs"]
mod specs;
mod support;
