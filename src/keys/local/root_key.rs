//! The root key of the local provider: a file with 32 bytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid, getgroups};
use zeroize::Zeroizing;

use crate::keys::{KEY_LENGTH, PlainKey};

/// The key that seals all tenants' keys.
pub struct RootKey(PlainKey);

impl RootKey {
    /// Reads the file, following symbolic links, because that is how Kubernetes mounts Secrets. Refused unless it holds
    /// exactly 32 bytes, is owned by this process's user or root, and nobody else can read it: mode 0400 or 0600. Mode
    /// 0440 is taken for the one case in which Kubernetes leaves no choice, a Secret volume of a pod with `fsGroup`: there
    /// the file is root's, its group is one of this process's, and this process is not root's.
    pub fn read(path: &Path) -> Result<Self, RootKeyError> {
        let io = |source| RootKeyError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        // Of the open file, so that it cannot be another one than the one that is read.
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(RootKeyError::NoFile {
                path: path.to_owned(),
            });
        }
        let access = Access {
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
        };
        if !access.is_private(&Caller::this_process().map_err(io)?) {
            return Err(RootKeyError::Access {
                path: path.to_owned(),
                mode: access.mode,
                owner: access.owner,
            });
        }
        // One more than needed, to notice a longer file.
        let mut bytes = Zeroizing::new([0; KEY_LENGTH + 1]);
        let mut length = 0;
        while length < bytes.len() {
            match file.read(&mut bytes[length..]).map_err(io)? {
                0 => break,
                more => length += more,
            }
        }
        PlainKey::try_from(&bytes[..length])
            .map(Self)
            .map_err(|_| RootKeyError::Size {
                path: path.to_owned(),
                size: metadata.len(),
            })
    }

    pub(super) fn expose(&self) -> &[u8; KEY_LENGTH] {
        self.0.expose()
    }
}

/// Who may do what with a file.
struct Access {
    mode: u32,
    owner: u32,
    group: u32,
}

/// Who reads it.
struct Caller {
    user: u32,
    groups: Vec<u32>,
}

impl Caller {
    fn this_process() -> io::Result<Self> {
        let supplementary = getgroups().map_err(io::Error::from)?;
        Ok(Self {
            user: geteuid().as_raw(),
            groups: supplementary
                .into_iter()
                .chain([getegid()])
                .map(nix::unistd::Gid::as_raw)
                .collect(),
        })
    }
}

impl Access {
    fn is_private(&self, caller: &Caller) -> bool {
        match self.mode {
            0o400 | 0o600 => self.owner == 0 || self.owner == caller.user,
            0o440 => self.owner == 0 && caller.user != 0 && caller.groups.contains(&self.group),
            _ => false,
        }
    }
}

/// Why a file is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// It cannot be read.
    #[error(
        "cannot read the root key {}: make one with `head -c 32 /dev/urandom > FILE && chmod 0400 FILE`, or correct the path",
        .path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is a folder or a device.
    #[error("the root key {} is no file", .path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others may read or change it.
    #[error(
        "the root key {} has mode {mode:04o} and owner {owner}: it must be readable by this process's user alone, so `chmod 0400` it. \
         In a Secret volume set `defaultMode: 0400`, and give the pod an `fsGroup`",
        .path.display()
    )]
    Access {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The number of its owner.
        owner: u32,
    },
    /// It is not 32 bytes long.
    #[error(
        "the root key {} has {size} bytes, and a root key has exactly {KEY_LENGTH}, raw and without a line end: \
         make one with `head -c 32 /dev/urandom > FILE && chmod 0400 FILE`",
        .path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
    },
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rstest::rstest;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[rstest]
    #[case(0o400)]
    #[case(0o600)]
    fn a_private_file_of_32_bytes_is_a_root_key(#[case] mode: u32) {
        let (_folder, path) = file(&[5; 32], mode);
        assert_eq!(
            RootKey::read(&path)
                .unwrap_or_else(|e| panic!("{e}"))
                .expose(),
            &[5; 32]
        );
    }

    #[test]
    fn links_are_followed_as_in_a_secret_volume() {
        let (folder, path) = file(&[5; 32], 0o400);
        fs::create_dir(folder.path().join("..2026")).unwrap();
        fs::rename(&path, folder.path().join("..2026/root.key")).unwrap();
        symlink("..2026", folder.path().join("..data")).unwrap();
        symlink("..data/root.key", &path).unwrap();
        assert!(RootKey::read(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        assert!(matches!(
            RootKey::read(&path),
            Err(RootKeyError::Access { mode: 0o444, .. })
        ));
    }

    #[rstest]
    #[case(0o000)]
    #[case(0o404)]
    #[case(0o444)]
    #[case(0o500)]
    #[case(0o604)]
    #[case(0o620)]
    #[case(0o640)]
    #[case(0o644)]
    #[case(0o4400)]
    fn a_file_that_others_may_touch_is_refused(#[case] mode: u32) {
        for user in [0, 10001] {
            let access = Access {
                mode,
                owner: user,
                group: 10001,
            };
            let caller = Caller {
                user,
                groups: vec![10001],
            };
            assert!(!access.is_private(&caller));
        }
    }

    #[rstest]
    #[case::as_kubernetes_mounts_it(0, 10001, 10001, true)]
    #[case::group_of_others(0, 5, 10001, false)]
    #[case::owned_by_the_process(10001, 10001, 10001, false)]
    #[case::owned_by_another(7, 10001, 10001, false)]
    #[case::a_root_process_needs_no_group(0, 10001, 0, false)]
    fn group_readable_is_taken_from_a_secret_volume_only(
        #[case] owner: u32,
        #[case] group: u32,
        #[case] user: u32,
        #[case] taken: bool,
    ) {
        let access = Access {
            mode: 0o440,
            owner,
            group,
        };
        let caller = Caller {
            user,
            groups: vec![10001],
        };
        assert_eq!(access.is_private(&caller), taken);
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let access = Access {
            mode: 0o400,
            owner: 7,
            group: 7,
        };
        assert!(!access.is_private(&Caller {
            user: 0,
            groups: vec![0]
        }));
    }

    #[rstest]
    #[case(0)]
    #[case(31)]
    #[case(33)]
    #[case(64)]
    fn another_size_is_refused(#[case] size: usize) {
        let (_folder, path) = file(&vec![5; size], 0o400);
        let error = RootKey::read(&path).err().unwrap();
        assert!(
            matches!(error, RootKeyError::Size { size: found, .. } if found == size as u64),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_or_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.key");
        let error = RootKey::read(&missing).err().unwrap();
        assert!(error.to_string().contains("missing.key"), "{error}");
        let error = RootKey::read(folder.path()).err().unwrap();
        assert!(matches!(error, RootKeyError::NoFile { .. }), "{error}");
    }
}
