//! The command line and the environment, read once at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::Uri;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use uuid::Uuid;

/// The tenant app.
#[derive(Debug, Parser)]
#[command(
    name = "tenant-template",
    version,
    about = "The reference tenant app of Granary: a cash book",
    long_about = "The reference tenant app of Granary: a cash book in the tenant's own database.\n\n\
        Without a command it serves. Every option can be given by the environment variable shown with it, \
        which is how Granary starts it."
)]
pub struct Cli {
    /// What to do; `serve` when none is given.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the cash book over HTTPS (the default)
    ///
    /// Listens at once; `/readyz` answers 200 when the database answers, its schema is the one this build needs and
    /// the tenant's keys are there. Certificates and keys are read again when their files change. SIGTERM ends it when
    /// running requests are done.
    Serve(ServeArgs),
    /// Bring the database schema up to date, then exit
    ///
    /// Waits for the database, takes an advisory lock, applies what is missing and exits 0. Safe to run again
    /// and to run twice at once. Runs as the role that owns the schema.
    Migrate(MigrateArgs),
}

/// Options of `serve`.
#[derive(Debug, Clone, Parser)]
#[command(name = "tenant-template", about = "Serve the cash book over HTTPS")]
pub struct ServeArgs {
    /// Address and port of the HTTPS listener
    #[arg(
        long,
        env = "LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub listen: SocketAddr,
    /// Directory with tls.crt and tls.key of this server
    #[arg(
        long,
        env = "TLS_DIR",
        value_name = "DIR",
        default_value = "/run/granary/tls"
    )]
    pub tls_dir: PathBuf,
    /// Directory with the tenant's keys, one directory per purpose; the key of purpose `app` encrypts descriptions
    #[arg(
        long,
        env = "GRANARY_KEYS_DIR",
        value_name = "DIR",
        default_value = "/run/granary/keys"
    )]
    pub keys_dir: PathBuf,
    /// UID of the tenant; what is encrypted for another one cannot be read
    #[arg(long, env = "GRANARY_TENANT_UID", value_name = "UUID")]
    pub tenant_uid: Uuid,
    /// Name of the tenant as people read it
    #[arg(long, env = "GRANARY_DISPLAY_NAME", value_name = "NAME")]
    pub display_name: String,
    /// production, staging or development; anything but production is shown on the page
    #[arg(
        long,
        env = "GRANARY_ENVIRONMENT",
        value_name = "NAME",
        default_value = "production"
    )]
    pub environment: String,
    /// Address that people open; a request for another host is refused
    #[arg(long, env = "GRANARY_URL", value_name = "URL")]
    pub url: PublicUrl,
    /// Where the database is and who this app is to it
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Log filter: a level, or levels by target
    #[arg(
        long,
        env = "GRANARY_LOG",
        value_name = "FILTER",
        default_value = "info,sqlx=warn"
    )]
    pub log: Targets,
}

/// Options of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// Seconds to wait for the database to accept connections
    #[arg(
        long,
        env = "MIGRATE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 120
    )]
    pub timeout: u64,
    /// Where the database is and who this run is to it
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Log filter: a level, or levels by target
    #[arg(
        long,
        env = "GRANARY_LOG",
        value_name = "FILTER",
        default_value = "info,sqlx=warn"
    )]
    pub log: Targets,
}

/// Where the database is and with which certificate to reach it. There are no passwords.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Host name of the database; its certificate must be for this name
    #[arg(long = "database-host", env = "PGHOST", value_name = "HOST")]
    pub host: String,
    /// Port of the database
    #[arg(
        long = "database-port",
        env = "PGPORT",
        value_name = "PORT",
        default_value_t = 5432
    )]
    pub port: u16,
    /// Name of the database
    #[arg(
        long = "database-name",
        env = "PGDATABASE",
        value_name = "NAME",
        default_value = "app"
    )]
    pub name: String,
    /// Role to connect as: app to serve, owner to migrate
    #[arg(long = "database-user", env = "PGUSER", value_name = "ROLE")]
    pub user: String,
    /// How the connection is secured; nothing weaker is accepted
    #[arg(long = "database-tls", env = "PGSSLMODE", value_name = "MODE", default_value = "verify-full",
          value_parser = ["verify-full"])]
    pub tls_mode: String,
    /// Certificates that may have signed the database's
    #[arg(
        long = "database-ca",
        env = "PGSSLROOTCERT",
        value_name = "FILE",
        default_value = "/run/granary/tls/ca.crt"
    )]
    pub ca: PathBuf,
    /// Client certificate, whose name is the role
    #[arg(
        long = "database-cert",
        env = "PGSSLCERT",
        value_name = "FILE",
        default_value = "/run/granary/tls/client.crt"
    )]
    pub cert: PathBuf,
    /// Directory for the private socket between this process and its TLS connection to the database
    #[arg(long, env = "TMPDIR", value_name = "DIR", default_value = "/tmp")]
    pub socket_dir: PathBuf,
    /// Key of the client certificate
    #[arg(
        long = "database-key",
        env = "PGSSLKEY",
        value_name = "FILE",
        default_value = "/run/granary/tls/client.key"
    )]
    pub key: PathBuf,
}

impl Cli {
    /// Reads the command line and the environment; a mistake ends the process with a message.
    #[must_use]
    pub fn read() -> Command {
        // Without a command there are no options either, so that all of `serve` comes from the environment.
        Self::parse()
            .command
            .unwrap_or_else(|| Command::Serve(ServeArgs::parse()))
    }
}

/// The address that people open, `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
}

/// Why an address is not a [`PublicUrl`].
#[derive(Debug, thiserror::Error)]
#[error("must be https://HOST or https://HOST:PORT, with nothing after it")]
pub struct InvalidUrl;

impl PublicUrl {
    /// What a browser sends as `Origin` from this address: scheme, host and port in lower case.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The host name in lower case, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl std::str::FromStr for PublicUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl)?;
        let authority = uri.authority().ok_or(InvalidUrl)?;
        let bare = matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !bare || uri.host().is_none_or(str::is_empty) {
            return Err(InvalidUrl);
        }
        let host = authority.host().to_ascii_lowercase();
        let origin = match authority.port_u16() {
            // Browsers leave the default port out.
            None | Some(443) => format!("https://{host}"),
            Some(port) => format!("https://{host}:{port}"),
        };
        Ok(Self { origin, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        ServeArgs::command().debug_assert();
    }

    #[test]
    fn a_public_url_is_an_https_origin() {
        let url: PublicUrl = "https://Acme.granary.localhost:8443/".parse().unwrap();
        assert_eq!(url.origin(), "https://acme.granary.localhost:8443");
        assert_eq!(url.host(), "acme.granary.localhost");
        let default_port: PublicUrl = "https://acme.example.com:443".parse().unwrap();
        assert_eq!(default_port.origin(), "https://acme.example.com");
        for bad in [
            "",
            "acme",
            "http://acme.example.com",
            "https://",
            "https://a@b",
            "https://a/b",
            "https://a/?q",
            "https://:1",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_weaker_database_connection_is_refused() {
        let command = |mode: &str| {
            Cli::try_parse_from([
                "x",
                "migrate",
                "--database-host",
                "db",
                "--database-user",
                "owner",
                "--database-tls",
                mode,
            ])
        };
        assert!(command("verify-full").is_ok());
        assert!(command("require").is_err());
    }
}
