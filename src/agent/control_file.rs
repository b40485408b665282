//! `global/pg_control` of PostgreSQL 17: read it, and give a copied cluster an identity of its own.
//!
//! A copy of a template shares its **system identifier**, PostgreSQL's only guard against applying another cluster's
//! write-ahead log, and its **mock authentication nonce**. Both are rewritten here; `pg_resetwal` then starts a log that
//! carries the new identifier. `pg_createsubscriber` changes a cluster's identifier the same way.
//!
//! Offsets are those of `ControlFileData` in PostgreSQL's `src/include/catalog/pg_control.h`, on 64-bit little-endian
//! machines. The versions at the head of the file and its checksum prove that they hold before anything is written.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// `PG_CONTROL_VERSION` of PostgreSQL 17.
const CONTROL_VERSION: u32 = 1700;
/// `CATALOG_VERSION_NO` of PostgreSQL 17.
const CATALOG_VERSION: u32 = 202_406_281;
/// `PG_CONTROL_FILE_SIZE`: the file is zero-filled up to here.
const FILE_SIZE: usize = 8192;
/// `DB_SHUTDOWNED`: the cluster was stopped cleanly.
const STATE_SHUT_DOWN: u32 = 1;

const SYSTEM_IDENTIFIER: usize = 0;
const VERSION: usize = 8;
const CATALOG: usize = 12;
const STATE: usize = 16;
const NONCE: std::ops::Range<usize> = 256..288;
const CRC: usize = 288;

/// Why a control file is not touched.
#[derive(Debug, thiserror::Error)]
pub enum ControlFileError {
    /// The file could not be read or written.
    #[error("{path} cannot be read or written")]
    Io {
        /// The control file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not as long as PostgreSQL makes it.
    #[error("{path} has {size} bytes instead of {FILE_SIZE}: the data directory is damaged")]
    Size {
        /// The control file.
        path: PathBuf,
        /// Its size in bytes.
        size: usize,
    },
    /// The file belongs to another version of PostgreSQL.
    #[error(
        "{path} has control version {control} and catalog version {catalog}; PostgreSQL 17 writes {CONTROL_VERSION} and {CATALOG_VERSION}"
    )]
    Version {
        /// The control file.
        path: PathBuf,
        /// `pg_control` version found.
        control: u32,
        /// Catalog version found.
        catalog: u32,
    },
    /// The file contradicts its own checksum.
    #[error("{path} does not match its checksum: the data directory is damaged")]
    Checksum {
        /// The control file.
        path: PathBuf,
    },
    /// The cluster was not stopped cleanly, so its log cannot be replaced.
    #[error(
        "{path} says that the cluster was not shut down cleanly (state {state}): its write-ahead log is still needed"
    )]
    State {
        /// The control file.
        path: PathBuf,
        /// `DBState` found.
        state: u32,
    },
    /// The system gave no random bytes.
    #[error("the system has no random bytes to give")]
    Random,
}

/// The control file of one data directory, checked.
pub struct ControlFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl ControlFile {
    /// Reads and checks the control file of `pgdata`.
    pub fn open(pgdata: &Path) -> Result<Self, ControlFileError> {
        let path = pgdata.join("global/pg_control");
        let bytes = fs::read(&path).map_err(|source| ControlFileError::Io {
            path: path.clone(),
            source,
        })?;
        if bytes.len() != FILE_SIZE {
            return Err(ControlFileError::Size {
                path,
                size: bytes.len(),
            });
        }
        let file = Self { path, bytes };
        let (control, catalog) = (file.u32_at(VERSION), file.u32_at(CATALOG));
        if (control, catalog) != (CONTROL_VERSION, CATALOG_VERSION) {
            return Err(ControlFileError::Version {
                path: file.path,
                control,
                catalog,
            });
        }
        if file.u32_at(CRC) != file.checksum() {
            return Err(ControlFileError::Checksum { path: file.path });
        }
        Ok(file)
    }

