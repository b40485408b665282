//! The tenant's keys, as they are put into the pod's memory volume, read again when they change.
//!
//! A directory holds one file of 32 bytes per version, named by it, and `active`: the version for new texts, which is
//! written last. Keys are never logged, and wiped when they are dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::logging::chain;

/// How often, at most, a use of the keys looks whether the files changed.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How often, at most, a text of an unknown version makes the files be looked at.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(100);

/// Length of a key in bytes.
const KEY_LENGTH: usize = 32;

/// Access for others than owner and group, in a file's mode.
const FOR_OTHERS: u32 = 0o007;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or the directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key has another length.
    #[error("{} does not hold exactly {KEY_LENGTH} bytes", path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// Everybody could read a key.
    #[error("{} is open to everybody (mode {mode:04o})", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// `active` is no version.
    #[error("{} does not hold the number of a version", path.display())]
    Active {
        /// The file.
        path: PathBuf,
    },
    /// `active` names a version that has no file.
    #[error("there is no key of version {version}, which is to be used, in {}", dir.display())]
    NoActive {
        /// The version.
        version: u32,
        /// The directory.
        dir: PathBuf,
    },
    /// The cryptography library does not take the key.
    #[error("{} cannot be used as a key", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// Every readable version, and which one writes.
pub struct Keys {
    active: u32,
    versions: BTreeMap<u32, RandomizedNonceKey>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("active", &self.active)
            .field("versions", &self.versions())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// The version that new texts are sealed with.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active
    }

    /// The versions that can be read, lowest first.
    #[must_use]
    pub fn versions(&self) -> Vec<u32> {
        self.versions.keys().copied().collect()
    }

    /// The key of a version, if it is there.
    pub(crate) fn get(&self, version: u32) -> Option<&RandomizedNonceKey> {
        self.versions.get(&version)
    }

    /// Reads all keys of a directory.
    fn read(dir: &Path) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let path = dir.join("active");
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let active = version(text.trim_end_matches('\n')).ok_or(Error::Active { path })?;
        let mut versions = BTreeMap::new();
        for file in fs::read_dir(dir).map_err(failed(dir))? {
            let name = file.map_err(failed(dir))?.file_name();
            // Anything else is `active`, or a file that is still being written.
            if let Some(version) = name.to_str().and_then(version) {
                versions.insert(version, read_key(&dir.join(name))?);
            }
        }
        if versions.contains_key(&active) {
            Ok(Self { active, versions })
        } else {
            Err(Error::NoActive {
                version: active,
                dir: dir.to_owned(),
            })
        }
    }
}

/// A version in decimal digits as they are usually written; 0 is none.
fn version(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

fn read_key(path: &Path) -> Result<RandomizedNonceKey, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    if mode & FOR_OTHERS != 0 {
        return Err(Error::Open {
            path: path.to_owned(),
            mode,
        });
    }
    if usize::try_from(metadata.len()) != Ok(KEY_LENGTH) {
        return Err(Error::Length {
            path: path.to_owned(),
        });
    }
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    file.read_exact(bytes.as_mut_slice()).map_err(failed)?;
    // The library's copy is wiped by the library when the key is dropped.
    RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| Error::Unusable {
        path: path.to_owned(),
    })
}

/// The keys in use. They are looked after by their uses: no timer wakes an idle app.
#[derive(Debug)]
pub struct Keyring {
    dir: PathBuf,
    check_interval: Duration,
    current: ArcSwapOption<Keys>,
    seen: Mutex<Seen>,
    active: watch::Sender<Option<u32>>,
}

#[derive(Debug, Default)]
struct Seen {
    stamp: Option<Stamp>,
    checked: Option<Instant>,
    /// Said once, not at every look.
    complaint: String,
}

/// What tells one state of the directory from another: a key that comes or goes changes the directory, and `active` is
/// replaced by another file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    dir: SystemTime,
    active: SystemTime,
    active_inode: u64,
}

impl Stamp {
    fn take(dir: &Path) -> Result<Self, Error> {
        let look = |path: &Path| {
            fs::metadata(path)
                .and_then(|metadata| Ok((metadata.modified()?, metadata.ino())))
                .map_err(|source| Error::Read {
                    path: path.to_owned(),
                    source,
                })
        };
        let (active, active_inode) = look(&dir.join("active"))?;
        Ok(Self {
            dir: look(dir)?.0,
            active,
            active_inode,
        })
    }
}

impl Keyring {
    /// The keys in `dir`, which need not be there yet. A change is seen by the first use that comes `check_interval`
    /// or more after the last look.
    #[must_use]
    pub fn new(dir: PathBuf, check_interval: Duration) -> Self {
        Self {
            dir,
            check_interval,
            current: ArcSwapOption::empty(),
            seen: Mutex::default(),
            active: watch::Sender::new(None),
        }
    }

    /// The keys as they are now; none before they came. Once there are some, a failure to read keeps them.
    pub fn current(&self) -> Option<Arc<Keys>> {
        let interval = match self.current.load().as_ref() {
            Some(_) => self.check_interval,
            // Somebody waits for them.
            None => Duration::ZERO,
        };
        self.refresh(interval);
        self.current.load_full()
    }

    /// The keys, looked at again if this version is not among them.
    pub fn knowing(&self, version: u32) -> Option<Arc<Keys>> {
        let keys = self.current()?;
        if keys.get(version).is_some() {
            return Some(keys);
        }
        self.refresh(UNKNOWN_INTERVAL.min(self.check_interval));
        self.current.load_full()
    }

