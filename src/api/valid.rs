//! A tenant that passed every check that needs no cluster: what the builders of a silo take.
//!
//! Admission refuses the same mistakes earlier and with the user at hand. These checks stand behind it, because an
//! object may be older than a rule, and the builders put these values into names, selectors and environments.

mod shape;
#[cfg(test)]
mod tests;

pub(crate) use shape::{is_dns_label, is_dns_name};

use std::time::Duration;

use super::duration;
use super::quantity::{Bytes, Cpu};
use super::{Environment, Plan, Release, SiloName, Tenant, TenantState};

/// What every silo of one installation shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiloSettings {
    /// Domain below which every tenant has a subdomain (`granary.localhost`).
    pub base_domain: String,
    /// Port that people reach the gateway on; left out of URLs when it is 443.
    pub external_port: u16,
    /// Name of the `Gateway` that routes attach to.
    pub gateway_name: String,
    /// Namespace of that `Gateway`.
    pub gateway_namespace: String,
    /// Namespace whose pods carry the gateway's traffic; only they reach an app.
    pub gateway_dataplane_namespace: String,
    /// Namespace of the operator, whose pods alone reach a database's agent, and of the key server.
    pub plane_namespace: String,
    /// Image of the database, by digest.
    pub postgres_image: String,
    /// Image of Granary itself, by digest: it fetches an app's data keys.
    pub granary_image: String,
    /// Certificates (PEM) of the authorities that the key server's certificate is checked by.
    pub keyserver_ca: String,
    /// Namespace of the cluster's DNS servers (`kube-system`).
    pub dns_namespace: String,
}

/// A tenant that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidTenant {
    /// Name of the resource, which is the subdomain label.
    pub name: String,
    /// UID of the resource: what ownership is decided by.
    pub uid: String,
    /// Name of the silo's namespace.
    pub namespace: SiloName,
    /// The customer's name as people write it; the resource's name when none is given.
    pub display_name: String,
    /// What the silo is for.
    pub environment: Environment,
    /// First administrator of the app.
    pub owner_email: Option<String>,
    /// What the tenant should be.
    pub state: TenantState,
    /// Generation of the spec that all this was read from.
    pub generation: i64,
    /// Name of the plan.
    pub plan: String,
    /// Host name of the tenant's page (`acme.granary.localhost`).
    pub host: String,
    /// Where the tenant's people go (`https://acme.granary.localhost:8443`).
    pub url: String,
    /// The wanted release of the app.
    pub release: Release,
    /// Size of the app.
    pub app: AppSize,
    /// Size of the database.
    pub database: DatabaseSize,
}

/// Size of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSize {
    /// Image by digest.
    pub image: String,
    /// Number of pods.
    pub replicas: i32,
    /// CPU limit of one pod.
    pub cpu: Cpu,
    /// Memory limit of one pod.
    pub memory: Bytes,
}

/// Size of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSize {
    /// CPU limit of the pod.
    pub cpu: Cpu,
    /// Memory limit of the pod.
    pub memory: Bytes,
    /// Size of the volume.
    pub storage: Bytes,
    /// Storage class of the volume; the cluster's default when `None`.
    pub storage_class_name: Option<String>,
    /// `max_connections` of PostgreSQL.
    pub connections: i32,
}

/// Why a tenant cannot be built as it is. The message names the field and says what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The object did not come from an API server.
    #[error(
        "metadata.uid is {value:?}, which no API server assigned: apply the Tenant, do not copy one"
    )]
    Identity {
        /// What was there instead.
        value: String,
    },
    /// The name cannot be a subdomain.
    #[error("metadata.name {value:?} cannot be a subdomain: it {rule}")]
    Name {
        /// The name.
        value: String,
        /// What a name must be.
        rule: &'static str,
    },
    /// A field of the tenant's spec.
    #[error("{field} is {value:?}: it {rule}")]
    Tenant {
        /// Path of the field.
        field: &'static str,
        /// Its value, shortened.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The plan does not exist, yet.
    #[error(
        "spec.plan is {plan:?}, which does not exist: create the Plan or name another one (`kubectl get plans`)"
    )]
    PlanNotFound {
        /// Name of the plan.
        plan: String,
    },
    /// A field of the plan's spec.
    #[error("plan {plan:?}: {field} is {value:?}: it {rule}")]
    Plan {
        /// Name of the plan.
        plan: String,
        /// Path of the field.
        field: &'static str,
        /// Its value, shortened.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// It is wanted again after its key and data were given up.
    #[error(
        "the tenant cannot come back: its key and data are being destroyed, or are gone{since}; set spec.state to Offboarded, or delete it and onboard it anew"
    )]
    NoReturn {
        /// Since when, as the end of the phrase.
        since: String,
    },
}

