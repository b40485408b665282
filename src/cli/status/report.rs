//! Everything about one tenant, as `granary status` prints it.

use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::super::advice;
use super::super::age;
use super::super::events::Happening;
use super::super::look;
use super::super::printer::View;
use super::super::table::{Grid, Tone, plain, toned};
use super::super::tenants;
use super::certificates::Certificates;
use super::objects::{Object, Ready};
use crate::api::Tenant;

/// How many events the table shows.
const EVENTS: usize = 10;

/// Whether an event tells nothing that the objects do not show already: pods come and go.
fn is_routine(event: &Happening) -> bool {
    event.type_ == "Normal" && !event.object.starts_with("Tenant/")
}

/// Everything about one tenant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this report's form.
    pub api_version: &'static str,
    /// Always `TenantReport`.
    pub kind: &'static str,
    /// When it was made; ages count from here.
    pub at: Timestamp,
    /// The resource, complete.
    pub tenant: Tenant,
    /// What is in its silo.
    pub objects: Vec<Object>,
    /// Its certificates, once there is a silo.
    pub certificates: Option<Certificates>,
    /// What happened last, oldest first.
    pub events: Vec<Happening>,
    /// Why the events could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_unknown: Option<String>,
    /// What to do next, most useful first.
    pub next: Vec<String>,
}

impl Report {
    /// The report without what has to be asked for in the silo.
    #[must_use]
    pub fn of(tenant: Tenant, at: Timestamp) -> Self {
        Self {
            api_version: super::super::REPORT_VERSION,
            kind: "TenantReport",
            at,
            next: advice::next(&tenant, at),
            tenant,
            objects: Vec::new(),
            certificates: None,
            events: Vec::new(),
            events_unknown: None,
        }
    }

    fn head(&self, colour: bool) -> String {
        let tenant = &self.tenant;
        let status = tenant.status.clone().unwrap_or_default();
        let (phase, tone) = look::phase(look::phase_of(tenant));
        let mut phase = toned(phase, tone, colour);
        if !look::is_current(tenant) {
            phase.push_str(" (the operator has not seen the newest spec yet)");
        }
        let database = status.database.unwrap_or_default();
        let database = match (database.version, database.size_bytes) {
            (Some(version), Some(size)) => {
                Some(format!("PostgreSQL {version}, {}", look::bytes(size)))
            }
            (Some(version), None) => Some(format!("PostgreSQL {version}")),
            _ => None,
        };
        let key = status.key.map(|key| {
            let since = age::age(key.rotated_at.0, self.at);
            format!("{}, version {}, for {since}", key.id, key.version)
        });
        let rows = [
            ("Customer", tenant.spec.display_name.clone()),
            ("Phase", Some(phase)),
            ("URL", status.url),
            (
                "Plan",
                Some(format!(
                    "{}, {}, to be {}",
                    tenant.spec.plan,
                    look::environment(tenant.spec.environment),
                    look::state(tenant.spec.state)
                )),
            ),
            (
                "Owner",
                tenant.spec.owner.as_ref().map(|owner| owner.email.clone()),
            ),
            ("Release", status.release),
            ("Database", database),
            ("Key", key),
            ("Namespace", status.namespace),
            ("UID", tenant.uid()),
            (
                "Age",
                look::created(tenant).map(|created| age::age(created, self.at)),
            ),
        ];
        let name = toned(&tenant.name_any(), Tone::Strong, colour);
        let mut text = format!("{:<11} {name}\n", "Tenant");
        for (heading, value) in rows {
            if let Some(value) = value {
                // The phase may carry colour; the rest is from the resource.
                let value = if heading == "Phase" {
                    value
                } else {
                    plain(&value)
                };
                let _ = writeln!(text, "{heading:<11} {value}");
            }
        }
        text
    }

