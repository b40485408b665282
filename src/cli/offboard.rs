//! `granary offboard`: remove a tenant and everything of its silo, after its name was typed.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use serde::Serialize;

use super::age::elapsed;
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
use crate::api::{Tenant, TenantState};

/// Offboard a tenant: cut its access, then remove its silo with all its data.
#[derive(Args, Debug)]
pub struct OffboardArgs {
    /// Name of the tenant
    #[arg(value_parser = argument::tenant)]
    name: String,
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
        if let Some(confirm) = &self.confirm
            && *confirm != self.name
        {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "--confirm {confirm:?} is not the tenant to offboard, {:?}",
                    self.name
                ),
            )
            .why("nothing was changed"));
        }
        if self.confirm.is_none() && !terminal.interactive {
            return Err(Failure::new(
            Exit::Usage,
            format!("offboarding tenant {:?} needs to be confirmed", self.name),
        )
        .why(
            "it removes the tenant's data, and there is no terminal to ask at; nothing was changed",
        )
        .next(format!(
            "granary offboard {} --confirm {}",
            self.name, self.name
        )));
        }
        Ok(())
    }
}

/// What was removed, or is being removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    uid: String,
    namespace: Option<String>,
    /// `Removed`, or `Removing` when nobody waited.
    state: &'static str,
    at: Timestamp,
}

impl Removal {
    fn of(tenant: &Tenant, done: bool) -> Self {
        Self {
            api_version: super::REPORT_VERSION,
            kind: "Removal",
            name: tenant.name_any(),
            uid: tenant.uid().unwrap_or_default(),
            namespace: tenant
                .status
                .as_ref()
                .and_then(|status| status.namespace.clone()),
            state: if done { "Removed" } else { "Removing" },
            at: Timestamp::now(),
        }
    }
}

impl View for Removal {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["NAME", "STATE", "UID", "NAMESPACE"]);
        grid.row([
            (self.name.as_str(), Tone::Plain),
            (self.state, Tone::Dim),
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
    let mut tenant = cluster.tenant(&args.name).await?;
    if args.confirm.is_none() {
        confirm(&tenant, printer)?;
    }
    let progress = remove(&mut tenant, args, cluster, printer).await?;
    let done = progress.is_some();
    if let Some(progress) = progress {
        printer.note(&format!(
            "Tenant {} and its silo are gone after {}.",
            args.name,
            elapsed(progress.elapsed())
        ));
    }
    printer.show(&Removal::of(&tenant, done))
}

/// Cuts access, deletes and waits; the progress if it waited.
async fn remove(
    tenant: &mut Tenant,
    args: &OffboardArgs,
    cluster: &Cluster,
    printer: Printer,
) -> Result<Option<Progress>, Failure> {
    let what = format!("cannot offboard tenant {:?}", args.name);
    let mut progress = Progress::new(printer, Instant::now());
    if tenant.metadata.deletion_timestamp.is_none() {
        if tenant.spec.state != TenantState::Offboarded {
            *tenant = state::set(cluster, tenant, TenantState::Offboarded, &what).await?;
            progress.step(&format!("access of tenant {} is being cut", args.name));
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: tenant.uid(),
            resource_version: None,
        });
        let api = cluster.tenants();
        match cluster.ask(&what, api.delete(&args.name, &params)).await {
            Ok(_) => progress.step(&format!("silo of tenant {} is being removed", args.name)),
            // Somebody else was faster.
            Err(failure) if failure.exit() == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    } else {
        progress.step(&format!("tenant {} is being removed already", args.name));
    }
    let Some(timeout) = args.wait.timeout() else {
        return Ok(None);
    };
    wait::until(Goal::Gone, tenant, cluster, &mut progress, timeout).await?;
    Ok(Some(progress))
}

/// Shows what is going to be removed and asks for the tenant's name.
fn confirm(tenant: &Tenant, printer: Printer) -> Result<(), Failure> {
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
    printer.ask(&format!(
        "Offboarding tenant {name} removes its database, its volume and its page, for ever:"
    ));
    for (heading, text) in about {
        if let Some(text) = text {
            printer.ask(&format!("  {heading:<12} {text}"));
        }
    }
    if !printer.terminal().colour_messages {
        inquire::set_global_render_config(inquire::ui::RenderConfig::empty());
    }
    let typed = inquire::Text::new(&format!("Type {name} to remove it:")).prompt();
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
    #[case(None, true, None)]
    #[case(None, false, Some(Exit::Usage))]
    #[case(Some("acme"), false, None)]
    #[case(Some("globex"), true, Some(Exit::Usage))]
    fn removal_needs_the_name_twice_or_somebody_to_ask(
        #[case] confirm: Option<&str>,
        #[case] interactive: bool,
        #[case] refused: Option<Exit>,
    ) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: OffboardArgs,
        }
        let mut line = vec!["offboard", "acme"];
        line.extend(confirm.iter().flat_map(|name| ["--confirm", name]));
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
