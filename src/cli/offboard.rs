//! `granary offboard`: cut a tenant's access, and destroy its key and data when its grace period is over.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use serde::Serialize;
use serde_json::json;

use super::age::{elapsed, relative};
use super::argument;
use super::cluster::Cluster;
use super::exit::Exit;
use super::failure::Failure;
use super::globals::Terminal;
use super::look;
use super::printer::{Printer, View};
use super::progress::Progress;
use super::state;
use super::table::{Grid, Tone};
use super::wait::{self, Goal, WaitArgs};
use crate::api::{Phase, Tenant, TenantState};

/// Offboard a tenant: cut its access, and destroy its key and data when its grace period is over.
///
/// Until then `granary reinstate` brings it back. A tenant whose key and data are destroyed already is removed.
#[derive(Args, Debug)]
pub struct OffboardArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
    /// Destroy the data at once, without a grace period, and remove the tenant; nothing opens the key any more, and the KMS
    /// destroys it after 7 days
    #[arg(long)]
    now: bool,
    /// The tenant's name once more, instead of typing it at the prompt
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

impl OffboardArgs {
    /// Refuses what could never be confirmed, before the cluster is asked anything: whether a script is right must
    /// not depend on what exists.
    pub fn check(&self, terminal: Terminal) -> Result<(), Failure> {
        let Self { name, now, .. } = self;
        if let Some(confirm) = &self.confirm
            && confirm != name
        {
            let what = format!("--confirm {confirm:?} is not the tenant to offboard, {name:?}");
            return Err(Failure::new(Exit::Usage, what).why("nothing was changed"));
        }
        if self.confirm.is_none() && !terminal.interactive {
            let what = format!("offboarding tenant {name:?} needs to be confirmed");
            let command = if *now { "offboard --now" } else { "offboard" };
            return Err(Failure::new(Exit::Usage, what)
                .why("it ends with the tenant's data destroyed, and there is no terminal to ask at; nothing was changed")
                .next(format!("granary {command} {name} --confirm {name}")));
        }
        Ok(())
    }
}

/// How far the end of a tenant is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    uid: String,
    namespace: Option<String>,
    /// The tenant's phase, or `Removing` and `Removed` for the resource itself.
    state: &'static str,
    access_cut_at: Option<Time>,
    grace_ends_at: Option<Time>,
    at: Timestamp,
}

impl Report {
    fn of(tenant: &Tenant, state: &'static str) -> Self {
        let status = tenant.status.clone().unwrap_or_default();
        let offboarding = status.offboarding;
        let offboarding = offboarding.as_ref();
        Self {
            api_version: super::REPORT_VERSION,
            kind: "Offboarding",
            name: tenant.name_any(),
            uid: tenant.uid().unwrap_or_default(),
            namespace: status.namespace,
            state,
            access_cut_at: offboarding.and_then(|at| at.access_cut_at.clone()),
            grace_ends_at: offboarding.and_then(|at| at.grace_ends_at.clone()),
            at: Timestamp::now(),
        }
    }
}

impl View for Report {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["NAME", "STATE", "GRACE-ENDS", "UID", "NAMESPACE"]);
        let grace = self.grace_ends_at.as_ref().filter(|end| end.0 > self.at);
        let grace = grace.map_or_else(|| "-".to_owned(), |end| relative(end.0, self.at));
        grid.row([
            (self.name.as_str(), Tone::Plain),
            (self.state, Tone::Dim),
            (grace.as_str(), Tone::Plain),
            (self.uid.as_str(), Tone::Plain),
            (self.namespace.as_deref().unwrap_or_default(), Tone::Plain),
        ]);
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        vec![format!("tenant.{}/{}", crate::api::GROUP, self.name)]
    }
}

/// Runs `granary offboard`.
pub async fn run(args: &OffboardArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let tenant = cluster.tenant(&args.name).await?;
    let is_rest = look::phase_of(&tenant) == Phase::Shredded;
    if args.confirm.is_none() && !is_rest {
        confirm(&tenant, args.now, printer)?;
    }
    let mut going = Going {
        what: format!("cannot offboard tenant {:?}", args.name),
        args,
        cluster,
        printer,
        progress: Progress::new(printer, Instant::now()),
        tenant,
    };
    let report = if going.tenant.metadata.deletion_timestamp.is_some() {
        going.say("is being removed already");
        going.await_gone().await?
    } else if is_rest {
        going.delete().await?;
        going.await_gone().await?
    } else if args.now {
        going.end_now().await?
    } else {
        going.begin().await?
    };
    printer.show(&report)
}

/// A tenant on its way out.
struct Going<'a> {
    what: String,
    args: &'a OffboardArgs,
    cluster: &'a Cluster,
    printer: Printer,
    progress: Progress,
    tenant: Tenant,
}

