//! Entry point: read the command line, run the command, say how it went.

use std::process::ExitCode;

use tenant_template::config::{Cli, Command};
use tenant_template::{logging, run};

fn main() -> ExitCode {
    let command = Cli::read();
    logging::init(match &command {
        Command::Serve(serve) => &serve.log,
        Command::Migrate(migrate) => &migrate.log,
    });
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::failure(&error);
            ExitCode::FAILURE
        }
    }
}
