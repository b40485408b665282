//! The list of plans that admission reads: a policy cannot look up an object by a name it finds in another.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ObjectMeta, runtime::reflector::Store};
use tokio::sync::watch;

use super::{kind::Kind, writer::Writer};
use crate::{
    api::{PLAN_LIST, Plan},
    resources::Manifest,
};

/// Wait after a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the `ConfigMap` [`PLAN_LIST`] equal to the plans there are, for as long as this replica leads.
pub async fn keep(
    writer: Writer,
    namespace: String,
    plans: Store<Plan>,
    mut changes: watch::Receiver<u64>,
) {
    let mut written = None;
    loop {
        changes.mark_unchanged();
        let names: BTreeMap<String, String> = plans
            .state()
            .iter()
            .map(|plan| (plan.name_any(), String::new()))
            .collect();
        if written.as_ref() != Some(&names) {
            let list = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(PLAN_LIST.to_owned()),
                    namespace: Some(namespace.clone()),
                    ..ObjectMeta::default()
                },
                data: Some(names.clone()),
                ..ConfigMap::default()
            };
            if let Err(error) = writer.apply(Kind::ConfigMap, &Manifest::of(&list)).await {
                tracing::warn!(%error, "the list of plans could not be written; admission may refuse a new plan for now");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            written = Some(names);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