    fn conditions(&self, colour: bool) -> Option<String> {
        let conditions = look::conditions(&self.tenant);
        if conditions.is_empty() {
            return None;
        }
        let mut grid =
            Grid::new(colour, &["TYPE", "STATUS", "REASON", "AGE", "MESSAGE"]).indented();
        for condition in conditions {
            let (status, tone) = look::condition_status(condition.status);
            grid.row([
                (
                    look::condition_name(condition.type_).to_owned(),
                    Tone::Plain,
                ),
                (status.to_owned(), tone),
                (condition.reason.clone(), Tone::Plain),
                (
                    age::age(condition.last_transition_time.0, self.at),
                    Tone::Plain,
                ),
                (condition.message.clone(), Tone::Plain),
            ]);
        }
        Some(grid.render())
    }

    fn objects(&self, wide: bool, colour: bool) -> Option<String> {
        if self.objects.is_empty() {
            return None;
        }
        let mut grid = Grid::new(colour, &["KIND", "NAME", "READY", "AGE", "STATE"]).indented();
        for object in &self.objects {
            // What is simply there is only worth a line when everything is asked for.
            let quiet = matches!(
                object.kind,
                "NetworkPolicy" | "Service" | "PodDisruptionBudget"
            );
            if quiet && object.ready == Ready::True && !wide {
                continue;
            }
            let (ready, tone) = match object.ready {
                Ready::True => ("True", Tone::Good),
                Ready::False => ("False", Tone::Bad),
                Ready::Unknown => ("Unknown", Tone::Warn),
            };
            let age = object
                .created
                .map_or_else(String::new, |created| age::age(created, self.at));
            grid.row([
                (object.kind.to_owned(), Tone::Plain),
                (object.name.clone(), Tone::Plain),
                (ready.to_owned(), tone),
                (age, Tone::Plain),
                (object.state.clone(), Tone::Plain),
            ]);
        }
        Some(grid.render())
    }

