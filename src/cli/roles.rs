//! Roles that this binary plays inside the cluster. People do not call them.

use clap::Subcommand;

use super::{Exit, Failure};
use crate::{agent, config::OperatorSettings, control, telemetry};

/// A role inside the cluster.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// Run the operator: it builds and keeps the silos of all tenants
    Operator(Box<OperatorSettings>),
    /// Run a part of a silo, inside its pod
    #[command(subcommand)]
    Agent(AgentRole),
}

/// A part of a silo that runs beside a tenant's data.
#[derive(Subcommand, Debug)]
pub enum AgentRole {
    /// Run a silo's database: initialise its volume, supervise PostgreSQL, report
    Database(Box<agent::DatabaseArgs>),
}

impl Role {
    /// Plays the role until the process is told to stop.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Operator(settings) => {
                telemetry::init(settings.log_format);
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build();
                runtime
                    .map_err(anyhow::Error::from)
                    .and_then(|runtime| runtime.block_on(control::run(settings.as_ref().clone())))
                    .map_err(|error| {
                        Failure::new(Exit::Failure, "the operator ended").why(format!("{error:#}"))
                    })
            }
            Self::Agent(AgentRole::Database(args)) => {
                telemetry::init(telemetry::LogFormat::Json);
                // One thread: it waits most of the time, and every silo pays for its memory.
                super::runtime()?
                    .block_on(agent::database(args.as_ref().clone()))
                    .map_err(|error| {
                        Failure::new(Exit::Failure, "the database ended").why(format!("{error:#}"))
                    })
            }
        }
    }
}
