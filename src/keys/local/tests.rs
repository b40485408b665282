//! What only the local provider can show: its clock, its store and its root key.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use uuid::Uuid;

use super::*;
use crate::keys::{Context, Kms, Purpose, WrappedKey};

/// A local provider in a folder of its own, with a clock that stands still until it is told to move.
struct Bench {
    folder: tempfile::TempDir,
    kms: Local,
    seconds: Arc<AtomicI64>,
    tenant: TenantUid,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_root(folder.path(), 1);
        let seconds = Arc::new(AtomicI64::new(1_795_219_200));
        let clock = Arc::clone(&seconds);
        let kms = open(&folder.path().join("root.key"), &folder.path().join("keys"))
            .await
            .unwrap()
            .with_clock(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap());
        Self {
            folder,
            kms,
            seconds,
            tenant: TenantUid(Uuid::new_v4()),
        }
    }

    fn pass(&self, time: SignedDuration) {
        self.seconds.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    fn record(&self) -> PathBuf {
        self.folder
            .path()
            .join(format!("keys/{}.json", self.tenant))
    }

    fn context(&self) -> Context {
        Context {
            tenant: self.tenant,
            purpose: Purpose::App,
            version: 1,
        }
    }

    async fn key_with_data_key(&self) -> (KeyId, WrappedKey) {
        let key = self.kms.create_key(self.tenant).await.unwrap();
        let wrapped = self.kms.generate(&key, &self.context()).await.unwrap();
        (key, wrapped)
    }
}

fn write_root(folder: &Path, byte: u8) {
    let path = folder.join("root.key");
    let _ = fs::remove_file(&path);
    fs::write(&path, [byte; 32]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
}

async fn open(root: &Path, keys: &Path) -> Result<Local, StartError> {
    Local::open(root, Arc::new(FolderStore::open(keys)?)).await
}

#[tokio::test]
async fn a_deletion_that_is_due_leaves_no_key_behind() {
    let bench = Bench::new().await;
    let (key, wrapped) = bench.key_with_data_key().await;
    let saved = fs::read(bench.record()).unwrap();
    let link = bench.folder.path().join("link");
    fs::hard_link(bench.record(), &link).unwrap();

    let at = bench.kms.schedule_deletion(&key, 7).await.unwrap();
    bench.pass(SignedDuration::from_hours(7 * 24 - 1));
    assert_eq!(
        bench.kms.describe(&key).await.unwrap(),
        KeyState::PendingDeletion { at }
    );
    bench.pass(SignedDuration::from_hours(1));
    assert_eq!(bench.kms.describe(&key).await.unwrap(), KeyState::Destroyed);

    // The record that is left has no keys, and the file that had them was wiped.
    let left = fs::read(bench.record()).unwrap();
    let record = Record::open(&bench.kms.root, bench.tenant, &left).unwrap();
    assert_eq!(record.version(1), None);
    assert!(left.len() < saved.len());
    assert!(fs::read(link).unwrap().iter().all(|byte| *byte == 0));
    let others: Vec<_> = fs::read_dir(bench.folder.path().join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(others.len(), 2, "the record and the lock: {others:?}");

    let state = KeyState::Destroyed;
    for refused in [
        bench
            .kms
            .unwrap(&key, &wrapped, &bench.context())
            .await
            .err(),
        bench.kms.enable(&key).await.err(),
        bench.kms.cancel_deletion(&key).await.err(),
        bench.kms.rotate_key(&key, 1).await.err(),
        bench.kms.schedule_deletion(&key, 7).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(KmsError::Disabled { state: found, .. }) if *found == state),
            "{refused:?}"
        );
    }
    let second = bench.kms.create_key(bench.tenant).await;
    assert!(matches!(second, Err(KmsError::Ended { .. })), "{second:?}");
}

#[tokio::test]
async fn listing_destroys_what_is_due() {
    let bench = Bench::new().await;
    let (key, _) = bench.key_with_data_key().await;
    bench.kms.schedule_deletion(&key, 30).await.unwrap();
    bench.pass(SignedDuration::from_hours(30 * 24));
    assert_eq!(
        bench.kms.list_keys().await.unwrap(),
        [(bench.tenant, key, KeyState::Destroyed)]
    );
}

