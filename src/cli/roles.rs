//! Roles that this binary plays inside the cluster. People do not call them.

use clap::Subcommand;
use tokio::runtime::Runtime;

use super::{Exit, Failure};
use crate::{
    agent::{self, keys},
    config::OperatorSettings,
    control,
    keyserver::{self, KeyServerSettings},
    telemetry,
};

/// A role inside the cluster.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// Run the operator: it builds and keeps the silos of all tenants
    Operator(Box<OperatorSettings>),
    /// Run the key server: the only client of the KMS, it gives each pod the keys of its own silo
    Keyserver(Box<KeyServerSettings>),
    /// Run a part of a silo, inside its pod
    #[command(subcommand)]
    Agent(AgentRole),
}

/// A part of a silo that runs beside a tenant's data.
#[derive(Subcommand, Debug)]
pub enum AgentRole {
    /// Run a silo's database: initialise its volume, supervise PostgreSQL, report
    Database(Box<agent::DatabaseArgs>),
    /// Keep a pod's own keys in memory: fetch them, and look for new versions
    Keys(Box<keys::KeysArgs>),
    /// Wait until a pod's own keys are in memory
    KeysReady(keys::KeysReadyArgs),
}

impl Role {
    /// Plays the role until the process is told to stop.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Operator(settings) => {
                telemetry::init(settings.log_format);
                let running = control::run(settings.as_ref().clone());
                ended("the operator", two_threads()?.block_on(running))
            }
            Self::Keyserver(settings) => {
                telemetry::init(settings.log_format);
                let running = keyserver::run(settings.as_ref().clone());
                ended("the key server", two_threads()?.block_on(running))
            }
            Self::Agent(role) => role.run(),
        }
    }
}

impl AgentRole {
    fn run(&self) -> Result<(), Failure> {
        telemetry::init(telemetry::LogFormat::Json);
        // One thread: it waits most of the time, and every silo pays for its memory.
        let runtime = super::runtime()?;
        match self {
            Self::Database(args) => ended(
                "the database",
                runtime.block_on(agent::database(args.as_ref().clone())),
            ),
            Self::Keys(args) => ended(
                "keeping the keys",
                runtime.block_on(keys::keep(args.as_ref().clone())),
            ),
            Self::KeysReady(args) => ended(
                "waiting for the keys",
                runtime.block_on(keys::wait(args.clone())),
            ),
        }
    }
}

fn two_threads() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, "cannot start").why(error.to_string()))
}

fn ended(what: &str, outcome: anyhow::Result<()>) -> Result<(), Failure> {
    outcome.map_err(|error| {
        Failure::new(Exit::Failure, format!("{what} ended")).why(format!("{error:#}"))
    })
}
