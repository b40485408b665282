//! A fault does what it says, to the tenant that it is for, once.

use std::cell::Cell;

use granary::effects::{
    Commit, Effect, Failing, Fault, Injection, Process, arm, forget, is_down, perform, restart,
    trace,
};
use granary::keys::TenantUid;
use uuid::Uuid;

const HERE: Effect = Effect::Kms("disable");
const THERE: Effect = Effect::Operator(Commit::Noted("step"));

#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Lost,
    Refused,
}

impl Failing for Failure {
    fn lost(_: Effect) -> Self {
        Self::Lost
    }

    fn refused(_: Effect) -> Self {
        Self::Refused
    }
}

/// A tenant that nobody else tests with, and what happened to it.
struct Case {
    tenant: TenantUid,
    happened: Cell<u32>,
}

impl Case {
    fn new(fault: Fault) -> Self {
        let tenant = TenantUid(Uuid::new_v4());
        arm(
            tenant,
            Injection {
                effect: HERE,
                fault,
            },
        );
        Self {
            tenant,
            happened: Cell::new(0),
        }
    }

    async fn perform(&self, effect: Effect) -> Result<(), Failure> {
        let call = async {
            self.happened.set(self.happened.get() + 1);
            Ok(())
        };
        perform(effect, Some(self.tenant), call).await
    }
}

#[tokio::test]
async fn what_is_refused_does_not_happen_and_the_next_does() {
    let case = Case::new(Fault::Refuse);
    assert_eq!(case.perform(THERE).await, Ok(()));
    assert_eq!(case.perform(HERE).await, Err(Failure::Refused));
    assert_eq!(case.happened.get(), 1);
    assert_eq!(case.perform(HERE).await, Ok(()));
    assert!(trace(case.tenant).fired);
}

#[tokio::test]
async fn a_lost_reply_is_one_of_something_that_happened() {
    let case = Case::new(Fault::LoseReply);
    assert_eq!(case.perform(HERE).await, Err(Failure::Lost));
    assert_eq!(case.happened.get(), 1);
    assert_eq!(case.perform(HERE).await, Ok(()));
}

#[tokio::test]
async fn a_process_that_crashed_does_nothing_until_it_is_started_again() {
    for (fault, happened) in [(Fault::CrashBefore, 0), (Fault::CrashAfter, 1)] {
        let case = Case::new(fault);
        assert_eq!(case.perform(HERE).await, Err(Failure::Lost));
        assert_eq!(case.perform(HERE).await, Err(Failure::Lost));
        assert_eq!(case.happened.get(), happened);
        assert_eq!(is_down(case.tenant), Some(Process::KeyServer));
        assert_eq!(case.perform(THERE).await, Ok(()), "another process lives");
        restart(case.tenant);
        assert_eq!(case.perform(HERE).await, Ok(()));
        assert_eq!(trace(case.tenant).begun, [HERE, THERE, HERE]);
    }
}

#[tokio::test]
async fn other_tenants_do_not_notice() {
    let case = Case::new(Fault::CrashBefore);
    assert_eq!(case.perform(HERE).await, Err(Failure::Lost));
    let other = Some(TenantUid(Uuid::new_v4()));
    for tenant in [other, None] {
        let answer = perform(HERE, tenant, async { Ok::<_, Failure>(()) }).await;
        assert_eq!(answer, Ok(()));
    }
    forget(case.tenant);
    assert_eq!(case.perform(HERE).await, Ok(()));
}
