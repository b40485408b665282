//! What every KMS backend has to do, run over `local` in a folder and over `aws` against moto, a real HTTP server that
//! plays AWS KMS, behind a proxy that plays its bad days.
//!
//! Needs `python3` with `venv` (Debian packages python3 and python3-venv). moto is installed once, into
//! `$XDG_CACHE_HOME/granary/moto`, from the Python package registry.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod account;
mod bench;
mod moto;
mod proxy;
mod tls;

mod adoption;
mod conformance;
mod faults;
