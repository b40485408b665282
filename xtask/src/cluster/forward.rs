//! The way from the host's loopback to the gateway: a process that copies bytes,
//! so that TLS stays between the client and the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::layout::Cluster;
use super::network::NODE_ADDRESS;
use super::process::{Daemon, wait_ready};

/// The gateway's node ports, as Traefik's manifest has them.
const GATEWAY_PORTS: Ports = Ports {
    http: 30080,
    https: 30443,
};

/// A port for HTTP and one for HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For HTTP.
    pub http: u16,
    /// For HTTPS.
    pub https: u16,
}

/// The forwarder's name among the cluster's processes.
pub const NAME: &str = "forwarder";

/// Starts the forwarder and waits until it listens.
pub fn start(cluster: &Cluster, ports: Ports) -> Result<()> {
    // A copy: the next `cargo build` replaces the program that runs now.
    let program = cluster.path("tools/forwarder");
    let own = std::env::current_exe()?;
    if super::process::pid(cluster, NAME).is_none() {
        let _ = std::fs::remove_file(&program);
        std::fs::copy(own, &program).context("copying the forwarder")?;
    }
    Daemon {
        name: NAME,
        program,
        arguments: vec![
            "cluster".into(),
            "forward".into(),
            ports.http.to_string(),
            ports.https.to_string(),
        ],
        environment: Vec::new(),
        on_node: false,
        configuration: Vec::new(),
    }
    .ensure(cluster)?;
    wait_ready(cluster, &[NAME], Duration::from_secs(10), || {
        [ports.http, ports.https]
            .iter()
            .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
    })
}

/// Forwards until it is ended.
pub fn forward(ports: Ports) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            let node: std::net::IpAddr = NODE_ADDRESS.parse()?;
            let http = forward_port(ports.http, (node, GATEWAY_PORTS.http).into());
            let https = forward_port(ports.https, (node, GATEWAY_PORTS.https).into());
            tokio::try_join!(http, https).map(drop)
        })
}

async fn forward_port(port: u16, target: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{port}: is another program using it? Choose another port with --http-port or --https-port"))?;
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(forward_connection(client, target))),
            Err(error) => {
                // Out of file descriptors, say: it passes.
                eprintln!("accepting on port {port}: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn forward_connection(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut gateway) = TcpStream::connect(target).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = gateway.set_nodelay(true);
    // Either side may end at any time; that is no error here.
    let _ = copy_bidirectional(&mut client, &mut gateway).await;
}
