//! What somebody asks for in a tenant's life, and when that is done.

use granary::api::{ConditionStatus, ConditionType, Tenant};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::app::App;
use crate::cluster::{PLAN, parse};
use crate::life::Life;

/// Something that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The tenant is made.
    Onboard,
    /// Its keys are replaced.
    Rotate,
    /// Its resource is deleted.
    Delete,
}

impl Act {
    /// Asks for it.
    pub async fn begin(self, life: &mut Life) {
        let api: Api<Tenant> = Api::all(life.plane.client.clone());
        match self {
            // The resource came with the life, because its UID has to be known before anything happens.
            Self::Onboard => {}
            Self::Rotate => {
                life.app = Some(App::start(life).await);
                let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap();
                let patch = Patch::Merge(json!({"spec": {"keys": {"notBefore": now}}}));
                api.patch(&life.name, &PatchParams::default(), &patch)
                    .await
                    .unwrap();
            }
            Self::Delete => {
                api.delete(&life.name, &DeleteParams::default())
                    .await
                    .unwrap();
            }
        }
    }

    /// Whether the tenant's resource says that it is done.
    pub fn is_done(self, tenant: Option<&Tenant>) -> bool {
        match self {
            Self::Onboard => tenant.is_some_and(|tenant| holds(tenant, ConditionType::KeyReady)),
            Self::Rotate => tenant.is_some_and(|tenant| {
                let key = tenant
                    .status
                    .as_ref()
                    .and_then(|status| status.key.as_ref());
                holds(tenant, ConditionType::KeyReady)
                    && key.is_some_and(|key| key.version == 2 && key.rotation.is_none())
            }),
            Self::Delete => tenant.is_none(),
        }
    }
}

/// Makes the resource of a tenant.
pub async fn create(life_name: &str, client: &kube::Client) -> Tenant {
    let api: Api<Tenant> = Api::all(client.clone());
    let tenant: Tenant = parse(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": life_name},
        "spec": {
            "displayName": "A tenant of the faults", "plan": PLAN, "environment": "production",
            "owner": {"email": "ops@tenant.example"}, "deletionProtection": false,
        },
    }));
    api.create(&PostParams::default(), &tenant).await.unwrap()
}

fn holds(tenant: &Tenant, wanted: ConditionType) -> bool {
    let status = tenant.status.as_ref();
    status.is_some_and(|status| {
        status.observed_generation == tenant.metadata.generation
            && status.conditions.iter().any(|condition| {
                condition.type_ == wanted && condition.status == ConditionStatus::True
            })
    })
}
