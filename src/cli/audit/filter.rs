//! Which rows are wanted.

use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::audit::{Action, Filter};

/// Options that choose rows. A row has to fit all of them.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only about this tenant: its name, which earlier tenants may have had too, or its UID
    #[arg(long, value_name = "NAME|UID")]
    tenant: Option<String>,
    /// Only by this user or `ServiceAccount`
    #[arg(long, value_name = "USER")]
    actor: Option<String>,
    /// Only this action
    #[arg(long, value_name = "ACTION", value_parser = actions())]
    action: Option<String>,
    /// Only since then: 90m, 7d, 2026-11-21 or 2026-11-21T15:00:00Z
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
}

fn actions() -> clap::builder::PossibleValuesParser {
    Action::ALL
        .iter()
        .map(|action| action.as_str())
        .collect::<Vec<_>>()
        .into()
}

impl FilterArgs {
    /// What to ask the registry for.
    pub fn filter(&self, now: Timestamp) -> Filter {
        let uid = self.tenant.as_ref().and_then(|tenant| tenant.parse().ok());
        Filter {
            tenant_uid: uid,
            tenant: self.tenant.clone().filter(|_| uid.is_none()),
            actor: self.actor.clone(),
            action: self.action.clone(),
            since: self.since.map(|when| when.at(now)),
            until: self.until.map(|when| when.at(now)),
        }
    }
}

/// A point in time as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At(Timestamp),
    Ago(SignedDuration),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::At(time));
        }
        if let Ok(day) = text.parse::<Date>()
            && let Ok(time) = day.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::At(time.timestamp()));
        }
        text.parse::<Span>()
            .ok()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
            .map(|ago| Self::Ago(ago.abs()))
            .ok_or_else(|| {
                "write how long ago (90m, 7d), a day in UTC (2026-11-21) or a time (2026-11-21T15:00:00Z)".to_owned()
            })
    }

    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("90m", "2026-11-21T13:30:00Z")]
    #[case("7d", "2026-11-14T15:00:00Z")]
    #[case("1d12h", "2026-11-20T03:00:00Z")]
    #[case("2026-11-20", "2026-11-20T00:00:00Z")]
    #[case("2026-11-20T10:00:00+01:00", "2026-11-20T09:00:00Z")]
    fn times_are_read_as_people_write_them(#[case] text: &str, #[case] wanted: &str) {
        let now = "2026-11-21T15:00:00Z".parse().unwrap();
        let wanted: Timestamp = wanted.parse().unwrap();
        assert_eq!(When::parse(text).unwrap().at(now), wanted);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "7", "yesterday", "2026-13-01", "1 month"] {
            assert!(When::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_tenant_is_a_name_or_a_uid() {
        let filter = |tenant: &str| {
            FilterArgs {
                tenant: Some(tenant.to_owned()),
                ..FilterArgs::default()
            }
            .filter(Timestamp::UNIX_EPOCH)
        };
        let uid = "4f1c09ab-7d00-4000-8000-0000000000aa";
        assert_eq!(filter(uid).tenant_uid, uid.parse().ok());
        assert_eq!(filter(uid).tenant, None);
        assert_eq!(filter("acme").tenant.as_deref(), Some("acme"));
        assert_eq!(filter("acme").tenant_uid, None);
    }
}
