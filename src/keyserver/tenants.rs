//! Whose namespace it is: the Tenant that says so itself, under the name that only its UID gives.
//!
//! Labels are not asked: whoever may label a namespace could then read another tenant's keys. A namespace belongs to a
//! tenant if that tenant's status names it, which only the operator writes, and if its name is the one made from the
//! tenant's UID.

use futures::StreamExt;
use kube::api::ListParams;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::authenticate::{Caller, asked};
use super::problem::{Code, Refusal};
use crate::api::{SiloName, Tenant, TenantState};
use crate::keys::TenantUid;

/// Longest name inside a namespace's name that is surely whole. Names are cut after 47 characters, and lose the dashes
/// that the cut leaves at their end.
const WHOLE_NAME: usize = 40;

/// A silo's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// UID of the Tenant.
    pub uid: TenantUid,
    /// Its name.
    pub name: String,
}

/// The tenants as a watch has them, and the API server for what it has not shown yet.
#[derive(Clone)]
pub struct Tenants {
    api: Api<Tenant>,
    watched: Store<Tenant>,
}

impl Tenants {
    /// Starts the watch; it runs as long as the process.
    #[must_use]
    pub fn watch(client: &Client) -> Self {
        let api: Api<Tenant> = Api::all(client.clone());
        let (watched, writer) = store();
        let events = watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .modify(|tenant| tenant.managed_fields_mut().clear())
            .reflect(writer);
        tokio::spawn(events.for_each(async |event| {
            if let Err(error) = event {
                tracing::warn!(%error, "the watch of tenants was interrupted");
            }
        }));
        Self { api, watched }
    }

    /// The tenant whose silo the caller's namespace is.
    pub async fn owner(&self, caller: &Caller) -> Result<Owner, Refusal> {
        let namespace = &caller.namespace;
        let known = self.watched.state();
        if let Some(owner) = sole_owner(known.iter().map(AsRef::as_ref), namespace) {
            return Ok(owner);
        }
        let read = self.read(namespace).await?;
        sole_owner(&read, namespace).ok_or_else(|| {
            let detail = format!("{caller} is in no silo: no tenant's status names its namespace");
            Refusal::new(Code::NotInSilo, detail)
        })
    }

    /// Whether a tenant with this UID is still wanted: the API server's own answer, not the watch's.
    pub async fn is_wanted(&self, name: &str, uid: TenantUid) -> Result<bool, Refusal> {
        let read = self.api.get_opt(name);
        let tenant = asked("whether the tenant is still wanted", read).await?;
        Ok(tenant.is_some_and(|tenant| {
            uid_of(&tenant) == Some(uid)
                && tenant.metadata.deletion_timestamp.is_none()
                && tenant.spec.state != TenantState::Offboarded
        }))
    }

    /// The tenants that may own this namespace, from the API server: the one that it is named after, or all where the
    /// name in it may be cut.
    async fn read(&self, namespace: &str) -> Result<Vec<Tenant>, Refusal> {
        const QUESTION: &str = "whose namespace it is";
        let Some((name, _)) = namespace
            .strip_prefix("silo-")
            .and_then(|rest| rest.rsplit_once('-'))
            .filter(|(name, _)| !name.is_empty())
        else {
            return Ok(Vec::new());
        };
        if name.len() <= WHOLE_NAME {
            let found = asked(QUESTION, self.api.get_opt(name)).await?;
            return Ok(found.into_iter().collect());
        }
        let everything = ListParams::default();
        Ok(asked(QUESTION, self.api.list(&everything)).await?.items)
    }
}

/// The one tenant that owns this namespace; none if two claim it.
fn sole_owner<'a>(tenants: impl IntoIterator<Item = &'a Tenant>, namespace: &str) -> Option<Owner> {
    let mut owners = tenants
        .into_iter()
        .filter_map(|tenant| owner(tenant, namespace));
    match (owners.next(), owners.next()) {
        (Some(owner), None) => Some(owner),
        _ => None,
    }
}

fn owner(tenant: &Tenant, namespace: &str) -> Option<Owner> {
    let claimed = tenant.status.as_ref()?.namespace.as_deref()?;
    let (uid, name) = (tenant.metadata.uid.as_deref()?, tenant.name_any());
    let derived = SiloName::new(&name, uid);
    (claimed == namespace && derived.as_str() == namespace).then_some(())?;
    Some(Owner {
        uid: uid_of(tenant)?,
        name,
    })
}

fn uid_of(tenant: &Tenant) -> Option<TenantUid> {
    tenant.metadata.uid.as_deref()?.parse().ok().map(TenantUid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixtures;

    fn tenant(name: &str, uid: &str, namespace: Option<&str>) -> Tenant {
        let mut tenant = fixtures::tenant();
        tenant.metadata.name = Some(name.to_owned());
        tenant.metadata.uid = Some(uid.to_owned());
        tenant.status = Some(crate::api::TenantStatus {
            namespace: namespace.map(str::to_owned),
            ..Default::default()
        });
        tenant
    }

    const UID: &str = "4f1c09ab-7d20-4c58-8ccc-000000000001";
    const NAMESPACE: &str = "silo-acme-4f1c09ab7d";

    #[test]
    fn status_and_uid_have_to_agree() {
        let good = tenant("acme", UID, Some(NAMESPACE));
        let found = sole_owner([&good], NAMESPACE).unwrap();
        assert_eq!(found.uid.to_string(), UID);
        for (wrong, why) in [
            (tenant("acme", UID, None), "its status names no namespace"),
            (
                tenant("acme", UID, Some("silo-acme-000000000")),
                "its status names another",
            ),
            (
                tenant("globex", UID, Some(NAMESPACE)),
                "the name in it is another",
            ),
            (
                tenant(
                    "acme",
                    "5f1c09ab-7d20-4c58-8ccc-000000000001",
                    Some(NAMESPACE),
                ),
                "the UID in it is another",
            ),
        ] {
            assert_eq!(sole_owner([&wrong], NAMESPACE), None, "{why}");
        }
    }

    #[test]
    fn a_namespace_that_two_claim_is_nobodys() {
        let one = tenant("acme", UID, Some(NAMESPACE));
        let other = tenant(
            "acme",
            "4f1c09ab-7d20-4c58-8ccc-000000000002",
            Some(NAMESPACE),
        );
        assert!(sole_owner([&one], NAMESPACE).is_some());
        assert_eq!(sole_owner([&one, &other], NAMESPACE), None);
    }
}
