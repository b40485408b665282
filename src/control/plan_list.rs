//! The catalogue of plans that admission reads: a policy cannot look up an object by a name it finds in another.

use std::{collections::BTreeSet, time::Duration};

use kube::{ResourceExt, runtime::reflector::Store};
use tokio::sync::watch;

use super::writer::Writer;
use crate::api::Plan;

/// Wait after a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the `PlanCatalog` equal to the plans there are, for as long as this replica leads.
pub async fn keep(writer: Writer, plans: Store<Plan>, mut changes: watch::Receiver<u64>) {
    let mut written = None;
    loop {
        changes.mark_unchanged();
        let names: BTreeSet<String> = plans.state().iter().map(|plan| plan.name_any()).collect();
        if written.as_ref() != Some(&names) {
            if let Err(error) = writer.publish_plans(&names).await {
                tracing::warn!(%error, "the catalogue of plans could not be written; admission may refuse a new plan for now");
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
