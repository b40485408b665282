//! The folder that an app reads its keys from.
//!
//! Every file appears whole, by a rename, and `active` last: whoever can read it can read the version that it names.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::keys::{KEY_LENGTH, PlainKey, Purpose};
use crate::keyserver::client::OwnKey;

/// The file that names the version for writes.
const ACTIVE: &str = "active";

/// What a file is called before it is whole.
const DRAFT: &str = ".new";

/// Why the folder does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not in memory.
    #[error(
        "{0} is on a disk, where no key may be written: mount an emptyDir with `medium: Memory` there"
    )]
    NotInMemory(PathBuf),
    /// A file could not be read, written or removed.
    #[error("cannot use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key server's list makes no sense.
    #[error("the key server's list of {purpose} keys is not usable: {why}")]
    List {
        /// Which keys.
        purpose: Purpose,
        /// What is wrong with it.
        why: String,
    },
}

/// The keys of one purpose, in memory.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
    purpose: Purpose,
}

/// What changed in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Versions that came.
    pub added: Vec<u32>,
    /// Versions that went.
    pub removed: Vec<u32>,
    /// The version for writes, if it is another one now.
    pub active: Option<u32>,
}

impl Change {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl KeyFolder {
    /// The folder of this purpose below `dir`.
    #[must_use]
    pub fn new(dir: &Path, purpose: Purpose) -> Self {
        Self {
            path: dir.join(purpose.as_str()),
            purpose,
        }
    }

    /// Makes the folder, unless `dir` is on a disk.
    pub fn create(dir: &Path, purpose: Purpose) -> Result<Self, FolderError> {
        let folder = Self::new(dir, purpose);
        let kind = statfs(dir).map_err(|error| FolderError::Io {
            path: dir.to_owned(),
            source: error.into(),
        })?;
        if kind.filesystem_type() != TMPFS_MAGIC {
            return Err(FolderError::NotInMemory(dir.to_owned()));
        }
        match DirBuilder::new().mode(0o700).create(&folder.path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(FolderError::Io {
                path: folder.path,
                source,
            }),
            _ => Ok(folder),
        }
    }

    /// The versions that are there.
    pub fn versions(&self) -> Result<Vec<u32>, FolderError> {
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|source| self.failed("", source))? {
            let entry = entry.map_err(|source| self.failed("", source))?;
            let version = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(version) = version
                && self.holds(version)
            {
                versions.push(version);
            }
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// The version for writes, once its key is there too.
    #[must_use]
    pub fn active(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path.join(ACTIVE)).ok()?;
        text.trim()
            .parse()
            .ok()
            .filter(|version| self.holds(*version))
    }

    /// Makes the folder hold these versions and no others.
    pub fn update(&self, keys: &[OwnKey]) -> Result<Change, FolderError> {
        let useless = |why: String| FolderError::List {
            purpose: self.purpose,
            why,
        };
        let mut active = keys.iter().filter(|key| key.active);
        let (Some(active), None) = (active.next(), active.next()) else {
            return Err(useless("it has not exactly one active version".to_owned()));
        };
        let mut change = Change::default();
        for own in keys {
            match &own.key {
                Some(key) => {
                    self.put(own.version, key)?;
                    change.added.push(own.version);
                }
                None if self.holds(own.version) => {}
                None => return Err(useless(format!("version {} has no key", own.version))),
            }
        }
        if self.active() != Some(active.version) {
            self.write(ACTIVE, active.version.to_string().as_bytes())?;
            change.active = Some(active.version);
        }
        for version in self.versions()? {
            if !keys.iter().any(|own| own.version == version) {
                let name = version.to_string();
                fs::remove_file(self.path.join(&name)).map_err(|e| self.failed(&name, e))?;
                change.removed.push(version);
            }
        }
        Ok(change)
    }

    fn holds(&self, version: u32) -> bool {
        fs::metadata(self.path.join(version.to_string()))
            .is_ok_and(|file| file.is_file() && file.len() == KEY_LENGTH as u64)
    }

    fn put(&self, version: u32, key: &PlainKey) -> Result<(), FolderError> {
        self.write(&version.to_string(), key.expose())
    }

