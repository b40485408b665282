//! `granary onboard`: a new tenant, from a name to its own silo.

use std::time::Instant;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::api::PostParams;

use super::FIELD_MANAGER;
use super::age::elapsed;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::Printer;
use super::progress::Progress;
use super::tenants::One;
use super::wait::{self, Goal, WaitArgs};
use crate::api::tenant::{Owner, TenantApp};
use crate::api::{Environment, Tenant, TenantSpec, TenantState};

/// Onboard a tenant: create it and wait until its page answers.
#[derive(Args, Debug)]
pub struct OnboardArgs {
    /// Name of the tenant: its subdomain
    name: String,
    /// Plan that sizes the silo
    #[arg(long, default_value = "standard")]
    plan: String,
    /// What the silo is for
    #[arg(long, value_enum, default_value_t = Env::Production)]
    env: Env,
    /// Email address of the app's first administrator
    #[arg(long, value_name = "EMAIL")]
    owner: Option<String>,
    /// The customer's name as people write it
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// Image of the app, by digest (name@sha256:…), instead of the plan's
    #[arg(long)]
    image: Option<String>,
    /// Number of app pods instead of the plan's
    #[arg(long, value_name = "N")]
    replicas: Option<i32>,
    /// Let the API server check everything, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// What a silo is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Env {
    /// Real customers
    Production,
    /// Rehearsal
    Staging,
    /// Work in progress
    Development,
}

impl From<Env> for Environment {
    fn from(env: Env) -> Self {
        match env {
            Env::Production => Self::Production,
            Env::Staging => Self::Staging,
            Env::Development => Self::Development,
        }
    }
}

impl OnboardArgs {
    /// The tenant that was asked for.
    fn tenant(&self) -> Tenant {
        let app = (self.image.is_some() || self.replicas.is_some()).then(|| TenantApp {
            image: self.image.clone(),
            replicas: self.replicas,
        });
        Tenant::new(
            &self.name,
            TenantSpec {
                display_name: self.display_name.clone(),
                plan: self.plan.clone(),
                environment: self.env.into(),
                owner: self.owner.clone().map(|email| Owner { email }),
                app,
                domains: Vec::new(),
                state: TenantState::Active,
                keys: None,
                offboarding: None,
                deletion_protection: true,
            },
        )
    }
}

/// Runs `granary onboard`.
pub async fn run(args: &OnboardArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let started = Instant::now();
    let wanted = args.tenant();
    let params = PostParams {
        dry_run: args.dry_run,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let what = format!("cannot onboard tenant {:?}", args.name);
    let api = cluster.tenants();
    let mut tenant = match cluster.ask(&what, api.create(&params, &wanted)).await {
        Ok(tenant) => tenant,
        Err(failure) if failure.exit() == Exit::Conflict => {
            return Err(exists(&what, &wanted, cluster).await);
        }
        Err(failure) => return Err(failure),
    };
    tenant.metadata.managed_fields = None;
    if args.dry_run {
        printer.note(&format!(
            "Tenant {} would be onboarded; nothing was written.",
            args.name
        ));
    } else if let Some(timeout) = args.wait.timeout() {
        let mut progress = Progress::new(printer, started);
        progress.step(&format!("tenant {} created", args.name));
        if let Some(mut ready) =
            wait::until(Goal::Ready, &tenant, cluster, &mut progress, timeout).await?
        {
            ready.metadata.managed_fields = None;
            tenant = ready;
        }
        printer.note(&format!(
            "Tenant {} is served after {}.",
            args.name,
            elapsed(progress.elapsed())
        ));
    } else {
        printer.note(&format!(
            "Tenant {} created. Follow it with: granary status {} --watch",
            args.name, args.name
        ));
    }
    printer.show(&One {
        tenant,
        now: Timestamp::now(),
    })
}

/// Says how the tenant that is there already differs from the one that was asked for.
async fn exists(what: &str, wanted: &Tenant, cluster: &Cluster) -> Failure {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let failure = Failure::new(Exit::Conflict, what);
    let Ok(there) = cluster.tenant(name).await else {
        return failure.why("a tenant of this name exists already");
    };
    let failure = if there.metadata.deletion_timestamp.is_some() {
        failure.why("a tenant of this name is still being removed")
    } else if there.spec == wanted.spec {
        failure.why("a tenant of this name exists already, with the very same spec")
    } else {
        failure
            .why("a tenant of this name exists already, with another spec")
            .next(format!("kubectl edit tenant {name}   # changes it"))
    };
    failure.next(format!("granary status {name}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: OnboardArgs,
    }

    fn tenant(line: &[&str]) -> Tenant {
        let line = ["onboard"].iter().chain(line);
        Line::try_parse_from(line)
            .expect("a command line")
            .args
            .tenant()
    }

    #[test]
    fn what_is_not_said_comes_from_the_plan() {
        let tenant = tenant(&["acme"]);
        assert_eq!(tenant.metadata.name.as_deref(), Some("acme"));
        assert_eq!(tenant.spec.plan, "standard");
        assert_eq!(tenant.spec.app, None);
        assert!(tenant.spec.deletion_protection);
    }

    #[test]
    fn every_option_reaches_the_spec() {
        let image = "registry.example/cashbook@sha256:00";
        let tenant = tenant(&[
            "acme",
            "--plan",
            "large",
            "--env",
            "staging",
            "--owner",
            "ops@acme.example",
            "--display-name",
            "Acme Farms Ltd.",
            "--image",
            image,
            "--replicas",
            "3",
        ]);
        insta::assert_json_snapshot!(tenant.spec);
    }

    #[test]
    fn the_last_of_wait_and_no_wait_counts() {
        let timeout = |line: &[&str]| {
            let line = ["onboard", "acme"].iter().chain(line);
            let parsed = Line::try_parse_from(line).expect("a command line");
            parsed.args.wait.timeout().map(|timeout| timeout.as_secs())
        };
        assert_eq!(timeout(&[]), Some(300));
        assert_eq!(timeout(&["--no-wait"]), None);
        assert_eq!(timeout(&["--no-wait", "--wait"]), Some(300));
        assert_eq!(timeout(&["--timeout", "90s"]), Some(90));
    }
}
