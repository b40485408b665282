//! Every write that the plane makes in a tenant's life goes wrong once, in every way, and the life ends as it should.
//!
//! Each act of a flow is first done undisturbed, which shows the effects it passes. Then each of them gets each fault
//! (`granary::effects`): the process dies before it or after it, its answer is lost, it is refused. Whoever died starts
//! again with an empty memory. In the end there must be what there is without the fault, nothing more and nothing less.
//!
//! Real: etcd, API server and controller manager, PostgreSQL, key server over HTTPS, moto as KMS, and the operator's
//! passes. Not there: nodes, so no pod runs and no gateway answers.
//!
//! `GRANARY_FAULTS=word` runs only the faults whose name holds the word.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../keys/moto.rs"]
mod moto;
#[path = "../postgres/mod.rs"]
mod postgres;

mod act;
mod app;
mod audit;
mod cluster;
mod daemon;
mod flow;
mod injection;
mod keyserver;
mod life;
mod operator;
mod plane;
mod state;

use act::Act;

#[test]
fn a_tenant_is_onboarded_whatever_goes_wrong() {
    let acts = [Act::Onboard, Act::Delete];
    flow::run("onboarded", &acts, &[Act::Onboard]);
}

#[test]
fn a_tenant_is_offboarded_reinstated_and_shredded_whatever_goes_wrong() {
    let acts = [
        Act::Onboard,
        Act::Offboard,
        Act::Reinstate,
        Act::Shred,
        Act::Delete,
    ];
    let disturbed = [Act::Offboard, Act::Reinstate, Act::Shred, Act::Delete];
    flow::run("offboarded", &acts, &disturbed);
}

#[test]
fn keys_are_rotated_whatever_goes_wrong() {
    let acts = [Act::Onboard, Act::Rotate, Act::Delete];
    flow::run("rotated", &acts, &[Act::Rotate]);
}