    fn certificates(&self) -> Option<String> {
        let certificates = self.certificates.as_ref()?;
        let mut lines = Vec::new();
        if let Some(renew_at) = certificates.renew_at {
            lines.push(format!(
                "  next renewal {}",
                age::relative(renew_at, self.at)
            ));
        }
        for authority in &certificates.authorities {
            let expires = authority.not_after.map_or_else(
                || "at an unknown time".to_owned(),
                |at| age::relative(at, self.at),
            );
            lines.push(format!(
                "  authority {} expires {expires}",
                plain(&authority.subject)
            ));
        }
        if let Some(unknown) = &certificates.unknown {
            lines.push(format!("  authorities unknown: {}", plain(unknown)));
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn events(&self, wide: bool, colour: bool) -> Option<String> {
        if let Some(unknown) = &self.events_unknown {
            return Some(format!("  unknown: {}", plain(unknown)));
        }
        let told: Vec<&Happening> = self
            .events
            .iter()
            .filter(|event| wide || !is_routine(event))
            .collect();
        if told.is_empty() {
            return None;
        }
        let mut grid = Grid::new(
            colour,
            &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
        )
        .indented();
        for event in &told[told.len().saturating_sub(EVENTS)..] {
            let tone = if event.type_ == "Warning" {
                Tone::Warn
            } else {
                Tone::Plain
            };
            let seen = event
                .last_seen
                .map_or_else(String::new, |seen| age::age(seen, self.at));
            let message = if event.count > 1 {
                format!("{} (×{})", event.message, event.count)
            } else {
                event.message.clone()
            };
            grid.row([
                (seen, Tone::Plain),
                (event.type_.clone(), tone),
                (event.reason.clone(), Tone::Plain),
                (event.object.clone(), Tone::Plain),
                (message, Tone::Plain),
            ]);
        }
        Some(grid.render())
    }

    fn next(&self) -> Option<String> {
        let lines: Vec<String> = self
            .next
            .iter()
            .map(|line| format!("  {}", plain(line)))
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

impl View for Report {
    fn table(&self, wide: bool, colour: bool) -> String {
        let mut text = self.head(colour);
        let sections = [
            ("Conditions", self.conditions(colour)),
            ("Objects", self.objects(wide, colour)),
            ("Certificates", self.certificates()),
            ("Events", self.events(wide, colour)),
            ("Next", self.next()),
        ];
        for (heading, section) in sections {
            if let Some(section) = section {
                let _ = write!(
                    text,
                    "\n{}\n{section}\n",
                    toned(heading, Tone::Strong, colour)
                );
            }
        }
        text
    }

    fn names(&self) -> Vec<String> {
        vec![tenants::name(&self.tenant)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{ago, condition, now, tenant};
    use super::super::super::printer::json;
    use super::super::certificates::Authority;
    use super::*;
    use crate::api::{ConditionStatus, ConditionType, Phase};

    fn object(kind: &'static str, name: &str, ready: Ready, state: &str) -> Object {
        Object {
            kind,
            name: name.to_owned(),
            ready,
            state: state.to_owned(),
            created: Some(ago(3_700)),
        }
    }

    fn full() -> Report {
        let mut report = Report::of(tenant("acme").ready().build(), now());
        report.objects = vec![
            object("NetworkPolicy", "default-deny", Ready::True, "in place"),
            object("StatefulSet", "database", Ready::True, "1/1 ready"),
            object(
                "Pod",
                "app-5d8f",
                Ready::False,
                "CrashLoopBackOff, 4 restarts",
            ),
            object(
                "HTTPRoute",
                "app",
                Ready::Unknown,
                "no gateway has looked at it yet",
            ),
        ];
        report.certificates = Some(Certificates {
            renew_at: Some("2026-11-25T16:00:00Z".parse().expect("a timestamp")),
            authorities: vec![Authority {
                subject: "CN=silo acme".to_owned(),
                not_before: Some(ago(273_600)),
                not_after: Some("2027-11-18T08:00:00Z".parse().expect("a timestamp")),
            }],
            unknown: None,
        });
        report.events = vec![Happening {
            last_seen: Some(ago(95)),
            type_: "Warning".to_owned(),
            reason: "BackOff".to_owned(),
            object: "Pod/app-5d8f".to_owned(),
            message: "Back-off restarting failed container\u{1b}[2J".to_owned(),
            count: 7,
        }];
        report
    }

    #[test]
    fn the_report_reads_from_top_to_bottom() {
        insta::assert_snapshot!(full().table(false, false));
    }

    #[test]
    fn wide_shows_what_is_simply_there_too() {
        let text = full().table(true, false);
        assert!(text.contains("default-deny"), "{text}");
        assert!(!full().table(false, false).contains("default-deny"));
    }

    #[test]
    fn routine_events_are_only_shown_when_everything_is() {
        let mut report = full();
        report.events[0].type_ = "Normal".to_owned();
        assert!(!report.table(false, false).contains("Back-off"));
        assert!(report.table(true, false).contains("Back-off"));
    }

    #[test]
    fn a_degraded_tenant_says_why_and_where_to_look() {
        let tenant = tenant("acme")
            .phase(Phase::Degraded)
            .with(condition(
                ConditionType::NamespaceReady,
                ConditionStatus::True,
                "Applied",
                "",
            ))
            .with(condition(
                ConditionType::DatabaseReady,
                ConditionStatus::False,
                "VolumeFull",
                "the volume of 1Gi has 0 B left; raise database.storage of plan standard",
            ))
            .build();
        let mut report = Report::of(tenant, now());
        report.events_unknown = Some("events is forbidden".to_owned());
        insta::assert_snapshot!(report.table(false, false));
    }

    #[test]
    fn the_report_is_complete_and_versioned() {
        let report: serde_json::Value =
            serde_json::from_str(&json(&full()).expect("JSON")).expect("JSON");
        assert_eq!(report["apiVersion"], "cli.granary.dev/v1alpha1");
        assert_eq!(report["kind"], "TenantReport");
        assert_eq!(report["tenant"]["kind"], "Tenant");
        assert_eq!(report["objects"].as_array().map(Vec::len), Some(4));
        assert_eq!(report["events"][0]["count"], 7);
    }
}
