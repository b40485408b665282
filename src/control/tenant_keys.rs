//! The keys of a tenant, made before its pods. How they end: see [`super::offboarding`].
//!
//! ```text
//! registry: tenant live, audit started ─→ key server: key and data keys ─→ registry: audit finished
//! ```
//!
//! It may be interrupted anywhere and is repeated: an operation in the registry carries the id of its audit rows, so
//! that what goes on is not announced twice. The operator never sees a key, wrapped or not.

use std::borrow::Cow;

use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::act::{Act, Announcement};
use super::rotation::report;
use crate::{
    api::tenant::KeyStatus,
    audit::Action,
    keys::{KeyState, TenantUid},
    keyserver::{
        client::{Client, ClientError},
        wire::{EnsureRequest, TenantKeys as Answer},
    },
    registry::{Registry, RegistryError, keys, operations, tenants},
};

/// Why a tenant's keys are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not connected since this replica leads.
    #[error("the registry has not been reached yet; the operator's log says why")]
    NotConnected,
    /// The registry did not do what was asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The key server did not.
    #[error(transparent)]
    KeyServer(#[from] ClientError),
    /// The key server's answer names no key.
    #[error("the key server says that the tenant has keys, and names none")]
    Nameless,
    /// The tenant's UID is none.
    #[error("{0:?} is no UID of a tenant")]
    Uid(String),
}

impl KeysError {
    /// Stable reason for a condition.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        let word = match self {
            Self::NotConnected => "RegistryUnavailable",
            Self::Registry(error) => error.reason(),
            Self::KeyServer(ClientError::Refused(problem)) => {
                let said = problem.reason.clone();
                return Cow::Owned(said.unwrap_or_else(|| camel_case(&problem.code)));
            }
            Self::KeyServer(ClientError::Unreachable(_)) => "KeyServerUnavailable",
            Self::KeyServer(_) | Self::Nameless => "KeyServerUnusable",
            Self::Uid(_) => "Rejected",
        };
        Cow::Borrowed(word)
    }
}

impl KeysError {
    /// Whether it passes without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // The key server read other versions than it has now: the next look sees them.
            Self::KeyServer(ClientError::Refused(problem)) if problem.code == "conflict" => true,
            Self::NotConnected => true,
            Self::Registry(error) => error.is_transient(),
            Self::KeyServer(error) => error.is_transient(),
            Self::Nameless | Self::Uid(_) => false,
        }
    }
}

/// `kms-denied` as conditions have it: `KmsDenied`.
fn camel_case(code: &str) -> String {
    code.split('-')
        .filter_map(|word| {
            let (first, rest) = word.split_at_checked(1)?;
            Some(first.to_ascii_uppercase() + rest)
        })
        .collect()
}

/// Whose keys.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// UID of the Tenant.
    pub uid: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its silo's namespace.
    pub namespace: &'a str,
    /// Who asked for its spec to be as it is, where that is known.
    pub requester: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// A tenant of which no more has to be known.
    pub(super) const fn of_uid(uid: &'a str) -> Self {
        Self {
            uid,
            name: "",
            namespace: "",
            requester: None,
        }
    }

    pub(super) fn tenant_uid(&self) -> Result<TenantUid, KeysError> {
        let uid: Uuid = self
            .uid
            .parse()
            .map_err(|_| KeysError::Uid(self.uid.to_owned()))?;
        Ok(TenantUid(uid))
    }
}

/// What has tenants' keys made.
#[derive(Clone)]
pub struct TenantKeys {
    /// The registry, once it can be used.
    pub registry: watch::Receiver<Option<Registry>>,
    /// The key server.
    pub keyserver: Client,
    /// As whom the operator acts.
    pub actor: String,
}

impl TenantKeys {
    /// Makes sure that the tenant has keys. Where it has, nothing is written.
    pub async fn ensure(&self, subject: Subject<'_>) -> Result<KeyStatus, KeysError> {
        let uid = subject.tenant_uid()?;
        let act = self.begin_onboarding(uid, &subject).await?;
        let request = EnsureRequest {
            name: subject.name.to_owned(),
            namespace: subject.namespace.to_owned(),
        };
        let answer = self.keyserver.ensure(uid, &request).await?;
        let status = report::key_status(&answer, None)?;
        if let Some(act) = act {
            let transaction = self.registry()?.begin().await?;
            act.finish(transaction, "done").await?;
        }
        Ok(status)
    }

