//! Acts in a row: undisturbed once, and then with every fault at every effect.

use std::time::Instant;

use futures::StreamExt as _;
use futures::stream;
use granary::audit;
use granary::effects::{self, Effect, Fault, Injection};
use granary::keys::TenantUid;

use crate::act::Act;
use crate::life::{Life, distinct};
use crate::plane::{Plane, SIDE_BY_SIDE, on_plane};
use crate::state::State;

/// A fault in one act of the flow.
#[derive(Clone, Copy, Debug)]
struct Disturbance {
    /// Place of the act.
    act: usize,
    injection: Injection,
}

/// The flow without any fault.
struct Undisturbed {
    /// What there is after each act.
    states: Vec<State>,
    /// What each act does.
    effects: Vec<Vec<Effect>>,
}

/// How one life ended.
struct Ended {
    tenant: TenantUid,
    failure: Option<String>,
}

/// Runs the flow with every fault in those of its acts that are `disturbed`. Tenants are called `name` and a number.
pub fn run(name: &str, acts: &[Act], disturbed: &[Act]) {
    on_plane(async |plane| {
        let began = Instant::now();
        let undisturbed = undisturbed(plane, name, acts).await;
        let disturbances = disturbances(acts, disturbed, &undisturbed);
        let lives = disturbances
            .iter()
            .enumerate()
            .map(|(number, disturbance)| {
                let name = format!("{name}-{number:04}");
                live(plane, name, acts, *disturbance, &undisturbed)
            });
        let ended: Vec<Ended> = stream::iter(lives)
            .buffer_unordered(SIDE_BY_SIDE)
            .collect()
            .await;
        let failures: Vec<&String> = ended
            .iter()
            .filter_map(|life| life.failure.as_ref())
            .collect();
        println!(
            "{name}: {} faults at {} effects, {} went wrong, in {:.0?}",
            ended.len(),
            ended.len() / Fault::ALL.len(),
            failures.len(),
            began.elapsed()
        );
        for failure in &failures {
            println!("{failure}\n");
        }
        assert!(failures.is_empty(), "{} of {}", failures.len(), ended.len());
        leaves_no_orphans(plane, &ended).await;
        let mut connection = plane.registry.acquire().await.unwrap();
        let report = audit::verify(&mut connection, None).await.unwrap();
        assert!(report.is_intact(), "{report:?}");
    });
}

async fn undisturbed(plane: &'static Plane, name: &str, acts: &[Act]) -> Undisturbed {
    let mut life = Life::begin(plane, format!("{name}-calm")).await;
    let (mut states, mut effects, mut from) = (Vec::new(), Vec::new(), 0);
    for act in acts {
        let state = life.finish(*act).await;
        state.must_be_right_after(*act);
        states.push(state);
        let begun = life.trace().begun;
        effects.push(distinct(&begun[from..]));
        from = begun.len();
    }
    for (act, effects) in acts.iter().zip(&effects) {
        let names: Vec<String> = effects.iter().map(Effect::to_string).collect();
        println!("{act:?}: {}", names.join(", "));
    }
    Undisturbed { states, effects }
}

fn disturbances(acts: &[Act], disturbed: &[Act], undisturbed: &Undisturbed) -> Vec<Disturbance> {
    let wanted = std::env::var("GRANARY_FAULTS").unwrap_or_default();
    let mut found = Vec::new();
    for act in (0..acts.len()).filter(|act| disturbed.contains(&acts[*act])) {
        for effect in &undisturbed.effects[act] {
            for fault in Fault::ALL {
                let injection = Injection {
                    effect: *effect,
                    fault,
                };
                let disturbance = Disturbance { act, injection };
                if disturbance.name(acts).contains(&wanted) {
                    found.push(disturbance);
                }
            }
        }
    }
    found
}

impl Disturbance {
    fn name(self, acts: &[Act]) -> String {
        let Injection { effect, fault } = self.injection;
        format!("{:?}, {fault:?} at {effect}", acts[self.act])
    }
}

async fn live(
    plane: &'static Plane,
    name: String,
    acts: &[Act],
    disturbance: Disturbance,
    undisturbed: &Undisturbed,
) -> Ended {
    let _room = plane.room.acquire().await.unwrap();
    let mut life = Life::begin(plane, name).await;
    let outcome = endure(&mut life, acts, disturbance, undisturbed).await;
    Ended {
        tenant: life.uid,
        failure: outcome
            .err()
            .map(|why| format!("{} ({}): {why}", disturbance.name(acts), life.name)),
    }
}

async fn endure(
    life: &mut Life,
    acts: &[Act],
    Disturbance {
        act: when,
        injection,
    }: Disturbance,
    undisturbed: &Undisturbed,
) -> Result<(), String> {
    for (place, act) in acts.iter().enumerate() {
        if place == when {
            effects::arm(life.uid, injection);
        }
        life.reach(*act, &undisturbed.states[place]).await?;
    }
    if life.trace().fired {
        Ok(())
    } else {
        Err("it did not come to this effect".to_owned())
    }
}

/// One key for each UID, and that goes: whatever was made twice is found here.
async fn leaves_no_orphans(plane: &Plane, ended: &[Ended]) {
    let tenants: Vec<TenantUid> = ended.iter().map(|life| life.tenant).collect();
    let keys = plane.keys_of(&tenants).await;
    for tenant in tenants {
        let own: Vec<_> = keys.iter().filter(|(of, ..)| *of == tenant).collect();
        assert_eq!(own.len(), 1, "keys of tenant {tenant}: {own:?}");
    }
}