impl Going<'_> {
    fn say(&self, what: &str) {
        self.progress
            .step(&format!("tenant {} {what}", self.args.name));
    }

    /// Cuts access and leaves the rest to the grace period.
    async fn begin(&mut self) -> Result<Report, Failure> {
        if self.tenant.spec.state == TenantState::Offboarded {
            self.say("is to be offboarded already");
        } else {
            let spec = json!({"state": look::state(TenantState::Offboarded)});
            self.tenant = state::patch(self.cluster, &self.tenant, &spec, &self.what).await?;
            self.say("is to be offboarded: its access is being cut");
        }
        if !self.wait(Goal::Cut).await? {
            return Ok(Report::of(&self.tenant, "Offboarding"));
        }
        let report = Report::of(&self.tenant, look::phase(look::phase_of(&self.tenant)).0);
        let name = &self.args.name;
        let took = elapsed(self.progress.elapsed());
        self.printer
            .note(&format!("Access to tenant {name} is cut after {took}."));
        if let Some(end) = report
            .grace_ends_at
            .as_ref()
            .filter(|end| end.0 > report.at)
        {
            self.printer.note(&format!(
                "Its key and data are destroyed {} ({}); until then `granary reinstate {name}` brings it back.",
                relative(end.0, report.at),
                end.0
            ));
        }
        Ok(report)
    }

    /// Destroys key and data, and removes the resource.
    async fn end_now(&mut self) -> Result<Report, Failure> {
        let spec = json!({
            "state": look::state(TenantState::Offboarded),
            "offboarding": {"gracePeriod": "0s"},
        });
        self.tenant = state::patch(self.cluster, &self.tenant, &spec, &self.what).await?;
        self.say("is to be destroyed: its access is being cut, then key and data go");
        self.wait(Goal::Shredded).await?;
        self.delete().await?;
        self.await_gone().await
    }

    /// Deletes the resource; what is left of the tenant goes first.
    async fn delete(&mut self) -> Result<(), Failure> {
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: self.tenant.uid(),
            resource_version: None,
        });
        let api = self.cluster.tenants();
        let asked = api.delete(&self.args.name, &params);
        match self.cluster.ask(&self.what, asked).await {
            Ok(_) => self.say("is being removed"),
            // Somebody else was faster.
            Err(failure) if failure.exit() == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn await_gone(&mut self) -> Result<Report, Failure> {
        if !self.wait(Goal::Gone).await? {
            return Ok(Report::of(&self.tenant, "Removing"));
        }
        let name = &self.args.name;
        let took = elapsed(self.progress.elapsed());
        self.printer.note(&format!(
            "Tenant {name} and its silo are gone after {took}; `granary evidence show {name}` proves it."
        ));
        Ok(Report::of(&self.tenant, "Removed"))
    }

    /// Waits, unless told not to; false if it did not.
    async fn wait(&mut self, goal: Goal) -> Result<bool, Failure> {
        let Some(timeout) = self.args.wait.timeout() else {
            return Ok(false);
        };
        let progress = &mut self.progress;
        let waited = wait::until(goal, &self.tenant, self.cluster, progress, timeout).await?;
        if let Some(reached) = waited.filter(|now| now.uid() == self.tenant.uid()) {
            self.tenant = reached;
        }
        Ok(true)
    }
}

/// Shows what is going to be destroyed and asks for the tenant's name.
fn confirm(tenant: &Tenant, now: bool, printer: Printer) -> Result<(), Failure> {
    let name = tenant.name_any();
    let status = tenant.status.clone().unwrap_or_default();
    let database = status.database.unwrap_or_default();
    let about = [
        ("Customer", tenant.spec.display_name.clone()),
        (
            "Environment",
            Some(look::environment(tenant.spec.environment).to_owned()),
        ),
        ("URL", status.url),
        ("Namespace", status.namespace),
        ("Data", database.size_bytes.map(look::bytes)),
    ];
    let when = if now {
        "at once, for ever"
    } else {
        "when its grace period is over; its page goes now"
    };
    printer.ask(&format!(
        "Offboarding tenant {name} destroys its key, its database and its volume, {when}:"
    ));
    for (heading, text) in about {
        if let Some(text) = text {
            printer.ask(&format!("  {heading:<12} {text}"));
        }
    }
    if !printer.terminal().colour_messages {
        inquire::set_global_render_config(inquire::ui::RenderConfig::empty());
    }
    let typed = inquire::Text::new(&format!("Type {name} to offboard it:")).prompt();
    match typed {
        Ok(typed) if typed.trim() == name => Ok(()),
        Ok(_) => Err(cancelled(&name).why("another name was typed")),
        Err(
            inquire::InquireError::OperationCanceled | inquire::InquireError::OperationInterrupted,
        ) => Err(cancelled(&name)),
        Err(error) => Err(Failure::new(Exit::Failure, "cannot ask at this terminal")
            .why(error.to_string())
            .next(format!("granary offboard {name} --confirm {name}"))),
    }
}

fn cancelled(name: &str) -> Failure {
    Failure::new(
        Exit::Cancelled,
        format!("tenant {name:?} was not offboarded; nothing was changed"),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["acme"], true, None)]
    #[case(&["acme"], false, Some(Exit::Usage))]
    #[case(&["acme", "--now"], false, Some(Exit::Usage))]
    #[case(&["acme", "--confirm", "acme"], false, None)]
    #[case(&["acme", "--now", "--confirm", "acme"], false, None)]
    #[case(&["acme", "--confirm", "globex"], true, Some(Exit::Usage))]
    fn offboarding_needs_the_name_twice_or_somebody_to_ask(
        #[case] line: &[&str],
        #[case] interactive: bool,
        #[case] refused: Option<Exit>,
    ) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: OffboardArgs,
        }
        let line = ["offboard"].iter().chain(line);
        let args = <Line as clap::Parser>::try_parse_from(line)
            .expect("a command line")
            .args;
        let terminal = Terminal {
            interactive,
            ..Terminal::default()
        };
        assert_eq!(
            args.check(terminal).err().map(|failure| failure.exit()),
            refused
        );
    }
}
