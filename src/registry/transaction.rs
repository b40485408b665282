//! A transaction, whose commit is an effect with a name.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, Postgres};

use super::RegistryError;
use crate::effects::{self, Effect};
use crate::keys::TenantUid;

/// A transaction; dropped without `commit`, it is rolled back. Queries take it as a connection.
#[derive(Debug)]
pub struct Transaction(sqlx::Transaction<'static, Postgres>);

impl Transaction {
    pub(super) const fn new(begun: sqlx::Transaction<'static, Postgres>) -> Self {
        Self(begun)
    }

    /// Commits under the name of what it holds, for this tenant; none where it is about no tenant. After
    /// [`RegistryError::Unavailable`] it may be committed or not.
    pub async fn commit(
        self,
        effect: Effect,
        tenant: impl Into<Option<TenantUid>>,
    ) -> Result<(), RegistryError> {
        let call = async { self.0.commit().await.map_err(RegistryError::from) };
        effects::perform(effect, tenant.into(), call).await
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
