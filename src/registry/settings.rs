//! Where the registry is, and as whom to talk to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection to the registry needs.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Where it is.
    pub endpoint: Endpoint,
    /// As whom to log in; the client certificate's common name.
    pub role: Role,
    /// How both sides prove who they are.
    pub identity: Identity,
    /// Database to use.
    pub database: String,
    /// Folder in which the private socket is made, a folder of its own; it must be writable.
    pub socket_dir: PathBuf,
    /// Connections that are open at the same time at most.
    pub max_connections: u32,
    /// How long a caller waits for a connection, which includes making one.
    pub patience: Duration,
}

impl RegistrySettings {
    /// Settings with the defaults of a plane: database `app`, the system's folder for temporary files, 8 connections, 4 s
    /// of patience.
    #[must_use]
    pub fn new(endpoint: Endpoint, role: Role, identity: Identity) -> Self {
        Self {
            endpoint,
            role,
            identity,
            database: "app".to_owned(),
            socket_dir: std::env::temp_dir(),
            max_connections: 8,
            patience: Duration::from_secs(4),
        }
    }
}

/// Where the registry is.
#[derive(Clone)]
pub enum Endpoint {
    /// A host that can be reached.
    Tcp {
        /// Name or address, which its certificate must be for.
        host: String,
        /// Port of PostgreSQL.
        port: u16,
    },
    /// Something that makes a connection by other means, such as a port-forward.
    Stream {
        /// The name that the registry's certificate must be for.
        server_name: String,
        /// Makes one connection.
        dial: Dial,
    },
}

impl Endpoint {
    /// The registry at a host, on PostgreSQL's usual port.
    #[must_use]
    pub fn host(host: impl Into<String>) -> Self {
        Self::Tcp {
            host: host.into(),
            port: 5432,
        }
    }

    /// The name that the registry's certificate must be for.
    pub(super) fn server_name(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Stream { server_name, .. } => server_name,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Stream { server_name, .. } => f.write_str(server_name),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// A connection that was made by other means.
pub type Stream = Box<dyn Duplex>;

/// Makes connections by other means.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Stream>> + Send + Sync>;

/// What a connection reads from and writes to.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A role of the registry's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes the schema.
    Owner,
    /// Reads and writes rows.
    App,
    /// Reads the audit.
    Auditor,
}

impl Role {
    /// The role's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::App => "app",
            Self::Auditor => "auditor",
        }
    }
}

/// How both sides prove who they are, in PEM.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Files, read anew for each connection, because they are renewed while this runs.
    Files {
        /// Authorities that may have signed the registry's certificate.
        ca: PathBuf,
        /// Client certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// The texts themselves.
    Pem {
        /// Authorities that may have signed the registry's certificate.
        ca: String,
        /// Client certificate.
        certificate: String,
        /// Its key.
        key: SecretString,
    },
}