    /// The cluster's system identifier.
    pub fn system_identifier(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[SYSTEM_IDENTIFIER..SYSTEM_IDENTIFIER + 8]);
        u64::from_le_bytes(word)
    }

    /// Writes a fresh system identifier and nonce and returns the identifier. The cluster must be shut down, and its
    /// write-ahead log must be reset before it starts.
    pub fn personalise(mut self) -> Result<u64, ControlFileError> {
        let state = self.u32_at(STATE);
        if state != STATE_SHUT_DOWN {
            return Err(ControlFileError::State {
                path: self.path,
                state,
            });
        }
        let mut random = [0; 4 + 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| ControlFileError::Random)?;
        let (low, nonce) = random.split_at(4);

        // Like initdb's: seconds since 1970 above. Below, random bits instead of the time's fraction and the process id,
        // which is the same in every pod.
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut identifier = (seconds << 32).to_le_bytes();
        identifier[..4].copy_from_slice(low);

        self.bytes[SYSTEM_IDENTIFIER..SYSTEM_IDENTIFIER + 8].copy_from_slice(&identifier);
        self.bytes[NONCE].copy_from_slice(nonce);
        let crc = self.checksum().to_le_bytes();
        self.bytes[CRC..CRC + 4].copy_from_slice(&crc);
        match fs::write(&self.path, &self.bytes) {
            Ok(()) => Ok(u64::from_le_bytes(identifier)),
            Err(source) => Err(ControlFileError::Io {
                path: self.path,
                source,
            }),
        }
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.bytes[..CRC])
    }

    fn u32_at(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes[offset..offset + 4]);
        u32::from_le_bytes(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control file with the fields that are checked; everything else is zero.
    fn pgdata(version: u32, catalog: u32, state: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("global")).unwrap();
        let mut bytes = vec![0; FILE_SIZE];
        bytes[..8].copy_from_slice(&7_710_591_937_260_517_987_u64.to_le_bytes());
        bytes[VERSION..VERSION + 4].copy_from_slice(&version.to_le_bytes());
        bytes[CATALOG..CATALOG + 4].copy_from_slice(&catalog.to_le_bytes());
        bytes[STATE..STATE + 4].copy_from_slice(&state.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC]).to_le_bytes();
        bytes[CRC..CRC + 4].copy_from_slice(&crc);
        fs::write(dir.path().join("global/pg_control"), bytes).unwrap();
        dir
    }

    #[test]
    fn a_copy_gets_its_own_identifier_and_nonce_and_stays_valid() {
        let (a, b) = (pgdata(1700, 202_406_281, 1), pgdata(1700, 202_406_281, 1));
        let before = fs::read(a.path().join("global/pg_control")).unwrap();
        let first = ControlFile::open(a.path()).unwrap().personalise().unwrap();
        let second = ControlFile::open(b.path()).unwrap().personalise().unwrap();

        assert_ne!(first, second);
        assert_eq!(
            ControlFile::open(a.path()).unwrap().system_identifier(),
            first
        );
        let (after_a, after_b) = (
            fs::read(a.path().join("global/pg_control")).unwrap(),
            fs::read(b.path().join("global/pg_control")).unwrap(),
        );
        assert_ne!(after_a[NONCE], after_b[NONCE]);
        assert_ne!(after_a[NONCE], before[NONCE]);
        assert_eq!(
            after_a[VERSION..NONCE.start],
            before[VERSION..NONCE.start],
            "nothing else changed"
        );
    }

    #[test]
    fn another_version_is_refused() {
        for (version, catalog) in [
            (1300, 202_406_281),
            (1800, 202_406_281),
            (1700, 202_307_071),
        ] {
            let error = ControlFile::open(pgdata(version, catalog, 1).path())
                .err()
                .unwrap();
            assert!(matches!(error, ControlFileError::Version { .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = pgdata(1700, 202_406_281, 1);
        let path = dir.path().join("global/pg_control");
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            ControlFile::open(dir.path()),
            Err(ControlFileError::Checksum { .. })
        ));
        fs::write(&path, &bytes[..4096]).unwrap();
        assert!(matches!(
            ControlFile::open(dir.path()),
            Err(ControlFileError::Size { size: 4096, .. })
        ));
    }

    #[test]
    fn a_cluster_that_was_not_shut_down_keeps_its_identity() {
        let error = ControlFile::open(pgdata(1700, 202_406_281, 6).path())
            .unwrap()
            .personalise()
            .unwrap_err();
        assert!(
            matches!(error, ControlFileError::State { state: 6, .. }),
            "{error}"
        );
    }
}
