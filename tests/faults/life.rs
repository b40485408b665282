//! One tenant from its first write to its last, with the operator that looks after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary::api::Tenant;
use granary::control::context::Context;
use granary::control::reconcile::reconcile;
use granary::effects::{self, Effect, Process, Trace};
use granary::keys::TenantUid;
use kube::{Api, ResourceExt};

use crate::act::{self, Act};
use crate::app::App;
use crate::plane::Plane;
use crate::state::{self, State};

/// Longest time that an act may take, with whatever goes wrong in it.
const PATIENCE: Duration = Duration::from_secs(90);

/// When nothing was done for this long, nothing will be: longer than the operator holds a status back.
const QUIET: Duration = Duration::from_secs(7);

/// Pauses between two passes: as triggers would come, and then as an operator looks again.
const PAUSES: std::ops::Range<u64> = 20..250;

/// A tenant that lives.
pub struct Life {
    pub plane: &'static Plane,
    pub name: String,
    pub uid: TenantUid,
    pub namespace: String,
    /// What answers in its pod, once something has to.
    pub app: Option<App>,
    operator: Arc<Context>,
    /// What the last pass could not do.
    trouble: String,
}

impl Life {
    /// Makes a tenant that no other test has.
    pub async fn begin(plane: &'static Plane, name: String) -> Self {
        let tenant = act::create(&name, &plane.client).await;
        let text = tenant.uid().unwrap();
        let uid = text.parse().unwrap();
        effects::watch(uid);
        let namespace = granary::api::SiloName::new(&name, &text);
        Self {
            plane,
            name,
            uid,
            namespace: namespace.to_string(),
            app: None,
            operator: plane.operators.fresh(),
            trouble: String::new(),
        }
    }

    /// What the tenant's processes did.
    pub fn trace(&self) -> Trace {
        effects::trace(self.uid)
    }

    /// Does an act undisturbed, until nothing happens any more.
    pub async fn finish(&mut self, act: Act) -> State {
        act.begin(self).await;
        let (mut done, mut since) = (Vec::new(), Instant::now());
        let deadline = Instant::now() + PATIENCE;
        let mut pauses = Pauses::default();
        loop {
            let tenant = self.pass().await;
            let begun = self.trace().begun;
            if begun != done {
                (done, since) = (begun, Instant::now());
            }
            if act.is_done(tenant.as_ref()) && since.elapsed() > QUIET {
                return state::of(self, tenant.as_ref()).await;
            }
            assert!(
                Instant::now() < deadline,
                "{act:?} does not end: {}",
                self.complaint(tenant.as_ref())
            );
            pauses.wait().await;
        }
    }

    /// Does an act until everything is as `wanted`, or says what is not.
    pub async fn reach(&mut self, act: Act, wanted: &State) -> Result<(), String> {
        act.begin(self).await;
        let deadline = Instant::now() + PATIENCE;
        let (mut pauses, mut had_fired) = (Pauses::default(), self.trace().fired);
        loop {
            let tenant = self.pass().await;
            if self.trace().fired && !had_fired {
                had_fired = true;
                state::claims(self, tenant.as_ref()).await?;
            }
            if act.is_done(tenant.as_ref()) {
                let late = Instant::now() > deadline;
                // The resource is looked at first: what it says is the last to become true.
                if late || wanted.tells_of(self, tenant.as_ref()) {
                    let differences = wanted.differences(&state::of(self, tenant.as_ref()).await);
                    if differences.is_empty() {
                        return Ok(());
                    }
                    if late {
                        return Err(format!("{act:?} ended otherwise:\n{differences}"));
                    }
                }
            } else if Instant::now() > deadline {
                let why = self.complaint(tenant.as_ref());
                return Err(format!("{act:?} does not end: {why}"));
            }
            pauses.wait().await;
        }
    }

    /// One pass over the tenant as the API server has it now. Whoever died meanwhile starts again.
    async fn pass(&mut self) -> Option<Tenant> {
        let tenant = self.resource().await?;
        let pass = reconcile(Arc::new(tenant), self.operator.clone());
        self.trouble = match pass.await {
            Ok(_) => String::new(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        match effects::is_down(self.uid) {
            Some(Process::Operator) => {
                self.operator = self.plane.operators.fresh();
                let uid = self.uid.to_string();
                self.plane.operators.list_again(&uid, &self.namespace).await;
                effects::restart(self.uid);
            }
            // What it remembers of a tenant only makes it wait.
            Some(Process::KeyServer) => effects::restart(self.uid),
            None => {}
        }
        self.resource().await
    }

    /// What keeps an act from its end, as far as anybody says.
    fn complaint(&self, tenant: Option<&Tenant>) -> String {
        let said = tenant
            .and_then(|tenant| tenant.status.as_ref())
            .map(|status| serde_json::to_string_pretty(status).unwrap());
        format!("{} {}", self.trouble, said.unwrap_or_default())
    }

    async fn resource(&self) -> Option<Tenant> {
        let api: Api<Tenant> = Api::all(self.plane.client.clone());
        let found = api.get_opt(&self.name).await.unwrap();
        found.filter(|tenant| tenant.uid().as_deref() == Some(&self.uid.to_string()))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        effects::forget(self.uid);
    }
}

/// The effects of a trace from its place `from` on, each once, in the order of their first time.
pub fn distinct(begun: &[Effect]) -> Vec<Effect> {
    let mut found = Vec::new();
    for effect in begun {
        if !found.contains(effect) {
            found.push(*effect);
        }
    }
    found
}

/// Pauses that become longer.
struct Pauses(u64);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.start)
    }
}

impl Pauses {
    async fn wait(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        self.0 = (self.0 * 3 / 2).min(PAUSES.end);
    }
}