    /// Tells when another version becomes the active one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<u32>> {
        self.active.subscribe()
    }

    /// Reads the files again if they changed and the last look is `interval` ago.
    fn refresh(&self, interval: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen
            .checked
            .is_some_and(|checked| checked.elapsed() < interval)
        {
            return;
        }
        seen.checked = Some(Instant::now());
        // Stamped before it is read: what changes meanwhile is read the next time.
        let reloaded = Stamp::take(&self.dir).and_then(|stamp| {
            if seen.stamp.as_ref() == Some(&stamp) {
                return Ok(None);
            }
            Ok(Some((stamp, Keys::read(&self.dir)?)))
        });
        match reloaded {
            Ok(None) => seen.complaint.clear(),
            Ok(Some((stamp, keys))) => {
                tracing::info!(active = keys.active, versions = ?keys.versions(), "read the keys");
                seen.stamp = Some(stamp);
                seen.complaint.clear();
                let active = Some(keys.active);
                self.current.store(Some(Arc::new(keys)));
                self.active
                    .send_if_modified(|last| std::mem::replace(last, active) != active);
            }
            Err(error) => {
                let complaint = chain(&error);
                if complaint != seen.complaint {
                    tracing::warn!(reason = complaint, "the keys cannot be read");
                    seen.complaint = complaint;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(dir: &Path, name: &str, content: &[u8], mode: u32) {
        let new = dir.join(format!("{name}.tmp"));
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, dir.join(name)).unwrap();
    }

    fn ring(dir: &Path) -> Keyring {
        Keyring::new(dir.to_owned(), Duration::ZERO)
    }

    #[test]
    fn keys_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let mut changes = ring.changes();
        assert!(ring.current().is_none(), "nothing is there yet");
        put(dir.path(), "1", &[1; 32], 0o400);
        assert!(ring.current().is_none(), "`active` comes last");
        put(dir.path(), "active", b"1\n", 0o400);
        let keys = ring.current().unwrap();
        assert_eq!((keys.active(), keys.versions()), (1, vec![1]));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();

        put(dir.path(), "2", &[2; 32], 0o400);
        let keys = ring.knowing(2).unwrap();
        assert_eq!((keys.active(), keys.versions()), (1, vec![1, 2]));
        assert!(!changes.has_changed().unwrap(), "it is not active yet");
        put(dir.path(), "active", b"2", 0o400);
        assert_eq!(ring.current().unwrap().active(), 2);
        assert!(changes.has_changed().unwrap());

        fs::remove_file(dir.path().join("1")).unwrap();
        assert_eq!(ring.current().unwrap().versions(), [2]);
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(
            ring.current().unwrap().versions(),
            [2],
            "what is known stays"
        );
    }

    #[test]
    fn files_are_not_looked_at_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::new(dir.path().to_owned(), Duration::from_hours(1));
        assert!(ring.current().is_none());
        put(dir.path(), "1", &[1; 32], 0o400);
        put(dir.path(), "active", b"1", 0o400);
        assert_eq!(
            ring.current().unwrap().active(),
            1,
            "while missing they are"
        );
        put(dir.path(), "2", &[2; 32], 0o400);
        put(dir.path(), "active", b"2", 0o400);
        assert_eq!(ring.current().unwrap().active(), 1);
        std::thread::sleep(UNKNOWN_INTERVAL);
        assert_eq!(
            ring.knowing(2).unwrap().active(),
            2,
            "unless one is unknown"
        );
    }

    #[test]
    fn what_is_no_key_is_not_used_and_the_good_ones_stay() {
        for (name, content, mode, why) in [
            ("2", [2; 31].as_slice(), 0o400, "exactly 32 bytes"),
            ("2", &[2; 33], 0o400, "exactly 32 bytes"),
            ("2", b"", 0o400, "exactly 32 bytes"),
            ("2", &[2; 32], 0o404, "open to everybody (mode 0404)"),
            ("active", b"", 0o400, "does not hold the number"),
            ("active", b"one", 0o400, "does not hold the number"),
            ("active", b"0", 0o400, "does not hold the number"),
            ("active", b"01", 0o400, "does not hold the number"),
            ("active", b"1\n\n1", 0o400, "does not hold the number"),
            ("active", b"4294967296", 0o400, "does not hold the number"),
            ("active", b"3", 0o400, "no key of version 3"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let ring = ring(dir.path());
            put(dir.path(), "1", &[1; 32], 0o400);
            put(dir.path(), "active", b"1", 0o400);
            assert!(ring.current().is_some());
            put(dir.path(), name, content, mode);
            let error = chain(&Keys::read(dir.path()).unwrap_err());
            assert!(error.contains(why), "{error}");
            assert_eq!(ring.current().unwrap().versions(), [1], "{why}");
            put(dir.path(), "2", &[2; 32], 0o400);
            put(dir.path(), "active", b"2", 0o400);
            assert_eq!(ring.current().unwrap().active(), 2, "{why}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "1", &[1; 32], 0o400);
        for other in ["2.tmp", "+3", "04", "0", ".5"] {
            put(dir.path(), other, b"half", 0o400);
        }
        put(dir.path(), "active", b"1", 0o400);
        assert_eq!(ring(dir.path()).current().unwrap().versions(), [1]);
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "1", &[0xab; 32], 0o400);
        put(dir.path(), "active", b"1", 0o400);
        let ring = ring(dir.path());
        ring.current();
        let shown = format!("{ring:?}");
        assert!(shown.contains("active: 1"), "{shown}");
        assert!(!shown.contains("ab") && !shown.contains("171"), "{shown}");
    }
}