    /// Why pods may not get the tenant's keys, as reason and message; none if nothing speaks against it.
    pub async fn trouble(&self, uid: &str) -> Option<(String, String)> {
        let asked = async {
            let uid = Subject::of_uid(uid).tenant_uid()?;
            Ok::<_, KeysError>(self.keyserver.keys(uid, true).await?)
        };
        match asked.await {
            Ok(answer) => unusable(&answer),
            Err(error) => Some((error.reason().into_owned(), error.to_string())),
        }
    }

    /// Writes the tenant down and announces its onboarding. None if that was finished before.
    async fn begin_onboarding(
        &self,
        uid: TenantUid,
        subject: &Subject<'_>,
    ) -> Result<Option<Act>, KeysError> {
        let mut transaction = self.registry()?.begin().await?;
        tenants::register(&mut transaction, uid, subject.name, subject.namespace).await?;
        let before = operations::of_tenant(&mut transaction, uid).await?;
        let onboarded = before.iter().any(|operation| {
            operation.kind == operations::Kind::Onboard
                && operation.state == operations::State::Done
        });
        if onboarded {
            return Ok(None);
        }
        let announcement = Announcement {
            kind: operations::Kind::Onboard,
            action: Action::TenantOnboarded,
            actor: self.actor_of(subject),
            detail: json!({}),
        };
        let act = Act::begin(transaction, (uid, subject.name), announcement).await?;
        Ok(Some(act))
    }

    /// Who acts: whoever asked for it, and the operator where that is not known.
    pub(super) fn actor_of<'a>(&'a self, subject: &Subject<'a>) -> &'a str {
        subject.requester.unwrap_or(&self.actor)
    }

    /// The registry, once it can be used.
    pub(super) fn registry(&self) -> Result<Registry, KeysError> {
        self.registry
            .borrow()
            .clone()
            .ok_or(KeysError::NotConnected)
    }
}

/// What the key server's answer says against using the key.
pub(super) fn unusable(answer: &Answer) -> Option<(String, String)> {
    let found = match (&answer.key.kms, answer.key.state) {
        (None | Some(KeyState::Enabled), keys::State::Enabled) => return None,
        (Some(KeyState::Disabled), _) | (_, keys::State::Disabled) => {
            ("KeyDisabled", "the tenant's key is disabled".to_owned())
        }
        (Some(KeyState::PendingDeletion { at }), _) => (
            "KeyPendingDeletion",
            format!("the KMS destroys the tenant's key at {at}"),
        ),
        (Some(KeyState::Destroyed | KeyState::Missing), _) => (
            "KeyDestroyed",
            "the KMS has no such key any more".to_owned(),
        ),
        (_, state) => ("KeyNotEnabled", format!("the tenant's key is {state}")),
    };
    Some((found.0.to_owned(), found.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyserver::Problem;

    #[test]
    fn reasons_are_words_for_programs() {
        let refused = |reason: Option<&str>| {
            KeysError::KeyServer(ClientError::Refused(Problem {
                status: 502,
                code: "kms-denied".to_owned(),
                detail: "the KMS refuses".to_owned(),
                next: "look at its policy".to_owned(),
                reason: reason.map(str::to_owned),
                retry_after_seconds: None,
            }))
        };
        assert_eq!(refused(None).reason(), "KmsDenied");
        assert_eq!(refused(Some("AccessDenied")).reason(), "AccessDenied");
        assert_eq!(KeysError::NotConnected.reason(), "RegistryUnavailable");
    }

    #[test]
    fn a_uid_that_is_none_reaches_nobody() {
        let subject = Subject {
            uid: "acme",
            name: "acme",
            namespace: "silo-acme-0000000000",
            requester: None,
        };
        assert!(matches!(subject.tenant_uid(), Err(KeysError::Uid(_))));
    }
}
