//! The data volume: who owns it, what is on it, and how an empty one becomes a database.
//!
//! ```text
//! <volume>/agent.lock     held by the agent and by every PostgreSQL process it starts
//! <volume>/pgdata.init    an unfinished initialisation: thrown away and begun again
//! <volume>/pgdata         a finished one: named so only when it is whole and on disk, never initialised over
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::control_file::{ControlFile, ControlFileError};
use super::{POSTGRES_MAJOR, template};

/// Names the tenant inside the data directory, so that it travels with every copy of it.
const IDENTITY: &str = "granary.json";
/// Free bytes below which a volume counts as full, unless two percent of it are more.
const RESERVE: u64 = 16 * 1024 * 1024;

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Something on the volume could not be read or written.
    #[error("{action} {path}")]
    Io {
        /// What was tried, as the start of a sentence.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent, or a PostgreSQL it left behind, uses the volume.
    #[error("{path} is locked: another database pod still uses this volume; end that pod first")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The data belongs to somebody else.
    #[error(
        "{path} holds the database of tenant {found}, but this pod serves tenant {expected}: refusing to start; attach the right volume"
    )]
    OtherTenant {
        /// The data directory.
        path: PathBuf,
        /// Tenant the data belongs to.
        found: Uuid,
        /// Tenant this pod belongs to.
        expected: Uuid,
    },
    /// The data was written by another major version.
    #[error(
        "{path} was written by PostgreSQL {found}, and this image has {POSTGRES_MAJOR}: refusing to start; use the image of that version or upgrade the data"
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// Content of `PG_VERSION`.
        found: String,
    },
    /// There is data, but nothing says whose.
    #[error(
        "{path} does not name a tenant in {IDENTITY}: this data directory was not made by a Granary agent, refusing to start"
    )]
    Unknown {
        /// The data directory.
        path: PathBuf,
        /// Why the file could not be understood.
        #[source]
        source: io::Error,
    },
    /// The empty volume is too small for even an empty database.
    #[error(
        "the volume at {path} has {free} bytes free, and an empty database needs {needed}: use a plan with more storage"
    )]
    TooSmall {
        /// The volume.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The template's control file is not what it should be.
    #[error("the copied template cluster cannot be given an identity of its own")]
    Template(#[from] ControlFileError),
    /// `pg_resetwal` refused.
    #[error("pg_resetwal could not start a write-ahead log for the new database: {output}")]
    ResetWal {
        /// What it printed.
        output: String,
    },
}

/// Attaches what was tried to an I/O error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Whose data a data directory holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Identity {
    tenant_uid: Uuid,
}

/// Bytes of a volume, as an unprivileged process sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What may still be written.
    pub free_bytes: u64,
}

impl Space {
    /// Asks the file system that holds `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = statvfs(path)?;
        let unit = stat.fragment_size();
        Ok(Self {
            total_bytes: unit * stat.blocks(),
            free_bytes: unit * stat.blocks_available(),
        })
    }

    /// Free bytes below which the volume counts as full: PostgreSQL stops when its log finds no room, and cannot start
    /// again either, so the alarm must come while there is some left.
    pub fn reserve(self) -> u64 {
        RESERVE.max(self.total_bytes / 50)
    }

    /// Whether less than the reserve is left.
    pub fn is_full(self) -> bool {
        self.free_bytes < self.reserve()
    }
}

