//! The operator's way to the registry: connected once its certificates are there, and tended by whoever leads.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use secrecy::SecretString;
use tokio::sync::watch;

use super::{
    changes,
    memory::Memory,
    plane::{Credentials, Identity},
    watches::Triggers,
};
use crate::{
    audit,
    registry::{self, Endpoint, Registry, RegistryError, RegistrySettings, Role, exports},
};

/// Wait after an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often the audit's months are made ahead, and dropped when their year is over.
const TEND_EVERY: Duration = Duration::from_hours(12);

/// How long an export of a tenant that ended can be fetched.
const EXPORTS_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Where the registry is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host, for which its certificate has to be.
    pub host: String,
    /// Port of PostgreSQL.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// Certificates (PEM) of the authorities that its certificate is checked by, if not the plane's own.
    pub authorities_pem: Option<String>,
}

/// Keeps the registry connected and its schema up to date, for as long as this replica leads.
pub struct Keeper {
    /// Where it is.
    pub place: Place,
    /// As whom the operator acts, for the audit.
    pub actor: String,
    /// The operator's certificates, once there are some.
    pub credentials: watch::Receiver<Option<Arc<Credentials>>>,
    /// Where the registry goes: none before its schema is what this build needs.
    pub registry: watch::Sender<Option<Registry>>,
    /// Learns which changes of tenants have not come to their end.
    pub memory: Arc<Memory>,
    /// Asks for passes: tenants wait for the registry.
    pub triggers: Arc<Triggers>,
}

impl Keeper {
    /// Runs until the process ends. With renewed certificates it starts over.
    pub async fn keep(self) {
        let mut credentials = self.credentials.clone();
        loop {
            let known = credentials.borrow_and_update().clone();
            let serve = async {
                match known {
                    Some(known) => self.serve(&known).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = serve => {}
                changed = credentials.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn serve(&self, known: &Credentials) {
        let owner = self.settings(Role::Owner, &known.owner, known);
        let app = self.settings(Role::App, &known.app, known);
        while let Err(error) = self.open(&owner, &app).await {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(error)),
                host = %self.place.host,
                "the registry cannot be used yet; changes of tenants wait for it"
            );
            tokio::time::sleep(RETRY).await;
        }
        loop {
            if let Err(error) = self.tend(&owner).await {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "the audit's months could not be looked after; it is tried again"
                );
            }
            tokio::time::sleep(TEND_EVERY).await;
        }
    }

    async fn open(
        &self,
        owner: &RegistrySettings,
        app: &RegistrySettings,
    ) -> Result<(), RegistryError> {
        let migrated = Registry::migrate(owner).await?;
        if !migrated.applied.is_empty() {
            tracing::info!(version = migrated.version, applied = ?migrated.applied, "the registry's schema is up to date");
        }
        let registry = Registry::connect(app)?;
        for (uid, act) in changes::running(&registry).await? {
            self.memory.change(&uid, Some(act));
        }
        let is_first = self.registry.send_replace(Some(registry)).is_none();
        if is_first {
            self.triggers.all();
        }
        Ok(())
    }

    async fn tend(&self, owner: &RegistrySettings) -> Result<(), RegistryError> {
        let registry = Registry::connect(owner)?;
        let mut connection = registry.acquire().await?;
        audit::prepare_months(&mut connection).await?;
        for month in audit::expire_months(&mut connection, &self.actor).await? {
            tracing::info!(month = %month.month, rows = month.rows, "a month of the audit was dropped after its year");
        }
        let exports = exports::expire(&mut connection, EXPORTS_FOR).await?;
        if exports > 0 {
            tracing::info!(exports, "exports whose time is over were dropped");
        }
        drop(connection);
        registry.close().await;
        Ok(())
    }

    fn settings(&self, role: Role, identity: &Identity, known: &Credentials) -> RegistrySettings {
        let endpoint = Endpoint::Tcp {
            host: self.place.host.clone(),
            port: self.place.port,
        };
        let authorities = self.place.authorities_pem.as_ref();
        let identity = registry::Identity::Pem {
            ca: authorities.unwrap_or(&known.authorities_pem).clone(),
            certificate: identity.certificate_pem.clone(),
            key: SecretString::from(identity.key_pem.as_str()),
        };
        RegistrySettings {
            database: self.place.database.clone(),
            ..RegistrySettings::new(endpoint, role, identity)
        }
    }
}
