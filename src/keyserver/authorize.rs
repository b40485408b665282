//! Who may do what. Pure: every decision is a table that tests go through.

use super::authenticate::Caller;
use super::problem::{Code, Refusal};
use crate::keys::Purpose;
use crate::registry::{keys, tenants};

/// What a caller is, by its ServiceAccount alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator: manages keys, never reads one.
    Operator,
    /// A pod outside the plane: its account's purposes, if its namespace is a silo.
    Pod(Account),
}

/// The ServiceAccounts of a silo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The app.
    App,
    /// PostgreSQL and its agent.
    Database,
    /// Schema migrations of the app.
    Migrate,
    /// Any other.
    Other,
}

impl Account {
    fn named(name: &str) -> Self {
        match name {
            "app" => Self::App,
            "database" => Self::Database,
            "migrate" => Self::Migrate,
            _ => Self::Other,
        }
    }

    /// The one purpose that the account gets keys of.
    const fn purpose(self) -> Option<Purpose> {
        match self {
            Self::App | Self::Migrate => Some(Purpose::App),
            Self::Database => Some(Purpose::Backup),
            Self::Other => None,
        }
    }
}

/// The operator's account.
#[derive(Clone, Debug)]
pub struct Plane {
    /// Namespace of the plane.
    pub namespace: String,
    /// The operator's ServiceAccount there.
    pub operator: String,
}

/// What the caller is.
#[must_use]
pub fn role(caller: &Caller, plane: &Plane) -> Role {
    if caller.namespace == plane.namespace && caller.account == plane.operator {
        Role::Operator
    } else {
        Role::Pod(Account::named(&caller.account))
    }
}

/// Whether a caller in this role may have keys of this purpose, whatever the state of the tenant.
pub fn unwrap(role: Role, caller: &Caller, purpose: Purpose) -> Result<(), Refusal> {
    match role {
        Role::Operator => Err(Refusal::new(
            Code::OperatorMayNotUnwrap,
            format!("{caller} is the operator, which never reads a key"),
        )),
        Role::Pod(account) if account.purpose() == Some(purpose) => Ok(()),
        Role::Pod(_) => Err(Refusal::new(
            Code::PurposeNotAllowed,
            format!("{caller} may not have keys of purpose {}", purpose.as_str()),
        )),
    }
}

/// Whether a caller in this role may manage keys.
pub fn manage(role: Role, caller: &Caller) -> Result<(), Refusal> {
    match role {
        Role::Operator => Ok(()),
        Role::Pod(_) => Err(Refusal::new(
            Code::NotOperator,
            format!("{caller} is not the operator"),
        )),
    }
}

/// Whether the states of tenant and key allow that pods get keys of this purpose.
///
/// A tenant on its way out still writes its last backup; its app does not come back.
pub fn states(tenant: &tenants::Tenant, key: keys::State, purpose: Purpose) -> Result<(), Refusal> {
    let name = &tenant.name;
    match (tenant.state, purpose) {
        (tenants::State::Live, _) | (tenants::State::Offboarding, Purpose::Backup) => {}
        (tenants::State::Offboarding, Purpose::App) | (tenants::State::Tombstone, _) => {
            let detail = format!("tenant {name} is {} in the registry", tenant.state);
            return Err(Refusal::new(Code::TenantNotLive, detail));
        }
    }
    match key {
        keys::State::Enabled => Ok(()),
        keys::State::Intended => Err(Refusal::new(
            Code::NoKeyYet,
            format!("the key of tenant {name} is being made"),
        )),
        keys::State::Disabled | keys::State::PendingDeletion | keys::State::Destroyed => {
            let detail = format!("the key of tenant {name} is {key}");
            Err(Refusal::new(Code::KeyNotEnabled, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::keys::TenantUid;

    fn caller(namespace: &str, account: &str) -> Caller {
        Caller {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            pod: "pod-1".to_owned(),
            pod_uid: "1".to_owned(),
            credential: None,
        }
    }

    fn plane() -> Plane {
        Plane {
            namespace: "granary-system".to_owned(),
            operator: "granary-operator".to_owned(),
        }
    }

    fn tenant(state: tenants::State) -> tenants::Tenant {
        tenants::Tenant {
            uid: TenantUid(uuid::Uuid::from_u128(1)),
            name: "acme".to_owned(),
            namespace: "silo-acme-4f1c09ab7d".to_owned(),
            state,
            created_at: Timestamp::UNIX_EPOCH,
            ended_at: None,
        }
    }

    const SILO: &str = "silo-acme-4f1c09ab7d";
    const PLANE: &str = "granary-system";

    #[rstest]
    #[case(SILO, "app", Some(Purpose::App))]
    #[case(SILO, "migrate", Some(Purpose::App))]
    #[case(SILO, "database", Some(Purpose::Backup))]
    #[case(SILO, "default", None)]
    #[case(SILO, "App", None)]
    // The operator's account gets nothing, wherever it is, and its name elsewhere is worth nothing.
    #[case(PLANE, "granary-operator", None)]
    #[case(SILO, "granary-operator", None)]
    #[case(PLANE, "granary-keyserver", None)]
    fn each_account_gets_its_purpose_alone(
        #[case] namespace: &str,
        #[case] account: &str,
        #[case] allowed: Option<Purpose>,
    ) {
        let caller = caller(namespace, account);
        let role = role(&caller, &plane());
        for purpose in Purpose::ALL {
            let decision = unwrap(role, &caller, purpose);
            assert_eq!(
                decision.is_ok(),
                allowed == Some(purpose),
                "{purpose}: {decision:?}"
            );
            if let Err(refusal) = decision {
                assert_eq!(refusal.code.status(), 403);
            }
        }
    }

    #[rstest]
    #[case(PLANE, "granary-operator", true)]
    #[case(SILO, "granary-operator", false)]
    #[case(PLANE, "granary-keyserver", false)]
    #[case(PLANE, "default", false)]
    #[case(SILO, "app", false)]
    #[case(SILO, "database", false)]
    fn only_the_operator_manages(
        #[case] namespace: &str,
        #[case] account: &str,
        #[case] allowed: bool,
    ) {
        let caller = caller(namespace, account);
        assert_eq!(manage(role(&caller, &plane()), &caller).is_ok(), allowed);
    }

    #[test]
    fn the_operator_is_told_that_it_never_reads() {
        let caller = caller(PLANE, "granary-operator");
        let refusal = unwrap(Role::Operator, &caller, Purpose::App).unwrap_err();
        assert_eq!(refusal.code, Code::OperatorMayNotUnwrap);
    }

    /// Every state of a tenant, times every state of its key, times every purpose.
    #[test]
    fn keys_are_given_out_in_two_states_alone() {
        for tenant_state in tenants::State::ALL {
            for key_state in keys::State::ALL {
                for purpose in Purpose::ALL {
                    let decision = states(&tenant(*tenant_state), *key_state, purpose);
                    let given = *key_state == keys::State::Enabled
                        && (*tenant_state == tenants::State::Live
                            || (*tenant_state, purpose)
                                == (tenants::State::Offboarding, Purpose::Backup));
                    assert_eq!(
                        decision.is_ok(),
                        given,
                        "{tenant_state} {key_state} {purpose}: {decision:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_being_made_is_worth_waiting_for() {
        let live = tenant(tenants::State::Live);
        let refusal = states(&live, keys::State::Intended, Purpose::App).unwrap_err();
        assert_eq!(refusal.code, Code::NoKeyYet);
        let refusal = states(&live, keys::State::Disabled, Purpose::App).unwrap_err();
        assert_eq!(refusal.code, Code::KeyNotEnabled);
    }
}
