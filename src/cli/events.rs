//! Events about a tenant and about what is in its silo.

use futures::future::join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::cluster::Cluster;
use super::failure::Failure;
use super::table::plain;
use crate::api::Tenant;

/// The namespace in which Kubernetes keeps events about cluster-scoped objects.
const CLUSTER_EVENTS: &str = "default";

/// One thing that happened, as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Happening {
    /// When it was last seen.
    pub last_seen: Option<Timestamp>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub type_: String,
    /// A stable word.
    pub reason: String,
    /// Kind and name of what it is about.
    pub object: String,
    /// A sentence.
    pub message: String,
    /// How often it was seen.
    pub count: i32,
}

impl From<Event> for Happening {
    fn from(event: Event) -> Self {
        let object = event.involved_object;
        let series = event.series;
        let last_seen = series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| time.0)
            .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
            .or_else(|| {
                event
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0)
            });
        Self {
            last_seen,
            type_: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            object: format!(
                "{}/{}",
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default()
            ),
            message: event.message.unwrap_or_default(),
            count: series
                .and_then(|series| series.count)
                .or(event.count)
                .unwrap_or(1),
        }
    }
}

/// What happened to the tenant and in its silo, oldest first, at most `limit` of the newest.
pub async fn recent(
    cluster: &Cluster,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Happening>, Failure> {
    let of_tenant: Api<Event> = Api::namespaced(cluster.client(), CLUSTER_EVENTS);
    let about = ListParams::default().fields(&format!(
        "involvedObject.uid={}",
        tenant.uid().unwrap_or_default()
    ));
    let silo = tenant
        .status
        .as_ref()
        .and_then(|status| status.namespace.as_ref());
    let in_silo = async {
        let Some(namespace) = silo else {
            return Ok(Vec::new());
        };
        let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
        let what = format!("cannot list the events in namespace {namespace}");
        let list = cluster.ask(&what, api.list(&ListParams::default())).await?;
        Ok(list.items)
    };
    let what = format!("cannot list the events of tenant {:?}", tenant.name_any());
    let (of_tenant, in_silo) = join(cluster.ask(&what, of_tenant.list(&about)), in_silo).await;
    let mut all: Vec<Happening> = of_tenant?
        .items
        .into_iter()
        .chain(in_silo?)
        .map(Happening::from)
        .collect();
    all.sort_by_key(|happening| happening.last_seen);
    Ok(all.split_off(all.len().saturating_sub(limit)))
}

/// The newest warning about the tenant or its silo, in one line, if there is one and it can be read.
pub async fn last_warning(cluster: &Cluster, tenant: &Tenant) -> Option<String> {
    let all = recent(cluster, tenant, usize::MAX).await.ok()?;
    let warning = all.iter().rev().find(|event| event.type_ == "Warning")?;
    Some(format!(
        "{} {}: {}",
        warning.object,
        warning.reason,
        plain(&warning.message)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_generations_of_events_are_read() {
        let old: Event = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "silo"}, "involvedObject": {"kind": "Pod", "name": "database-0"},
            "type": "Warning", "reason": "BackOff", "message": "m", "count": 7,
            "firstTimestamp": "2026-11-21T11:00:00Z", "lastTimestamp": "2026-11-21T11:59:00Z",
        }))
        .expect("an event");
        let happening = Happening::from(old);
        assert_eq!(happening.count, 7);
        assert_eq!(happening.object, "Pod/database-0");
        assert_eq!(happening.last_seen, "2026-11-21T11:59:00Z".parse().ok());

        let new: Event = serde_json::from_value(json!({
            "metadata": {"name": "b", "namespace": "default"}, "involvedObject": {"kind": "Tenant", "name": "acme"},
            "type": "Normal", "reason": "Ready", "message": "m",
            "eventTime": "2026-11-21T11:58:00.000000Z",
            "series": {"count": 3, "lastObservedTime": "2026-11-21T11:59:30.000000Z"},
        }))
        .expect("an event");
        let happening = Happening::from(new);
        assert_eq!(happening.count, 3);
        assert_eq!(happening.last_seen, "2026-11-21T11:59:30Z".parse().ok());
    }
}
