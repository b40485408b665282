//! Which leafs are issued together: those of a silo and those of the plane.

use super::PkiError;
use super::leaf::{Leaf, Purpose};
use crate::api::plane::{KEYSERVER, REGISTRY};

/// What a silo's pods need.
#[derive(Debug)]
pub struct SiloLeafs {
    /// Server certificate of the database and its agent.
    pub database: Leaf,
    /// Server certificate of the app.
    pub app_server: Leaf,
    /// The app's client certificate for role `app`.
    pub app_client: Leaf,
    /// The migration's client certificate for role `owner`.
    pub migrate_client: Leaf,
}

/// What the plane's own programs need.
#[derive(Debug)]
pub struct PlaneLeafs {
    /// Server certificate of the registry's database and its agent.
    pub registry: Leaf,
    /// Server certificate of the key server.
    pub keyserver: Leaf,
    /// The key server's client certificate for role `app` of the registry.
    pub keyserver_client: Leaf,
    /// The operator's client certificate for role `owner`, which migrates the registry.
    pub operator_owner: Leaf,
    /// The operator's client certificate for role `app`.
    pub operator_app: Leaf,
    /// A person's client certificate for role `auditor`, which reads and never writes.
    pub auditor: Leaf,
}

/// Makes a leaf of a purpose, with a new key.
pub(super) type Issue<'a> = &'a dyn Fn(Purpose) -> Result<Leaf, PkiError>;

/// A set of leafs that is issued together.
pub(super) trait Leafs: Sized {
    /// Services whose names the authority may sign.
    const SERVICES: &'static [&'static str];
    /// Makes every leaf of the set.
    fn issue(issue: Issue<'_>) -> Result<Self, PkiError>;
    /// Every leaf of the set.
    fn all(&self) -> Vec<&Leaf>;
}

impl Leafs for SiloLeafs {
    const SERVICES: &'static [&'static str] = &["database", "app"];

    fn issue(issue: Issue<'_>) -> Result<Self, PkiError> {
        Ok(Self {
            database: issue(Purpose::Server("database"))?,
            app_server: issue(Purpose::Server("app"))?,
            app_client: issue(Purpose::Client("app"))?,
            migrate_client: issue(Purpose::Client("owner"))?,
        })
    }

    fn all(&self) -> Vec<&Leaf> {
        vec![
            &self.database,
            &self.app_server,
            &self.app_client,
            &self.migrate_client,
        ]
    }
}

impl Leafs for PlaneLeafs {
    const SERVICES: &'static [&'static str] = &[REGISTRY, KEYSERVER];

    fn issue(issue: Issue<'_>) -> Result<Self, PkiError> {
        Ok(Self {
            registry: issue(Purpose::Server(REGISTRY))?,
            keyserver: issue(Purpose::Server(KEYSERVER))?,
            keyserver_client: issue(Purpose::Client("app"))?,
            operator_owner: issue(Purpose::Client("owner"))?,
            operator_app: issue(Purpose::Client("app"))?,
            auditor: issue(Purpose::Client("auditor"))?,
        })
    }

    fn all(&self) -> Vec<&Leaf> {
        vec![
            &self.registry,
            &self.keyserver,
            &self.keyserver_client,
            &self.operator_owner,
            &self.operator_app,
            &self.auditor,
        ]
    }
}
