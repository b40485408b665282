//! A backend to test, with whatever it needs around it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use granary::keys::{
    Context, FolderStore, KeyId, Kms, Local, Provider, Purpose, TenantUid, WrappedKey,
};
use uuid::Uuid;

use super::account::Account;

/// The backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Local,
    Aws,
}

/// A backend of its own for each test.
pub struct Bench {
    pub kms: Provider,
    _around: Around,
}

#[expect(dead_code, reason = "kept until the test ends")]
enum Around {
    Folder(tempfile::TempDir),
    Account(Box<Account>),
}

impl Bench {
    pub async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Local => {
                let folder = tempfile::tempdir().unwrap();
                let root = folder.path().join("root.key");
                fs::write(&root, [7; 32]).unwrap();
                fs::set_permissions(&root, Permissions::from_mode(0o400)).unwrap();
                let store = FolderStore::open(&folder.path().join("keys")).unwrap();
                let kms = Local::open(&root, Arc::new(store)).await.unwrap();
                Self {
                    kms: Provider::Local(kms),
                    _around: Around::Folder(folder),
                }
            }
            Backend::Aws => {
                let account = Account::new().await;
                Self {
                    kms: Provider::Aws(account.provider()),
                    _around: Around::Account(Box::new(account)),
                }
            }
        }
    }

    /// A tenant with a key and a data key for its app.
    pub async fn tenant(&self) -> Tenant {
        let context = app_context(new_tenant());
        let key = self.kms.create_key(context.tenant).await.unwrap();
        let wrapped = self.kms.generate(&key, &context).await.unwrap();
        Tenant {
            key,
            context,
            wrapped,
        }
    }
}

/// A tenant with a key and a data key for its app.
pub struct Tenant {
    pub key: KeyId,
    pub context: Context,
    pub wrapped: WrappedKey,
}

impl Tenant {
    /// The data key in the clear, if the KMS gives it.
    pub async fn unwrap(
        &self,
        kms: &impl Kms,
    ) -> Result<[u8; granary::keys::KEY_LENGTH], granary::keys::KmsError> {
        let plain = kms.unwrap(&self.key, &self.wrapped, &self.context).await?;
        Ok(*plain.expose())
    }
}

pub fn new_tenant() -> TenantUid {
    TenantUid(Uuid::new_v4())
}

pub fn app_context(tenant: TenantUid) -> Context {
    Context {
        tenant,
        purpose: Purpose::App,
        version: 1,
    }
}
