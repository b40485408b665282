//! How far a rotation is. Asked only while one is due or under way: registry, key server, and every pod of the app.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use super::{
    due::{Due, due},
    job::Job,
    next, report,
};
use crate::{
    api::{Plan, Tenant, TenantState, tenant::KeyStatus},
    control::{
        context::Context,
        observations::SiloObjects,
        seen::Facts,
        tenant_keys::{KeysError, Subject, TenantKeys, unusable},
    },
    keys::Purpose,
    keyserver::wire,
    registry::operations,
};

/// What was found.
#[derive(Clone, Debug)]
pub enum Looked {
    /// How far it is.
    Far(Box<Rotation>),
    /// It could not be found out.
    Trouble(Trouble),
}

/// Why a rotation does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Stable reason for a condition.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Whether it passes without anybody doing anything.
    pub passes: bool,
}

impl From<&KeysError> for Trouble {
    fn from(error: &KeysError) -> Self {
        Self {
            reason: error.reason().into_owned(),
            message: error.to_string(),
            passes: error.is_transient(),
        }
    }
}

/// How far a rotation is.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The rotation that was begun, if one was.
    pub job: Option<Job>,
    /// That keys are too old, if some are.
    pub due: Option<Due>,
    /// The keys as the key server has them.
    pub keys: wire::TenantKeys,
    /// What each pod of the app says.
    pub pods: Vec<PodSays>,
    /// The version of the backup key that the database's pod has, if it uses one.
    pub backup: Option<u32>,
    /// How long the pods have been saying that no row needs an older version.
    pub clean_for: Duration,
}

/// What one pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSays {
    /// Its name.
    pub pod: String,
    /// Its answer.
    pub answer: Answer,
}

/// A pod's answer to `/keyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It could not be asked now, and why.
    Silent(String),
    /// The app does not know the path.
    Unknown,
    /// Which keys it uses.
    Uses(AppKeys),
}

/// What an app says of the keys that it uses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppKeys {
    /// The version that it writes with.
    pub active: u32,
    /// Rows by the other versions that they are sealed with.
    #[serde(default)]
    pub stale: BTreeMap<u32, i64>,
    /// Rows that are not sealed at all.
    #[serde(default)]
    pub unsealed: i64,
    /// Rows among all these that it cannot open.
    #[serde(default)]
    pub unreadable: i64,
}

/// Looks, if a rotation is due or under way. `key` is brought up to date with what the key server says.
pub async fn look(
    context: &Context,
    tenant: &Tenant,
    plan: Option<&Plan>,
    objects: &SiloObjects,
    key: &mut Option<KeyStatus>,
    now: Timestamp,
) -> Option<Looked> {
    let known = key.as_ref()?;
    let uid = tenant.uid()?;
    let runs = tenant.spec.state == TenantState::Active;
    let is_due = |key: &KeyStatus| {
        let done = context.memory.rotated_for(&uid);
        // Rows are sealed anew by the app, so nothing is begun while it does not run.
        due(key, tenant, plan, now)
            .filter(|due| runs && done.is_none_or(|done| done < due.not_before))
    };
    let under_way = context.memory.published(&uid).map_or_else(
        || tenant.status.as_ref().is_some_and(is_rotating),
        |(status, _)| is_rotating(&status),
    );
    if tenant.spec.state == TenantState::Offboarded || !(under_way || is_due(known).is_some()) {
        return None;
    }
    let (job, keys) = match ask(&context.keys, &uid).await {
        Ok(found) => found,
        Err(error) => return Some(Looked::Trouble(Trouble::from(&error))),
    };
    if let Some((reason, message)) = unusable(&keys) {
        return Some(Looked::Trouble(Trouble {
            reason,
            message,
            passes: false,
        }));
    }
    match report::key_status(&keys, key.as_ref()) {
        Ok(current) => {
            context.memory.has_key(&uid, current.clone());
            *key = Some(current);
        }
        Err(error) => return Some(Looked::Trouble(Trouble::from(&error))),
    }
    let mut rotation = Rotation {
        due: key.as_ref().and_then(is_due),
        job,
        keys,
        pods: Vec::new(),
        backup: None,
        clean_for: Duration::ZERO,
    };
    if rotation.job.is_some() && next::needs_pods(&rotation) {
        context.meet_agent(tenant).await;
        rotation.pods = pods(context, &uid, objects).await;
        rotation.backup = backup(context, &uid, objects).await;
    }
    let clean = next::newest(&rotation, Purpose::App).filter(|_| next::is_clean(&rotation));
    rotation.clean_for = context.memory.clean(&uid, clean);
    Some(Looked::Far(Box::new(rotation)))
}

fn is_rotating(status: &crate::api::TenantStatus) -> bool {
    status
        .key
        .as_ref()
        .is_some_and(|key| key.rotation.is_some())
}

async fn ask(keys: &TenantKeys, uid: &str) -> Result<(Option<Job>, wire::TenantKeys), KeysError> {
    let uid = Subject::of_uid(uid).tenant_uid()?;
    let kind = operations::Kind::Rotate;
    let running = async {
        let mut connection = keys.registry()?.acquire().await?;
        Ok::<_, KeysError>(operations::running(&mut connection, uid, kind).await?)
    };
    let listed = async { Ok::<_, KeysError>(keys.keyserver.keys(uid, false).await?) };
    let (running, listed) = futures::try_join!(running, listed)?;
    let job = running.as_ref().map(Job::try_from).transpose()?;
    Ok((job, listed))
}

/// Also pods on their way out: they serve, and write, until they end.
async fn pods(context: &Context, uid: &str, objects: &SiloObjects) -> Vec<PodSays> {
    let asking = objects.iter().filter_map(|(key, seen)| match &seen.facts {
        Facts::Pod(pod) if pod.component == "app" && !pod.ended => Some((key, pod.ip.clone())),
        _ => None,
    });
    join_all(asking.map(async |(key, ip)| PodSays {
        pod: key.name.clone(),
        answer: match ip {
            Some(ip) => context.probes.app_keys(uid, &ip).await,
            None => Answer::Silent("it has no address yet".to_owned()),
        },
    }))
    .await
}

async fn backup(context: &Context, uid: &str, objects: &SiloObjects) -> Option<u32> {
    let address = objects.values().find_map(|seen| match &seen.facts {
        Facts::Pod(pod) if pod.component == "database" => pod.ip.clone(),
        _ => None,
    })?;
    let report = context.probes.database(uid, &address, false).await?;
    report.backup_key_version
}
