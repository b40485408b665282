//! Keys as they are printed: a row for each version of each data key.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::super::REPORT_VERSION;
use super::super::age;
use super::super::look;
use super::super::printer::View;
use super::super::table::{Grid, Tone};
use super::super::tenants;
use crate::api::keys::{DataKeyPurpose, DataKeyState, DataKeyStatus};
use crate::api::tenant::KeyStatus;
use crate::api::{ConditionType, Tenant};

/// The keys of several tenants.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<OfTenant>,
    #[serde(skip)]
    now: Timestamp,
}

/// The keys of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfTenant {
    tenant: String,
    uid: String,
    /// None until it has one.
    key: Option<KeyStatus>,
    #[serde(skip)]
    name: String,
    /// What is being done about them, or why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Keys {
    /// The keys of these tenants, looked at now.
    pub fn of(tenants: &[Tenant], now: Timestamp) -> Self {
        let mut items: Vec<OfTenant> = tenants
            .iter()
            .map(|tenant| OfTenant {
                tenant: tenant.name_any(),
                uid: tenant.uid().unwrap_or_default(),
                key: tenant.status.as_ref().and_then(|status| status.key.clone()),
                name: tenants::name(tenant),
                note: note(tenant),
            })
            .collect();
        items.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        Self {
            api_version: REPORT_VERSION,
            kind: "KeyList",
            items,
            now,
        }
    }
}

/// What there is to say beside that the keys are in place.
fn note(tenant: &Tenant) -> Option<String> {
    look::condition(tenant, ConditionType::KeyReady)
        .filter(|condition| condition.reason != "KeysInPlace")
        .map(|condition| format!("{}: {}", condition.reason, condition.message))
}

impl View for Keys {
    fn table(&self, wide: bool, colour: bool) -> String {
        if self.items.is_empty() {
            return String::new();
        }
        let mut headings = vec![
            "TENANT", "KEY", "VERSION", "AGE", "PURPOSE", "DATA-KEY", "STATE", "SINCE",
        ];
        if wide {
            headings.push("NOTE");
        }
        let mut grid = Grid::new(colour, &headings);
        for of_tenant in &self.items {
            for row in rows(of_tenant, self.now, wide) {
                grid.row(row);
            }
        }
        grid.render()
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|item| item.name.clone()).collect()
    }
}

/// One row a data key; a tenant without keys has one all the same. Retired versions are in the wide table.
fn rows(of_tenant: &OfTenant, now: Timestamp, wide: bool) -> Vec<Vec<(String, Tone)>> {
    let own = of_tenant.key.as_ref();
    let key = [
        of_tenant.tenant.clone(),
        own.map(|key| key.id.clone()).unwrap_or_default(),
        own.map(|key| key.version.to_string()).unwrap_or_default(),
        own.map(|key| age::age(key.rotated_at.0, now))
            .unwrap_or_default(),
    ];
    let data_keys = own
        .into_iter()
        .flat_map(|key| &key.data_keys)
        .filter(|data_key| wide || data_key.state != DataKeyState::Retired);
    let mut rows: Vec<_> = data_keys
        .map(|data_key| {
            let note = data_key.kept.clone().or_else(|| of_tenant.note.clone());
            row(&key, data_key_cells(data_key, now), note, wide)
        })
        .collect();
    if rows.is_empty() {
        let nothing = std::array::from_fn(|_| (String::new(), Tone::Plain));
        rows.push(row(&key, nothing, of_tenant.note.clone(), wide));
    }
    rows
}

fn row(
    key: &[String; 4],
    data_key: [(String, Tone); 4],
    note: Option<String>,
    wide: bool,
) -> Vec<(String, Tone)> {
    let mut cells: Vec<_> = key
        .iter()
        .map(|text| (text.clone(), Tone::Plain))
        .chain(data_key)
        .collect();
    if wide {
        cells.push((note.unwrap_or_default(), Tone::Plain));
    }
    cells
}

fn data_key_cells(data_key: &DataKeyStatus, now: Timestamp) -> [(String, Tone); 4] {
    let purpose = match data_key.purpose {
        DataKeyPurpose::App => "app",
        DataKeyPurpose::Backup => "backup",
    };
    let (state, tone) = match data_key.state {
        DataKeyState::Active => ("Active", Tone::Good),
        DataKeyState::Retiring => ("Retiring", Tone::Warn),
        DataKeyState::Retired => ("Retired", Tone::Dim),
    };
    [
        (purpose.to_owned(), Tone::Plain),
        (data_key.version.to_string(), Tone::Plain),
        (state.to_owned(), tone),
        (age::age(data_key.since.0, now), Tone::Plain),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{condition, data_key, now, tenant};
    use super::super::super::printer::json;
    use super::*;
    use crate::api::ConditionStatus;

    fn keys() -> Keys {
        let mut rotating = tenant("globex").ready().build();
        let status = rotating.status.as_mut().expect("a status");
        status.conditions = vec![condition(
            ConditionType::KeyReady,
            ConditionStatus::True,
            "Rotating",
            "340 rows are left to seal anew",
        )];
        status.key.as_mut().expect("a key").data_keys = vec![
            data_key(DataKeyPurpose::App, 3, DataKeyState::Active, 20),
            data_key(DataKeyPurpose::App, 2, DataKeyState::Retiring, 3_600),
        ];
        let mut calm = tenant("acme").ready().build();
        calm.status.as_mut().expect("a status").conditions.clear();
        Keys::of(&[rotating, tenant("initech").build(), calm], now())
    }

    #[test]
    fn the_table_has_a_row_for_each_data_key() {
        insta::assert_snapshot!(keys().table(false, false));
    }

    #[test]
    fn the_wide_table_has_retired_ones_and_says_why() {
        insta::assert_snapshot!(keys().table(true, false));
    }

    #[test]
    fn programs_get_what_the_status_has() {
        let list: serde_json::Value =
            serde_json::from_str(&json(&keys()).expect("JSON")).expect("JSON");
        assert_eq!(list["kind"], "KeyList");
        assert_eq!(list["items"][0]["tenant"], "acme");
        assert_eq!(list["items"][0]["key"]["dataKeys"][0]["version"], 2);
        assert_eq!(list["items"][2]["key"], serde_json::Value::Null);
        assert_eq!(keys().names()[0], "tenant.granary.dev/acme");
    }
}
