//! The catalogue of plans that admission reads: a policy cannot look up an object by a name it finds in another.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, reflector::Store, watcher},
};
use tokio::sync::watch;

use super::writer::Writer;
use crate::api::{PLAN_CATALOG, Plan, PlanCatalog};

/// Wait after a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the `PlanCatalog` equal to the plans there are, for as long as this replica leads: when plans change, and when
/// somebody changes or deletes the catalogue.
pub async fn keep(
    client: Client,
    writer: Writer,
    plans: Store<Plan>,
    mut changes: watch::Receiver<u64>,
) {
    let config = watcher::Config::default().fields(&format!("metadata.name={PLAN_CATALOG}"));
    let mut catalogue = watcher(Api::<PlanCatalog>::all(client), config)
        .default_backoff()
        .boxed();
    // What the catalogue is known to say; none while that is not known, or where there is none.
    let mut live: Option<BTreeSet<String>> = None;
    loop {
        changes.mark_unchanged();
        let names: BTreeSet<String> = plans.state().iter().map(|plan| plan.name_any()).collect();
        if live.as_ref() != Some(&names) {
            if let Err(error) = writer.publish_plans(&names).await {
                tracing::warn!(%error, "the catalogue of plans could not be written; admission may refuse a new plan for now");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            live = Some(names);
        }
        tokio::select! {
            plans_changed = changes.changed() => if plans_changed.is_err() { return },
            event = catalogue.next() => match event {
                Some(Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found))) => {
                    live = Some(found.spec.plans.into_iter().collect());
                }
                Some(Ok(watcher::Event::Delete(_))) => live = None,
                Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch of the catalogue of plans was interrupted");
                }
                None => return,
            },
        }
    }
}