#[tokio::test]
async fn another_root_key_is_noticed_at_the_start() {
    let bench = Bench::new().await;
    let (key, wrapped) = bench.key_with_data_key().await;
    let (root, keys) = (
        bench.folder.path().join("root.key"),
        bench.folder.path().join("keys"),
    );
    let reopened = open(&root, &keys).await.unwrap();
    assert!(
        reopened
            .unwrap(&key, &wrapped, &bench.context())
            .await
            .is_ok()
    );

    write_root(bench.folder.path(), 2);
    let error = open(&root, &keys).await.unwrap_err();
    assert!(
        matches!(error, StartError::Kms(KmsError::Unopenable { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_record_that_was_edited_is_refused() {
    let bench = Bench::new().await;
    let (key, wrapped) = bench.key_with_data_key().await;
    bench.kms.disable(&key).await.unwrap();
    let text = fs::read_to_string(bench.record()).unwrap();
    let other = TenantUid(Uuid::new_v4());
    for (edited, tenant) in [
        (text.replace("disabled", "enabled"), bench.tenant),
        (
            text.replace("\"versions\":1", "\"versions\":2"),
            bench.tenant,
        ),
        (text.replace("\"format\":1", "\"format\":2"), bench.tenant),
        (text[..text.len() / 2].to_owned(), bench.tenant),
        (text.clone(), other),
        (
            text.replace(&bench.tenant.to_string(), &other.to_string()),
            other,
        ),
    ] {
        assert!(edited != text || tenant != bench.tenant);
        let path = bench.folder.path().join(format!("keys/{tenant}.json"));
        fs::write(&path, edited).unwrap();
        let key = KeyId::local(tenant);
        let error = bench.kms.describe(&key).await.unwrap_err();
        assert!(matches!(error, KmsError::Unopenable { .. }), "{error}");
    }
    fs::write(bench.record(), text).unwrap();
    bench.kms.enable(&key).await.unwrap();
    assert!(
        bench
            .kms
            .unwrap(&key, &wrapped, &bench.context())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn many_changes_at_once_are_all_made() {
    let bench = Bench::new().await;
    let key = bench.kms.create_key(bench.tenant).await.unwrap();
    // All want to go from version 1 to version 2.
    let rotations = (0..8).map(|_| bench.kms.rotate_key(&key, 1));
    for newest in futures::future::join_all(rotations).await {
        assert_eq!(newest.unwrap(), 2);
    }
    assert_eq!(bench.kms.rotate_key(&key, 2).await.unwrap(), 3);
    let ahead = bench.kms.rotate_key(&key, 9).await.unwrap_err();
    assert!(ahead.to_string().contains("newest version is 3"), "{ahead}");
}

#[tokio::test]
async fn names_of_other_providers_and_ways_out_of_the_folder_are_no_keys() {
    let bench = Bench::new().await;
    for name in [
        "local:../../etc/passwd",
        "local:",
        "arn:aws:kms:eu-central-1:111122223333:key/1",
        &format!("local:{}", bench.tenant).to_uppercase(),
    ] {
        let error = bench.kms.describe(&name.parse().unwrap()).await;
        assert!(matches!(error, Err(KmsError::ForeignKey { .. })), "{name}");
    }
}

#[tokio::test]
async fn what_is_printed_holds_no_key() {
    let bench = Bench::new().await;
    let (key, wrapped) = bench.key_with_data_key().await;
    let plain = bench
        .kms
        .unwrap(&key, &wrapped, &bench.context())
        .await
        .unwrap();
    let printed = format!("{:?} {plain:?}", bench.kms);
    assert_eq!(
        printed.matches("PlainKey(..)").count(),
        1,
        "the provider prints no key of its own: {printed}"
    );
    assert!(!printed.contains("1, 1, 1, 1"), "{printed}");
}
