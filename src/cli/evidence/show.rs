//! `granary evidence show`: the signed records of a tenant, out of the registry.

use clap::Args;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::super::access::{Access, explain};
use super::super::argument;
use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::globals::Output;
use super::super::printer::{Printer, View};
use super::super::table::{Grid, Tone};
use super::key;
use super::report::Report;
use crate::evidence;
use crate::keys::TenantUid;
use crate::registry::evidence::{self as records, Evidence};
use crate::registry::tenants::{State, Tenant};
use crate::registry::{Connection, RegistryError};

/// Show the signed record of a tenant's end; with -o json the envelope that `granary evidence verify` checks
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the tenant, or its UID where several had the name
    #[arg(value_name = "NAME|UID", value_parser = argument::tenant)]
    tenant: String,
    /// Every record of every tenant that had the name, not just the last one
    #[arg(long)]
    all: bool,
    /// Namespace that Granary is installed in
    #[arg(short, long, default_value = "granary-system")]
    namespace: String,
}

/// One record: for people what it says, for programs the envelope as it was signed.
struct Shown {
    envelope: Value,
    report: Option<Report>,
    name: String,
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.envelope.serialize(serializer)
    }
}

impl View for Shown {
    fn table(&self, wide: bool, colour: bool) -> String {
        let report = self.report.as_ref();
        report.map_or_else(String::new, |report| report.table(wide, colour))
    }

    fn names(&self) -> Vec<String> {
        vec![format!("tenant/{}", self.name)]
    }
}

/// Every record, oldest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Many {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    uid: TenantUid,
    stage: records::Stage,
    created_at: Timestamp,
    envelope: Value,
}

impl View for Many {
    fn table(&self, _wide: bool, colour: bool) -> String {
        let mut grid = Grid::new(colour, &["NAME", "UID", "STAGE", "RECORDED"]);
        for item in &self.items {
            let recorded = item.created_at.strftime("%Y-%m-%dT%H:%M:%SZ");
            grid.row([
                (item.name.clone(), Tone::Plain),
                (item.uid.to_string(), Tone::Plain),
                (item.stage.to_string(), Tone::Plain),
                (recorded.to_string(), Tone::Plain),
            ]);
        }
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        let name = |item: &Item| format!("tenant/{}", item.name);
        self.items.iter().map(name).collect()
    }
}

/// Runs `granary evidence show`.
pub async fn run(args: &ShowArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let access = Access::open(cluster, &args.namespace).await?;
    let mut connection = access.connection().await?;
    let known = Access::tenants(&mut connection, &args.tenant)
        .await
        .map_err(|error| unreadable(&error))?;
    if args.all {
        return show_all(&known, &args.tenant, &mut connection, printer).await;
    }
    let tenant = ended(&known, &args.tenant)?;
    let found = records::of_tenant(&mut connection, tenant.uid).await;
    let Some(last) = found.map_err(|error| unreadable(&error))?.pop() else {
        return Err(none(&args.tenant));
    };
    drop(connection);
    let report = match printer.output() {
        Output::Table | Output::Wide => Some(check(&last, cluster, &args.namespace).await?),
        Output::Json | Output::Yaml | Output::Name => None,
    };
    printer.show(&Shown {
        envelope: last.envelope,
        report,
        name: tenant.name.clone(),
    })
}

async fn show_all(
    known: &[Tenant],
    asked: &str,
    connection: &mut Connection,
    printer: Printer,
) -> Result<(), Failure> {
    let mut items = Vec::new();
    for tenant in known {
        let found = records::of_tenant(connection, tenant.uid).await;
        items.extend(
            found
                .map_err(|error| unreadable(&error))?
                .into_iter()
                .map(|record| Item {
                    name: tenant.name.clone(),
                    uid: record.tenant,
                    stage: record.stage,
                    created_at: record.created_at,
                    envelope: record.envelope,
                }),
        );
    }
    if items.is_empty() {
        // Says why, where the reason is that the tenant lives or is unknown.
        ended(known, asked)?;
        return Err(none(asked));
    }
    printer.show(&Many {
        api_version: super::super::REPORT_VERSION,
        kind: "EvidenceList",
        items,
    })
}

/// The tenant that is meant, if it has ended: a live one has no record, whoever had its name before.
fn ended<'a>(known: &'a [Tenant], asked: &str) -> Result<&'a Tenant, Failure> {
    let Some(last) = known.last() else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is and was no tenant {asked:?}"),
        )
        .why("the registry does not know it"));
    };
    let why = match last.state {
        State::Tombstone => return Ok(last),
        State::Live => "it lives, and evidence is made when its key and data are destroyed",
        State::Offboarding => "it is being offboarded, and its evidence is made at the end",
    };
    let what = format!("there is no evidence of tenant {asked:?}");
    let failure = Failure::new(Exit::Conflict, what).why(why);
    let earlier = known
        .iter()
        .filter(|tenant| tenant.state == State::Tombstone);
    Err(earlier.fold(failure, |failure, tenant| {
        failure.next(format!(
            "granary evidence show {}   # another tenant of that name, which has ended",
            tenant.uid
        ))
    }))
}

fn none(asked: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no evidence of tenant {asked:?}"),
    )
    .why("it has ended without ever having had a data key, so there was nothing to prove")
}

/// What the record says, once its signature was checked with the keys that the plane publishes.
async fn check(record: &Evidence, cluster: &Cluster, namespace: &str) -> Result<Report, Failure> {
    let keys = key::read(cluster, namespace).await?;
    let envelope = record.envelope.to_string();
    let verified = evidence::verify(envelope.as_bytes(), &keys).map_err(|error| {
        let what = format!(
            "the {} record of tenant {} proves nothing",
            record.stage, record.tenant
        );
        Failure::new(Exit::Refused, what)
            .why(error.to_string())
            .next("granary audit verify   # was the registry tampered with?")
    })?;
    Ok(Report::of(verified))
}

fn unreadable(error: &RegistryError) -> Failure {
    explain("cannot read the registry", error)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;

    fn tenant(uid: u128, state: State) -> Tenant {
        Tenant {
            uid: TenantUid(Uuid::from_u128(uid)),
            name: "acme".to_owned(),
            namespace: "silo-acme-0000000000".to_owned(),
            state,
            created_at: Timestamp::UNIX_EPOCH,
            ended_at: None,
        }
    }

    #[rstest]
    #[case(&[], Some(Exit::NotFound))]
    #[case(&[State::Live], Some(Exit::Conflict))]
    #[case(&[State::Offboarding], Some(Exit::Conflict))]
    #[case(&[State::Tombstone], None)]
    #[case(&[State::Tombstone, State::Live], Some(Exit::Conflict))]
    #[case(&[State::Tombstone, State::Tombstone], None)]
    fn only_a_tenant_that_has_ended_has_evidence(
        #[case] states: &[State],
        #[case] refused: Option<Exit>,
    ) {
        let known: Vec<Tenant> = (1..)
            .zip(states)
            .map(|(uid, state)| tenant(uid, *state))
            .collect();
        assert_eq!(
            ended(&known, "acme").err().map(|failure| failure.exit()),
            refused
        );
    }

    #[test]
    fn earlier_tenants_of_the_name_are_named() {
        let known = [tenant(1, State::Tombstone), tenant(2, State::Live)];
        let failure = ended(&known, "acme").unwrap_err();
        assert!(
            failure
                .lines()
                .iter()
                .any(|(_, line)| line.contains(&known[0].uid.to_string())),
            "{failure:?}"
        );
    }
}
