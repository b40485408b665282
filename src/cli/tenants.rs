//! Tenants as they are printed: one, or a list of them.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::age;
use super::look;
use super::printer::View;
use super::table::{Grid, Tone};
use crate::api::{ConditionType, Tenant};

/// One tenant.
#[derive(Debug)]
pub struct One {
    /// The tenant.
    pub tenant: Tenant,
    /// When it was looked at; ages count from here.
    pub now: Timestamp,
}

/// Several tenants, or none.
#[derive(Debug)]
pub struct Many {
    /// The tenants, in the order to print.
    pub tenants: Vec<Tenant>,
    /// When they were looked at; ages count from here.
    pub now: Timestamp,
}

impl Serialize for One {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.tenant.serialize(serializer)
    }
}

/// A `v1` `List`, which kubectl reads back.
impl Serialize for Many {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_struct("List", 3)?;
        list.serialize_field("apiVersion", "v1")?;
        list.serialize_field("kind", "List")?;
        list.serialize_field("items", &self.tenants)?;
        list.end()
    }
}

impl View for One {
    fn table(&self, wide: bool, colour: bool) -> String {
        table(std::slice::from_ref(&self.tenant), self.now, wide, colour)
    }

    fn names(&self) -> Vec<String> {
        vec![name(&self.tenant)]
    }
}

impl View for Many {
    fn table(&self, wide: bool, colour: bool) -> String {
        if self.tenants.is_empty() {
            return String::new();
        }
        table(&self.tenants, self.now, wide, colour)
    }

    fn names(&self) -> Vec<String> {
        self.tenants.iter().map(name).collect()
    }
}

/// `tenant.granary.dev/acme`
#[must_use]
pub fn name(tenant: &Tenant) -> String {
    format!("tenant.{}/{}", crate::api::GROUP, tenant.name_any())
}

fn table(tenants: &[Tenant], now: Timestamp, wide: bool, colour: bool) -> String {
    let mut headings = vec!["NAME", "PLAN", "ENV", "PHASE", "URL", "AGE"];
    if wide {
        headings.extend(["NAMESPACE", "RELEASE", "DB", "DB-SIZE", "KEY-AGE", "REASON"]);
    }
    let mut grid = Grid::new(colour, &headings);
    for tenant in tenants {
        grid.row(cells(tenant, now, wide));
    }
    grid.render()
}

fn cells(tenant: &Tenant, now: Timestamp, wide: bool) -> Vec<(String, Tone)> {
    let status = tenant.status.clone().unwrap_or_default();
    let (phase, tone) = look::phase(look::phase_of(tenant));
    let age = look::created(tenant).map_or_else(String::new, |created| age::age(created, now));
    let mut cells = vec![
        (tenant.name_any(), Tone::Plain),
        (tenant.spec.plan.clone(), Tone::Plain),
        (
            look::environment(tenant.spec.environment).to_owned(),
            Tone::Plain,
        ),
        (phase.to_owned(), tone),
        (status.url.clone().unwrap_or_default(), Tone::Plain),
        (age, Tone::Plain),
    ];
    if wide {
        let database = status.database.unwrap_or_default();
        let reason = look::condition(tenant, ConditionType::Ready)
            .map(|condition| condition.reason.clone())
            .unwrap_or_default();
        let size = database.size_bytes.map(look::bytes).unwrap_or_default();
        let key_age = status.key.map(|key| age::age(key.rotated_at.0, now));
        cells.extend(
            [
                status.namespace.unwrap_or_default(),
                status.release.unwrap_or_default(),
                database.version.unwrap_or_default(),
                size,
                key_age.unwrap_or_default(),
                reason,
            ]
            .map(|text| (text, Tone::Plain)),
        );
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{now, tenant};
    use super::super::printer::{json, yaml};
    use super::*;
    use crate::api::Phase;

    fn many() -> Many {
        Many {
            tenants: vec![
                tenant("acme").ready().build(),
                tenant("globex").phase(Phase::Provisioning).build(),
                tenant("initech").ready().deleting().build(),
            ],
            now: now(),
        }
    }

    #[test]
    fn the_table_abridges() {
        insta::assert_snapshot!(many().table(false, false));
    }

    #[test]
    fn the_wide_table_tells_more() {
        insta::assert_snapshot!(many().table(true, false));
    }

    #[test]
    fn no_tenant_prints_nothing() {
        let none = Many {
            tenants: Vec::new(),
            now: now(),
        };
        assert_eq!(none.table(false, false), "");
        assert!(none.names().is_empty());
    }

    #[test]
    fn names_carry_the_kind() {
        assert_eq!(many().names()[0], "tenant.granary.dev/acme");
    }

    #[test]
    fn lists_are_complete_and_versioned() {
        let list: serde_json::Value =
            serde_json::from_str(&json(&many()).expect("JSON")).expect("JSON");
        assert_eq!(list["apiVersion"], "v1");
        assert_eq!(list["kind"], "List");
        assert_eq!(list["items"][0]["apiVersion"], "granary.dev/v1alpha1");
        assert_eq!(list["items"][0]["kind"], "Tenant");
        assert_eq!(list["items"][0]["status"]["phase"], "Ready");
        assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn yaml_reads_back_as_the_same_tenant() {
        let one = One {
            tenant: tenant("acme").ready().build(),
            now: now(),
        };
        let back: Tenant = serde_saphyr::from_str(&yaml(&one).expect("YAML")).expect("a tenant");
        assert_eq!(back, one.tenant);
    }
}