    /// Puts a file in its place at once, for the pod's own user to read.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        let draft = self.path.join(DRAFT);
        let write = || {
            // What an interrupted write left cannot be opened again: nobody may write to it.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o400)
                .open(&draft)?;
            file.write_all(content)?;
            fs::rename(&draft, self.path.join(name))
        };
        write().map_err(|source| self.failed(name, source))
    }

    fn failed(&self, name: &str, source: io::Error) -> FolderError {
        FolderError::Io {
            path: self.path.join(name),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder in memory, as a pod's volume is.
    fn memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    fn own(version: u32, active: bool, byte: Option<u8>) -> OwnKey {
        OwnKey {
            version,
            active,
            key: byte.map(|byte| PlainKey::try_from([byte; KEY_LENGTH].as_slice()).unwrap()),
        }
    }

    #[test]
    fn keys_appear_change_and_go() {
        let dir = memory();
        let folder = KeyFolder::create(dir.path(), Purpose::App).unwrap();
        assert_eq!(folder.active(), None);
        let change = folder.update(&[own(1, true, Some(7))]).unwrap();
        assert_eq!((change.added, change.active), (vec![1], Some(1)));
        let path = dir.path().join("app/1");
        assert_eq!(fs::read(&path).unwrap(), [7; 32]);
        for (file, mode) in [("app/1", 0o400), ("app/active", 0o400), ("app", 0o700)] {
            let found = fs::metadata(dir.path().join(file)).unwrap().permissions();
            assert_eq!(found.mode() & 0o777, mode, "{file}");
        }
        // A rotation: the pod says that it has version 1.
        let rotated = [own(2, true, Some(8)), own(1, false, None)];
        let change = folder.update(&rotated).unwrap();
        assert_eq!((change.added, change.active), (vec![2], Some(2)));
        assert_eq!(
            fs::read_to_string(dir.path().join("app/active")).unwrap(),
            "2"
        );
        assert_eq!(folder.versions().unwrap(), [1, 2]);
        assert!(
            folder
                .update(&[own(2, true, None), own(1, false, None)])
                .unwrap()
                .is_empty()
        );
        let change = folder.update(&[own(2, true, None)]).unwrap();
        assert_eq!(change.removed, [1]);
        assert_eq!(folder.versions().unwrap(), [2]);
    }

    #[test]
    fn a_useless_list_changes_nothing() {
        let dir = memory();
        let folder = KeyFolder::create(dir.path(), Purpose::Backup).unwrap();
        folder.update(&[own(1, true, Some(7))]).unwrap();
        for list in [
            vec![],
            vec![own(1, false, None)],
            vec![own(2, true, None), own(1, true, None)],
            vec![own(2, true, None), own(1, false, None)],
        ] {
            assert!(folder.update(&list).is_err(), "{list:?}");
            assert_eq!(
                (folder.active(), folder.versions().unwrap()),
                (Some(1), vec![1])
            );
        }
    }

    #[test]
    fn an_interrupted_write_is_written_again() {
        let dir = memory();
        let folder = KeyFolder::create(dir.path(), Purpose::App).unwrap();
        let draft = dir.path().join("app/.new");
        fs::write(&draft, "half").unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o400)).unwrap();
        folder.update(&[own(1, true, Some(7))]).unwrap();
        assert_eq!(folder.active(), Some(1));
        assert!(!draft.exists());
        // A version that is there but not whole is no version.
        fs::write(dir.path().join("app/2"), "short").unwrap();
        assert_eq!(folder.versions().unwrap(), [1]);
        // A second start finds what is there.
        let again = KeyFolder::create(dir.path(), Purpose::App).unwrap();
        assert_eq!(again.active(), Some(1));
    }

    #[test]
    fn no_key_goes_to_a_disk() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let error = KeyFolder::create(disk.path(), Purpose::App).unwrap_err();
        assert!(matches!(error, FolderError::NotInMemory(_)), "{error}");
        assert!(error.to_string().contains("medium: Memory"), "{error}");
    }
}
