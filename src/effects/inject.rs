//! Faults on purpose, for tests: at one effect of one tenant.
//!
//! The state is the process's own, by tenant, because one test process holds operators and key servers of many tenants
//! side by side. A tenant that no test named is left alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::{Effect, Process};
use crate::keys::TenantUid;

/// What goes wrong at an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The process dies and the effect does not happen.
    CrashBefore,
    /// The effect happens and the process dies before it learns of it.
    CrashAfter,
    /// The effect happens and its answer is lost.
    LoseReply,
    /// The effect does not happen, and the answer says so.
    Refuse,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::LoseReply,
        Self::Refuse,
    ];
}

/// A fault at the first effect of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Where.
    pub effect: Effect,
    /// What.
    pub fault: Fault,
}

/// What a tenant's processes did.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The effects that were begun while their process was alive, in order.
    pub begun: Vec<Effect>,
    /// The effects that were carried out, in the order in which they were answered; also those whose answer was lost.
    pub happened: Vec<Effect>,
    /// Whether the fault has happened.
    pub fired: bool,
}

/// An error that a call may end in: what its caller gets to see of a fault.
pub trait Failing {
    /// There was no answer; what was asked may have been done.
    fn lost(effect: Effect) -> Self;

    /// It was not done.
    fn refused(effect: Effect) -> Self;
}

#[derive(Debug, Default)]
struct Watched {
    pending: Option<Injection>,
    dead: BTreeSet<Process>,
    trace: Trace,
}

type Tenants = HashMap<TenantUid, Watched>;

static TENANTS: LazyLock<Mutex<Tenants>> = LazyLock::new(Mutex::default);

fn tenants() -> MutexGuard<'static, Tenants> {
    TENANTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to trace a tenant.
pub fn watch(tenant: TenantUid) {
    tenants().entry(tenant).or_default();
}

/// Makes the next effect of that name go wrong for this tenant, once.
pub fn arm(tenant: TenantUid, injection: Injection) {
    tenants().entry(tenant).or_default().pending = Some(injection);
}

/// Whether a process of this tenant is dead.
#[must_use]
pub fn is_down(tenant: TenantUid) -> Option<Process> {
    tenants().get(&tenant)?.dead.first().copied()
}

/// Its processes live again. The test gives them an empty memory.
pub fn restart(tenant: TenantUid) {
    if let Some(watched) = tenants().get_mut(&tenant) {
        watched.dead.clear();
    }
}

/// What its processes did so far.
#[must_use]
pub fn trace(tenant: TenantUid) -> Trace {
    tenants()
        .get(&tenant)
        .map(|watched| watched.trace.clone())
        .unwrap_or_default()
}

/// The test is over.
pub fn forget(tenant: TenantUid) {
    tenants().remove(&tenant);
}

/// Does `call`, unless a test wants it to go wrong. A process that is dead does nothing any more.
pub async fn perform<T, E: Failing>(
    effect: Effect,
    tenant: Option<TenantUid>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match begin(effect, tenant) {
        Next::Nothing => Err(E::lost(effect)),
        Next::Happens(None) => {
            let answer = call.await;
            if answer.is_ok() {
                note(effect, tenant);
            }
            // Where the process died while this was under way, nobody hears the answer.
            if is_dead(effect, tenant) {
                return Err(E::lost(effect));
            }
            answer
        }
        Next::Happens(Some(Fault::CrashBefore)) => {
            kill(effect, tenant);
            Err(E::lost(effect))
        }
        Next::Happens(Some(Fault::CrashAfter)) => {
            if call.await.is_ok() {
                note(effect, tenant);
            }
            kill(effect, tenant);
            Err(E::lost(effect))
        }
        Next::Happens(Some(Fault::LoseReply)) => {
            if call.await.is_ok() {
                note(effect, tenant);
            }
            Err(E::lost(effect))
        }
        Next::Happens(Some(Fault::Refuse)) => Err(E::refused(effect)),
    }
}

enum Next {
    /// The process is dead.
    Nothing,
    /// The effect, with its fault.
    Happens(Option<Fault>),
}

fn begin(effect: Effect, tenant: Option<TenantUid>) -> Next {
    let mut tenants = tenants();
    let Some(watched) = tenant.and_then(|tenant| tenants.get_mut(&tenant)) else {
        return Next::Happens(None);
    };
    if watched.dead.contains(&effect.process()) {
        return Next::Nothing;
    }
    watched.trace.begun.push(effect);
    let fault = watched
        .pending
        .take_if(|injection| injection.effect == effect)
        .map(|injection| injection.fault);
    watched.trace.fired |= fault.is_some();
    Next::Happens(fault)
}

fn note(effect: Effect, tenant: Option<TenantUid>) {
    let mut tenants = tenants();
    if let Some(watched) = tenant.and_then(|tenant| tenants.get_mut(&tenant)) {
        watched.trace.happened.push(effect);
    }
}

fn is_dead(effect: Effect, tenant: Option<TenantUid>) -> bool {
    let tenants = tenants();
    tenant
        .and_then(|tenant| tenants.get(&tenant))
        .is_some_and(|watched| watched.dead.contains(&effect.process()))
}

fn kill(effect: Effect, tenant: Option<TenantUid>) {
    let mut tenants = tenants();
    if let Some(watched) = tenant.and_then(|tenant| tenants.get_mut(&tenant)) {
        watched.dead.insert(effect.process());
    }
}
