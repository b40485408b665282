//! HTTPS as every part of Granary speaks it: TLS 1.3 alone, certificate files that may change while it runs, clients
//! that are given only so long.

pub mod client;
pub mod files;
pub mod server;
