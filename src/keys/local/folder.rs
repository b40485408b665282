//! Records as files of one folder: `<tenant uid>.json`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use futures::future::{BoxFuture, FutureExt};
use nix::fcntl::{Flock, FlockArg};

use super::{KekStore, StoreError};
use crate::keys::TenantUid;

const SUFFIX: &str = ".json";

/// Records in a folder. Several processes may share it, on file systems with `flock`.
#[derive(Debug, Clone)]
pub struct FolderStore {
    folder: PathBuf,
}

impl FolderStore {
    /// Uses the folder, and makes it if it is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed("make", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn path(&self, tenant: TenantUid) -> PathBuf {
        self.folder.join(format!("{tenant}{SUFFIX}"))
    }

    /// Runs file work where it may block.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let store = self.clone();
        async move {
            let folder = store.folder.clone();
            tokio::task::spawn_blocking(move || work(&store))
                .await
                .unwrap_or_else(|error| Err(failed("use", &folder)(io::Error::other(error))))
        }
        .boxed()
    }

    fn write(
        &self,
        tenant: TenantUid,
        expected: Option<&[u8]>,
        record: &[u8],
    ) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        let path = self.path(tenant);
        let mut old = open_if_there(&path, OpenOptions::new().read(true).write(true))?;
        let current = match &mut old {
            Some(file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)
                    .map_err(failed("read", &path))?;
                Some(bytes)
            }
            None => None,
        };
        if current.as_deref() != expected {
            return Ok(false);
        }
        self.put(&path, record).map_err(failed("write", &path))?;
        if let (Some(mut file), Some(bytes)) = (old, current) {
            wipe(&mut file, bytes.len()).map_err(failed("wipe the replaced", &path))?;
        }
        Ok(true)
    }

    /// Whole and on disk first, named second: a crash leaves the old file or the new one.
    fn put(&self, path: &Path, record: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(record)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Held by whoever writes, across processes.
    fn lock(&self) -> Result<Flock<File>, StoreError> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &path)(errno.into()))
    }

    fn tenants(&self) -> Result<Vec<TenantUid>, StoreError> {
        let entries = fs::read_dir(&self.folder).map_err(failed("list", &self.folder))?;
        let mut tenants = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &self.folder))?.file_name();
            let uid = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            tenants.extend(uid.and_then(|uid| uid.parse::<TenantUid>().ok()));
        }
        Ok(tenants)
    }
}

impl KekStore for FolderStore {
    fn load(&self, tenant: TenantUid) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.blocking(move |store| {
            let path = store.path(tenant);
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed("read", &path)(error)),
            }
        })
    }

    fn replace<'a>(
        &'a self,
        tenant: TenantUid,
        expected: Option<&'a [u8]>,
        record: &'a [u8],
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (expected, record) = (expected.map(<[u8]>::to_vec), record.to_vec());
        self.blocking(move |store| store.write(tenant, expected.as_deref(), &record))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<TenantUid>, StoreError>> {
        self.blocking(Self::tenants)
    }
}

fn open_if_there(path: &Path, options: &OpenOptions) -> Result<Option<File>, StoreError> {
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

/// Overwrites what a replaced file held: its blocks are free, but still readable to who reads the device. On file systems
/// and disks that never write in place an old copy remains all the same.
fn wipe(file: &mut File, length: usize) -> io::Result<()> {
    file.rewind()?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError {
        what: format!(
            "cannot {what} {}: look at the folder's volume and its rights",
            path.display()
        ),
        // A full or read-only volume is mended by people, and then the next attempt succeeds.
        transient: true,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FolderStore, TenantUid) {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(&folder.path().join("keys")).unwrap();
        (folder, store, TenantUid(uuid::Uuid::new_v4()))
    }

    #[tokio::test]
    async fn a_record_is_replaced_only_if_it_is_the_expected_one() {
        let (_folder, store, tenant) = store();
        assert_eq!(store.load(tenant).await.unwrap(), None);
        assert!(!store.replace(tenant, Some(b"x"), b"one").await.unwrap());
        assert!(store.replace(tenant, None, b"one").await.unwrap());
        assert!(!store.replace(tenant, None, b"two").await.unwrap());
        assert!(!store.replace(tenant, Some(b"on"), b"two").await.unwrap());
        assert!(store.replace(tenant, Some(b"one"), b"two").await.unwrap());
        assert_eq!(store.load(tenant).await.unwrap().unwrap(), b"two");
        assert_eq!(store.list().await.unwrap(), [tenant]);
    }

    #[tokio::test]
    async fn what_was_replaced_is_wiped() {
        let (folder, store, tenant) = store();
        store.replace(tenant, None, b"sealed keys").await.unwrap();
        let link = folder.path().join("another name of the same file");
        fs::hard_link(store.path(tenant), &link).unwrap();
        store
            .replace(tenant, Some(b"sealed keys"), b"none")
            .await
            .unwrap();
        assert_eq!(fs::read(link).unwrap(), [0; 11]);
        assert_eq!(fs::read(store.path(tenant)).unwrap(), b"none");
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_no_record() {
        let (_folder, store, tenant) = store();
        let draft = store.path(tenant).with_extension("draft");
        fs::write(&draft, b"half").unwrap();
        assert_eq!(store.load(tenant).await.unwrap(), None);
        assert!(store.list().await.unwrap().is_empty());
        assert!(store.replace(tenant, None, b"whole").await.unwrap());
        assert!(!draft.exists());
    }

    #[tokio::test]
    async fn of_many_writers_one_wins() {
        let (_folder, store, tenant) = store();
        let attempts = (0..20_u8).map(|n| {
            let store = store.clone();
            async move { store.replace(tenant, None, &[n]).await.unwrap() }
        });
        let won = futures::future::join_all(attempts).await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_says_so() {
        let (folder, _, _) = store();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = FolderStore::open(&file.join("keys")).unwrap_err();
        assert!(error.to_string().contains("file/keys"), "{error}");
    }
}
