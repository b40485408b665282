//! What somebody asks for in a tenant's life, and when that is done.

use granary::api::{ConditionStatus, ConditionType, Phase, Tenant};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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
    /// It is not wanted any more, and could come back for a long time.
    Offboard,
    /// It is wanted again.
    Reinstate,
    /// It is not wanted any more, and can not come back.
    Shred,
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
                change(life, &json!({"keys": {"notBefore": now}})).await;
            }
            Self::Offboard => change(life, &unwanted("7d")).await,
            Self::Reinstate => change(life, &json!({"state": "Active"})).await,
            Self::Shred => change(life, &unwanted("0s")).await,
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
            Self::Offboard => is(tenant, Phase::Offboarded),
            Self::Reinstate => {
                tenant.is_some_and(|tenant| holds(tenant, ConditionType::KeyReady))
                    && is(tenant, Phase::Provisioning)
            }
            Self::Shred => is(tenant, Phase::Shredded),
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

/// A tenant that is on its way out.
fn unwanted(grace: &str) -> Value {
    json!({"state": "Offboarded", "offboarding": {"gracePeriod": grace}})
}

async fn change(life: &Life, spec: &Value) {
    let api: Api<Tenant> = Api::all(life.plane.client.clone());
    let patch = Patch::Merge(json!({"spec": spec}));
    api.patch(&life.name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn is(tenant: Option<&Tenant>, phase: Phase) -> bool {
    let status = tenant.and_then(|tenant| tenant.status.as_ref());
    status.is_some_and(|status| status.phase == phase)
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