impl Rejection {
    /// A stable CamelCase word for conditions and Events.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Identity { .. } => "InvalidIdentity",
            Self::Name { .. } => "InvalidName",
            Self::Tenant { .. } => "InvalidSpec",
            Self::Plan { .. } => "InvalidPlan",
            Self::PlanNotFound { .. } => "PlanNotFound",
            Self::NoReturn { .. } => "NoReturn",
        }
    }
}

impl ValidTenant {
    /// Checks a tenant and its plan, and derives every name and value of the silo.
    pub fn new(tenant: &Tenant, plan: &Plan, settings: &SiloSettings) -> Result<Self, Rejection> {
        let name = tenant.metadata.name.clone().unwrap_or_default();
        let uid = tenant.metadata.uid.clone().unwrap_or_default();
        if !shape::is_uid(&uid) {
            return Err(Rejection::Identity {
                value: shorten(&uid),
            });
        }
        check_name(&name)?;
        let host = format!("{name}.{}", settings.base_domain);
        if host.len() > 253 {
            return Err(name_rejection(
                &name,
                "makes a host name longer than 253 characters with the base domain",
            ));
        }
        let spec = &tenant.spec;
        if plan.metadata.name.as_deref() != Some(spec.plan.as_str()) {
            return Err(tenant_rejection(
                "spec.plan",
                &spec.plan,
                "must name an existing plan",
            ));
        }
        check_domains(&spec.domains)?;
        let display_name = spec.display_name.clone().unwrap_or_else(|| name.clone());
        check_display_name(&display_name)?;
        let owner_email = spec.owner.as_ref().map(|owner| owner.email.clone());
        owner_email.as_deref().map_or(Ok(()), check_email)?;
        check_rotation(plan)?;
        let app = app_size(tenant, plan)?;
        let port = match settings.external_port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        Ok(Self {
            namespace: SiloName::new(&name, &uid),
            url: format!("https://{host}{port}"),
            host,
            display_name,
            environment: spec.environment,
            owner_email,
            state: spec.state,
            generation: tenant.metadata.generation.unwrap_or_default(),
            plan: spec.plan.clone(),
            release: Release::of_image(&app.image),
            app,
            database: database_size(plan)?,
            name,
            uid,
        })
    }
}

fn app_size(tenant: &Tenant, plan: &Plan) -> Result<AppSize, Rejection> {
    let wanted = tenant.spec.app.clone().unwrap_or_default();
    if let Some(image) = &wanted.image {
        check(shape::is_image_by_digest(image), || {
            tenant_rejection("spec.app.image", image, IMAGE_RULE)
        })?;
    }
    if let Some(replicas) = wanted.replicas {
        let value = replicas.to_string();
        check(REPLICAS.contains(&replicas), || {
            tenant_rejection("spec.app.replicas", &value, REPLICAS_RULE)
        })?;
    }
    let size = &plan.spec.app;
    let replicas = size.replicas.to_string();
    check(shape::is_image_by_digest(&size.image), || {
        plan_rejection(plan, "spec.app.image", &size.image, IMAGE_RULE)
    })?;
    check(REPLICAS.contains(&size.replicas), || {
        plan_rejection(plan, "spec.app.replicas", &replicas, REPLICAS_RULE)
    })?;
    Ok(AppSize {
        image: wanted.image.unwrap_or_else(|| size.image.clone()),
        replicas: wanted.replicas.unwrap_or(size.replicas),
        cpu: cpu(plan, "spec.app.cpu", &size.cpu)?,
        memory: bytes(
            plan,
            "spec.app.memory",
            &size.memory,
            MEBIBYTE * 16,
            "must be at least 16Mi, like 128Mi",
        )?,
    })
}

fn database_size(plan: &Plan) -> Result<DatabaseSize, Rejection> {
    let size = &plan.spec.database;
    let connections = size.connections.to_string();
    check((10..=10_000).contains(&size.connections), || {
        plan_rejection(
            plan,
            "spec.database.connections",
            &connections,
            "must be from 10 to 10000",
        )
    })?;
    let class = size.storage_class_name.as_deref().unwrap_or("default");
    check(shape::is_dns_name(class), || {
        plan_rejection(
            plan,
            "spec.database.storageClassName",
            class,
            "must be the name of a StorageClass",
        )
    })?;
    Ok(DatabaseSize {
        cpu: cpu(plan, "spec.database.cpu", &size.cpu)?,
        memory: bytes(
            plan,
            "spec.database.memory",
            &size.memory,
            MEBIBYTE * 64,
            "must be at least 64Mi, like 256Mi",
        )?,
        storage: bytes(
            plan,
            "spec.database.storage",
            &size.storage,
            MEBIBYTE * 64,
            "must be at least 64Mi, like 1Gi",
        )?,
        storage_class_name: size.storage_class_name.clone(),
        connections: size.connections,
    })
}