/// Times of consecutive steps, for the log.
struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start or the last lap.
    fn lap(&mut self) -> u64 {
        let took = self.0.elapsed();
        self.0 += took;
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The volume of one silo's database, locked.
pub struct Volume {
    root: PathBuf,
    _lock: File,
}

impl Volume {
    /// Takes the volume's lock, which every child process inherits: it is free again only when the last of them has ended.
    pub fn lock(root: &Path) -> Result<Self, VolumeError> {
        let path = root.join("agent.lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("cannot open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(VolumeError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => {
                return Err(io_error("cannot lock", &path)(source));
            }
        }
        fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|errno| io_error("cannot pass on the lock", &path)(errno.into()))?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// Where the finished data directory is.
    pub fn pgdata(&self) -> PathBuf {
        self.root.join("pgdata")
    }

    /// Makes the data directory of an empty volume, or checks that the one found may be started.
    /// Returns whether it was made now.
    pub fn prepare(
        &self,
        tenant: Uuid,
        archive: &Path,
        bin_dir: &Path,
    ) -> Result<bool, VolumeError> {
        let pgdata = self.pgdata();
        let exists = pgdata
            .try_exists()
            .map_err(io_error("cannot look at", &pgdata))?;
        if exists {
            check(&pgdata, tenant)?;
            remove_stale_pid(&pgdata)?;
        } else {
            self.initialise(tenant, archive, bin_dir)?;
        }
        Ok(!exists)
    }

    fn initialise(&self, tenant: Uuid, archive: &Path, bin_dir: &Path) -> Result<(), VolumeError> {
        let (draft, pgdata) = (self.root.join("pgdata.init"), self.pgdata());
        match fs::remove_dir_all(&draft) {
            Ok(()) => {
                tracing::info!(path = %draft.display(), "removed an unfinished initialisation");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("cannot remove the unfinished", &draft)(source)),
        }
        let space = Space::of(&self.root).map_err(io_error("cannot measure", &self.root))?;
        let template = fs::metadata(archive)
            .map_err(io_error("cannot find the template", archive))?
            .len();
        let needed = template + space.reserve();
        if space.free_bytes < needed {
            return Err(VolumeError::TooSmall {
                path: self.root.clone(),
                free: space.free_bytes,
                needed,
            });
        }

        let mut stopwatch = Stopwatch::start();
        template::unpack(archive, &draft)
            .map_err(io_error("cannot unpack the template to", &draft))?;
        let unpack_millis = stopwatch.lap();
        let system_identifier = ControlFile::open(&draft)?.personalise()?;
        reset_wal(bin_dir, &draft)?;
        write_identity(&draft, tenant)?;
        let identity_millis = stopwatch.lap();

        // Whole and on disk first, named second: a crash leaves either no database or a good one.
        let root = File::open(&self.root).map_err(io_error("cannot open", &self.root))?;
        nix::unistd::syncfs(&root)
            .map_err(|errno| io_error("cannot sync", &self.root)(errno.into()))?;
        fs::rename(&draft, &pgdata).map_err(io_error("cannot rename the finished", &draft))?;
        root.sync_all()
            .map_err(io_error("cannot sync", &self.root))?;
        tracing::info!(
            system_identifier,
            unpack_millis,
            identity_millis,
            sync_millis = stopwatch.lap(),
            "initialised the database from the template"
        );
        Ok(())
    }
}

/// Writes whose data this is into the data directory.
fn write_identity(pgdata: &Path, tenant: Uuid) -> Result<(), VolumeError> {
    let path = pgdata.join(IDENTITY);
    let write = || {
        let json = serde_json::to_vec(&Identity { tenant_uid: tenant })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&json)
    };
    write().map_err(io_error("cannot write", &path))
}

/// Refuses data that this agent must not start.
fn check(pgdata: &Path, tenant: Uuid) -> Result<(), VolumeError> {
    let path = pgdata.join("PG_VERSION");
    let found = fs::read_to_string(&path).map_err(io_error("cannot read", &path))?;
    if found.trim() != POSTGRES_MAJOR.to_string() {
        return Err(VolumeError::OtherVersion {
            path: pgdata.to_owned(),
            found: found.trim().to_owned(),
        });
    }
    let identity = fs::read(pgdata.join(IDENTITY))
        .and_then(|json| serde_json::from_slice::<Identity>(&json).map_err(io::Error::from))
        .map_err(|source| VolumeError::Unknown {
            path: pgdata.to_owned(),
            source,
        })?;
    if identity.tenant_uid != tenant {
        return Err(VolumeError::OtherTenant {
            path: pgdata.to_owned(),
            found: identity.tenant_uid,
            expected: tenant,
        });
    }
    let system_identifier = ControlFile::open(pgdata)?.system_identifier();
    tracing::info!(system_identifier, "found this tenant's database");
    Ok(())
}

/// Removes what a killed server left. PostgreSQL would keep it if its process id is in use again, and process ids of a
/// container repeat. No server can be running: it would hold the volume's lock.
fn remove_stale_pid(pgdata: &Path) -> Result<(), VolumeError> {
    let path = pgdata.join("postmaster.pid");
    match fs::remove_file(&path) {
        Ok(()) => {
            tracing::warn!(
                "the database was not shut down cleanly; it recovers from its write-ahead log now"
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("cannot remove the stale", &path)(source)),
    }
}

/// Lets PostgreSQL itself write the first segment of the log, with the cluster's new identifier in it.
fn reset_wal(bin_dir: &Path, pgdata: &Path) -> Result<(), VolumeError> {
    let program = bin_dir.join("pg_resetwal");
    let output = Command::new(&program)
        .arg("--pgdata")
        .arg(pgdata)
        .env_clear()
        .output()
        .map_err(io_error("cannot run", &program))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(VolumeError::ResetWal {
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}
