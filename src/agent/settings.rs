//! PostgreSQL's configuration: generated in memory at every start, never edited, never on the data volume.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::DatabaseArgs;
use super::certificates::Installed;

/// Who may connect, and how. The order matters to PostgreSQL; what no line allows is refused.
const HBA: &str = "\
# Made by the agent at every start.
# The agent itself and a person inside the pod. There is no superuser on the network.
local   all  postgres       peer
# Migrations, then the app: TLS with a client certificate whose common name is the role. There are no passwords.
hostssl app  owner     all  cert
hostssl app  app       all  cert
";

/// Who may connect to the registry besides.
const HBA_AUDITOR: &str = "\
# Whoever reads the audit.
hostssl app  auditor   all  cert
";

/// Starts every line of the server's log: process, SQLSTATE, role and backend type between separators that occur in none.
/// [`super::log`] reads it.
pub const LOG_LINE_PREFIX: &str = "%p\u{1f}%e\u{1f}%u\u{1f}%b\u{1f}";

/// Writes all configuration files into the run folder and returns the path of the main one.
pub fn write(args: &DatabaseArgs, pgdata: &Path, tls: &Installed) -> io::Result<PathBuf> {
    let (hba, ident) = (
        args.run_dir.join("pg_hba.conf"),
        args.run_dir.join("pg_ident.conf"),
    );
    let main = args.run_dir.join("postgresql.conf");
    std::fs::write(&hba, hba_lines(args))?;
    std::fs::write(&ident, "")?;
    std::fs::write(&main, render(args, pgdata, &hba, &ident, tls))?;
    Ok(main)
}

fn hba_lines(args: &DatabaseArgs) -> String {
    let auditor = if args.auditor { HBA_AUDITOR } else { "" };
    format!("{HBA}{auditor}")
}

fn render(args: &DatabaseArgs, pgdata: &Path, hba: &Path, ident: &Path, tls: &Installed) -> String {
    let path = |path: &Path| path.display().to_string();
    let groups: [(&str, Vec<(&str, String)>); 6] = [
        (
            "Files",
            vec![
                ("data_directory", path(pgdata)),
                ("hba_file", path(hba)),
                ("ident_file", path(ident)),
                // Settings come from here alone, so a restart never brings a surprise.
                ("allow_alter_system", "off".into()),
            ],
        ),
        (
            "Connections: TLS 1.3 or the pod's own socket",
            vec![
                ("listen_addresses", "*".into()),
                ("port", args.port.to_string()),
                ("unix_socket_directories", path(&args.run_dir)),
                ("unix_socket_permissions", "0700".into()),
                ("max_connections", args.max_connections.to_string()),
                ("superuser_reserved_connections", "3".into()),
                ("authentication_timeout", "10s".into()),
                ("tcp_keepalives_idle", "60s".into()),
                ("client_connection_check_interval", "10s".into()),
                ("ssl", "on".into()),
                ("ssl_min_protocol_version", "TLSv1.3".into()),
                ("ssl_cert_file", path(&tls.certificate)),
                ("ssl_key_file", path(&tls.key)),
                ("ssl_ca_file", path(&tls.authorities)),
            ],
        ),
        (
            "Memory and processes: many small databases share one machine",
            vec![
                ("shared_buffers", args.shared_buffers.as_str().into()),
                ("work_mem", args.work_mem.as_str().into()),
                (
                    "maintenance_work_mem",
                    args.maintenance_work_mem.as_str().into(),
                ),
                ("huge_pages", "off".into()),
                ("autovacuum_max_workers", "1".into()),
                ("max_worker_processes", "2".into()),
                ("max_parallel_workers", "2".into()),
                ("max_parallel_workers_per_gather", "0".into()),
                // One process less; nothing here subscribes to another database.
                ("max_logical_replication_workers", "0".into()),
                // The compiler is not in the image.
                ("jit", "off".into()),
            ],
        ),
        (
            "Write-ahead log",
            vec![
                ("wal_level", "replica".into()),
                ("min_wal_size", "16MB".into()),
                ("max_wal_size", args.max_wal_size.as_str().into()),
                ("wal_compression", "lz4".into()),
            ],
        ),
        (
            "Log: the agent wraps each line as JSON. Statements, parameters and rows never reach it",
            vec![
                ("log_destination", "stderr".into()),
                ("logging_collector", "off".into()),
                ("log_line_prefix", LOG_LINE_PREFIX.into()),
                ("log_error_verbosity", "terse".into()),
                ("log_statement", "none".into()),
                ("log_min_error_statement", "panic".into()),
                ("log_min_duration_statement", "-1".into()),
                ("log_parameter_max_length", "0".into()),
                ("log_parameter_max_length_on_error", "0".into()),
                ("log_autovacuum_min_duration", "-1".into()),
                ("log_timezone", "UTC".into()),
                ("lc_messages", "C".into()),
            ],
        ),
        (
            "Defaults of a session",
            vec![
                ("timezone", "UTC".into()),
                ("password_encryption", "scram-sha-256".into()),
            ],
        ),
    ];

    let mut text = String::from("# Made by the agent at every start.\n");
    for (title, settings) in groups {
        let _ = writeln!(text, "\n# {title}");
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {}", quoted(&value));
        }
    }
    text
}

/// A value in the quoting of `postgresql.conf`.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: DatabaseArgs,
    }

    fn args(extra: &[&str]) -> DatabaseArgs {
        let mut line = vec![
            "agent",
            "--tenant-uid",
            "4f1c09ab-7d00-4000-8000-000000000000",
        ];
        line.extend(extra);
        Command::parse_from(line).args
    }

    fn rendered(extra: &[&str]) -> String {
        let tls = Installed {
            certificate: "/run/c".into(),
            key: "/run/k".into(),
            authorities: "/run/a".into(),
        };
        render(
            &args(extra),
            Path::new("/data"),
            Path::new("/run/hba"),
            Path::new("/run/ident"),
            &tls,
        )
    }

    #[test]
    fn defaults_are_what_a_silo_promises() {
        insta::assert_snapshot!(rendered(&[]).replace('\u{1f}', "|"));
    }

    #[test]
    fn the_plan_sets_sizes() {
        let text = rendered(&[
            "--max-connections",
            "80",
            "--shared-buffers",
            "64MB",
            "--port",
            "6000",
        ]);
        for line in [
            "max_connections = '80'",
            "shared_buffers = '64MB'",
            "port = '6000'",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn only_the_registry_lets_the_auditor_in() {
        let line = "hostssl app  auditor   all  cert";
        let has_it = |extra: &[&str]| hba_lines(&args(extra)).lines().any(|found| found == line);
        assert!(has_it(&["--auditor"]));
        assert!(!has_it(&[]));
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(quoted(r"a'b\c"), r"'a''b\\c'");
    }
}