const MEBIBYTE: u64 = 1 << 20;
const REPLICAS: std::ops::RangeInclusive<i32> = 1..=100;
const REPLICAS_RULE: &str = "must be from 1 to 100";
const IMAGE_RULE: &str =
    "must be an image by digest, like registry.example/app@sha256:<64 hex digits>";
const LABEL_RULE: &str = "must be 1 to 63 lower-case letters, digits and dashes, and begin and end with a letter or digit";

fn check_rotation(plan: &Plan) -> Result<(), Rejection> {
    const RULE: &str = "must be at least 1h, in s, m, h or d, like 90d";
    let keys = plan.spec.keys.as_ref();
    let text = keys.and_then(|keys| keys.rotate_after.as_deref());
    let is_fine = text.is_none_or(|text| duration::parse(text) >= Some(Duration::from_hours(1)));
    check(is_fine, || {
        plan_rejection(
            plan,
            "spec.keys.rotateAfter",
            text.unwrap_or_default(),
            RULE,
        )
    })
}

fn check(holds: bool, rejection: impl FnOnce() -> Rejection) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(rejection()) }
}

fn name_rejection(name: &str, rule: &'static str) -> Rejection {
    Rejection::Name {
        value: shorten(name),
        rule,
    }
}

fn tenant_rejection(field: &'static str, value: &str, rule: &'static str) -> Rejection {
    Rejection::Tenant {
        field,
        value: shorten(value),
        rule,
    }
}

fn plan_rejection(plan: &Plan, field: &'static str, value: &str, rule: &'static str) -> Rejection {
    let plan = plan.metadata.name.clone().unwrap_or_default();
    Rejection::Plan {
        plan,
        field,
        value: shorten(value),
        rule,
    }
}

/// Keeps messages readable when a value is not.
fn shorten(value: &str) -> String {
    const LONGEST: usize = 80;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn check_name(name: &str) -> Result<(), Rejection> {
    check(shape::is_dns_label(name), || {
        name_rejection(name, LABEL_RULE)
    })?;
    // Such a label (`xn--…`) can show as any other tenant's name in a browser.
    let disguised = name.get(2..4) == Some("--");
    check(!disguised, || {
        name_rejection(name, "must not have dashes in third and fourth place")
    })
}

fn check_domains(domains: &[String]) -> Result<(), Rejection> {
    for (index, domain) in domains.iter().enumerate() {
        check(shape::is_dns_name(domain) && domain.contains('.'), || {
            tenant_rejection(
                "spec.domains",
                domain,
                "must be a lower-case domain name, like books.acme.example",
            )
        })?;
        check(!domains[..index].contains(domain), || {
            tenant_rejection("spec.domains", domain, "must not be given twice")
        })?;
    }
    Ok(())
}

fn check_display_name(name: &str) -> Result<(), Rejection> {
    const RULE: &str = "must be one line of 1 to 200 characters without control characters";
    check(shape::is_one_line(name, 200), || {
        tenant_rejection("spec.displayName", name, RULE)
    })
}

fn check_email(email: &str) -> Result<(), Rejection> {
    const RULE: &str = "must be an email address, like ops@acme.example";
    check(shape::is_email(email), || {
        tenant_rejection("spec.owner.email", email, RULE)
    })
}

fn cpu(plan: &Plan, field: &'static str, text: &str) -> Result<Cpu, Rejection> {
    const RULE: &str = "must be from 10m to 1000 cores, in cores or millicores, like 500m";
    Cpu::parse(text)
        .filter(|cpu| (10..=1_000_000).contains(&cpu.0))
        .ok_or_else(|| plan_rejection(plan, field, text, RULE))
}

fn bytes(
    plan: &Plan,
    field: &'static str,
    text: &str,
    least: u64,
    rule: &'static str,
) -> Result<Bytes, Rejection> {
    Bytes::parse(text)
        .filter(|bytes| bytes.0 >= least)
        .ok_or_else(|| plan_rejection(plan, field, text, rule))
}
