//! `granary probe`: the pods of `granary doctor --probe`. One listens, the others find out whether they reach it.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::age;
use super::exit::Exit;
use super::failure::Failure;

/// How long one try may take: a policy that drops packets gives no answer at all.
const ONE_TRY: Duration = Duration::from_secs(2);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// How often in a row it has to be closed: a policy may take effect a moment after the pod starts, never the other way.
const CLOSED_TRIES: u32 = 3;

/// Listen, or find out whether an address can be reached (the pods of `doctor --probe`)
#[derive(Args, Debug)]
pub struct ProbeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Accept connections on this port, until stopped
    Listen {
        /// The port
        port: u16,
    },
    /// Try to connect until it is as expected
    Connect {
        /// Where to
        address: SocketAddr,
        /// What is expected
        #[arg(long, value_enum)]
        expect: Expected,
        /// How long to try
        #[arg(long, value_name = "DURATION", value_parser = age::parse)]
        within: Duration,
    },
}

/// What a probe expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Expected {
    /// A connection comes about
    Open,
    /// None does
    Closed,
}

/// Runs `granary probe`.
pub async fn run(args: &ProbeArgs) -> Result<(), Failure> {
    match args.command {
        Command::Listen { port } => listen(port).await,
        Command::Connect {
            address,
            expect,
            within,
        } => connect(address, expect, within).await,
    }
}

async fn listen(port: u16) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::Failure, format!("cannot listen on port {port}")).why(error.to_string())
    };
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
        .await
        .map_err(cannot)?;
    loop {
        drop(listener.accept().await.map_err(cannot)?);
    }
}

async fn connect(address: SocketAddr, expect: Expected, within: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    let mut closed = 0;
    while Instant::now() < deadline {
        let open = matches!(
            timeout(ONE_TRY, TcpStream::connect(address)).await,
            Ok(Ok(_))
        );
        closed = if open { 0 } else { closed + 1 };
        let as_expected = match expect {
            Expected::Open => open,
            Expected::Closed => closed >= CLOSED_TRIES,
        };
        if as_expected {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    let is = if closed == 0 { "open" } else { "closed" };
    Err(Failure::new(
        Exit::Failure,
        format!("{address} is {is}, which is not as expected"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(600);

    #[tokio::test]
    async fn a_port_that_listens_is_open_and_one_that_does_not_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        assert!(connect(address, Expected::Open, SHORT).await.is_ok());
        assert!(connect(address, Expected::Closed, SHORT).await.is_err());
        drop(listener);
        assert!(
            connect(address, Expected::Closed, Duration::from_secs(5))
                .await
                .is_ok()
        );
        assert!(connect(address, Expected::Open, SHORT).await.is_err());
    }
}
