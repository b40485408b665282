//! Tenants for tests, built as they read: `tenant("acme").ready().build()`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::keys::{DataKeyPurpose, DataKeyState, DataKeyStatus};
use crate::api::tenant::{DatabaseStatus, KeyStatus, Owner};
use crate::api::{
    Condition, ConditionStatus, ConditionType, Environment, Phase, Tenant, TenantSpec, TenantState,
    TenantStatus,
};

/// Every condition, in the order in which a silo comes up.
pub const CONDITIONS: [ConditionType; 9] = [
    ConditionType::NamespaceReady,
    ConditionType::NetworkIsolated,
    ConditionType::CertificatesReady,
    ConditionType::KeyReady,
    ConditionType::DatabaseReady,
    ConditionType::MigrationReady,
    ConditionType::AppReady,
    ConditionType::RouteReady,
    ConditionType::Ready,
];

/// The moment at which every fixture is looked at.
pub fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a timestamp")
}

/// A moment so many seconds before [`now`].
pub fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// A tenant in the making.
pub struct TenantFixture(Tenant);

/// A tenant just created, which the operator has not seen.
pub fn tenant(name: &str) -> TenantFixture {
    let mut tenant = Tenant::new(
        name,
        TenantSpec {
            display_name: Some("Acme Farms Ltd.".to_owned()),
            plan: "standard".to_owned(),
            environment: Environment::Production,
            owner: Some(Owner {
                email: "ops@acme.example".to_owned(),
            }),
            app: None,
            domains: Vec::new(),
            state: TenantState::Active,
            keys: None,
            offboarding: None,
            deletion_protection: true,
        },
    );
    tenant.metadata.uid = Some("4f1c09ab-7d00-4bbb-8ccc-000000000001".to_owned());
    tenant.metadata.generation = Some(1);
    tenant.metadata.creation_timestamp = Some(Time(ago(273_600)));
    TenantFixture(tenant)
}

/// A condition that changed two minutes ago.
pub fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) -> Condition {
    Condition {
        type_,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: 1,
        last_transition_time: Time(ago(150)),
    }
}

/// A version of a data key that became so this many seconds ago.
pub fn data_key(
    purpose: DataKeyPurpose,
    version: i64,
    state: DataKeyState,
    seconds: i64,
) -> DataKeyStatus {
    DataKeyStatus {
        purpose,
        version,
        state,
        since: Time(ago(seconds)),
        kept: None,
    }
}

impl TenantFixture {
    /// The status, made if it was missing.
    fn status(&mut self) -> &mut TenantStatus {
        self.0.status.get_or_insert_with(|| TenantStatus {
            observed_generation: Some(1),
            ..TenantStatus::default()
        })
    }

    /// With this phase.
    pub fn phase(mut self, phase: Phase) -> Self {
        self.status().phase = phase;
        self
    }

    /// With this condition.
    pub fn with(mut self, condition: Condition) -> Self {
        self.status().conditions.push(condition);
        self
    }

    /// With this wanted state, as the second generation of the spec.
    pub fn wanting(mut self, state: TenantState) -> Self {
        self.0.spec.state = state;
        self.0.metadata.generation = Some(2);
        self
    }

    /// With this UID.
    pub fn uid(mut self, uid: &str) -> Self {
        self.0.metadata.uid = Some(uid.to_owned());
        self
    }

    /// Being deleted.
    pub fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(Time(ago(30)));
        self
    }

    /// Served, with everything known.
    pub fn ready(mut self) -> Self {
        let status = self.status();
        status.phase = Phase::Ready;
        status.namespace = Some("silo-acme-4f1c09ab7d".to_owned());
        status.url = Some("https://acme.granary.localhost:8443".to_owned());
        status.release = Some("1a2b3c4d".to_owned());
        status.key = Some(KeyStatus {
            id: "local:4f1c09ab-7d00-4bbb-8ccc-000000000001".to_owned(),
            version: 1,
            rotated_at: Time(ago(180_000)),
            data_keys: vec![
                data_key(DataKeyPurpose::App, 2, DataKeyState::Active, 3_600),
                data_key(DataKeyPurpose::App, 1, DataKeyState::Retired, 3_500),
                data_key(DataKeyPurpose::Backup, 1, DataKeyState::Active, 180_000),
            ],
            rotation: None,
        });
        status.database = Some(DatabaseStatus {
            version: Some("17.11".to_owned()),
            size_bytes: Some(7_864_320),
        });
        status.certificates_renew_at = Some(Time(now() + SignedDuration::from_hours(100)));
        for type_ in CONDITIONS {
            status
                .conditions
                .push(condition(type_, ConditionStatus::True, "AsWanted", ""));
        }
        self
    }

    /// The tenant.
    pub fn build(self) -> Tenant {
        self.0
    }
}
