//! What a valid entry is: the form as typed, checked field by field.

use serde::Deserialize;
use time::{Date, Duration, Month};
use uuid::Uuid;

use crate::money::{Amount, AmountError};

/// The longest description, in characters; the database checks the same.
pub const MAX_DESCRIPTION: usize = 200;

/// The first day an entry may have.
pub const FIRST_DAY: Date = match Date::from_calendar_date(1970, Month::January, 1) {
    Ok(date) => date,
    Err(_) => Date::MIN,
};

/// How far ahead an entry may be dated.
const AHEAD: Duration = Duration::days(366);

/// The form as it was sent. Every field is text, so that it can be shown again as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntryForm {
    /// Proof that the page that sent this was ours.
    pub csrf: String,
    /// Made with the form: the same form sent twice is one entry.
    pub request: String,
    /// `income` or `expense`.
    pub kind: String,
    /// Digits, at most two decimals.
    pub amount: String,
    /// `YYYY-MM-DD`.
    pub date: String,
    /// One line.
    pub description: String,
}

/// An entry that may be written to the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// See [`EntryForm::request`].
    pub request: Uuid,
    /// The day it happened.
    pub on: Date,
    /// One line, trimmed.
    pub description: String,
    /// Positive for income, negative for expense.
    pub amount: Amount,
}

/// What is wrong, by field; the texts are for the person who typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors {
    /// About income or expense.
    pub kind: Option<String>,
    /// About the amount.
    pub amount: Option<String>,
    /// About the date.
    pub date: Option<String>,
    /// About the description.
    pub description: Option<String>,
}

impl FieldErrors {
    /// Whether any field has an error.
    #[must_use]
    pub fn any(&self) -> bool {
        self.kind.is_some()
            || self.amount.is_some()
            || self.date.is_some()
            || self.description.is_some()
    }
}

impl EntryForm {
    /// An empty form for `today`, with its own `request`.
    #[must_use]
    pub fn empty(today: Date) -> Self {
        Self {
            request: Uuid::new_v4().to_string(),
            kind: "expense".to_owned(),
            date: iso(today),
            ..Self::default()
        }
    }

    /// Checks every field; all errors are found at once.
    pub fn validate(&self, today: Date) -> Result<NewEntry, FieldErrors> {
        let mut errors = FieldErrors::default();
        let income = match self.kind.as_str() {
            "income" => true,
            "expense" => false,
            _ => {
                errors.kind = Some("Choose income or expense.".to_owned());
                false
            }
        };
        let amount = Amount::parse(&self.amount).unwrap_or_else(|error: AmountError| {
            errors.amount = Some(error.to_string());
            Amount::default()
        });
        let on = check_date(&self.date, today).unwrap_or_else(|error| {
            errors.date = Some(error);
            today
        });
        let description = check_description(&self.description).unwrap_or_else(|error| {
            errors.description = Some(error);
            String::new()
        });
        if errors.any() {
            return Err(errors);
        }
        Ok(NewEntry {
            // A request that is not one of ours only loses the protection against sending twice.
            request: self.request.parse().unwrap_or_else(|_| Uuid::new_v4()),
            on,
            description,
            amount: if income { amount } else { Amount(-amount.0) },
        })
    }
}

/// `YYYY-MM-DD`, as date fields send and expect it.
#[must_use]
pub fn iso(date: Date) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

fn check_date(typed: &str, today: Date) -> Result<Date, String> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Err("Enter a date.".to_owned());
    }
    let date = parse_iso(typed).ok_or("Enter a date as year-month-day, for example 2026-03-31.")?;
    let last = today.saturating_add(AHEAD);
    if date < FIRST_DAY || date > last {
        return Err(format!(
            "The date must be from {} to {}.",
            iso(FIRST_DAY),
            iso(last)
        ));
    }
    Ok(date)
}

fn parse_iso(typed: &str) -> Option<Date> {
    let bytes = typed.as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                *byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        });
    if !shaped {
        return None;
    }
    let month = Month::try_from(typed.get(5..7)?.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(
        typed.get(..4)?.parse().ok()?,
        month,
        typed.get(8..)?.parse().ok()?,
    )
    .ok()
}

fn check_description(typed: &str) -> Result<String, String> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Err("Say what it was for.".to_owned());
    }
    let length = typed.chars().count();
    if length > MAX_DESCRIPTION {
        return Err(format!(
            "Use at most {MAX_DESCRIPTION} characters; this has {length}."
        ));
    }
    if typed
        .chars()
        .any(|char| char.is_control() || reorders_text(char))
    {
        return Err("Use one line of plain text, without control characters.".to_owned());
    }
    Ok(typed.to_owned())
}

/// Characters that change the direction of what follows can make an entry read as another one.
fn reorders_text(char: char) -> bool {
    matches!(char, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    const TODAY: Date = date!(2026 - 11 - 21);

    fn form() -> EntryForm {
        EntryForm {
            kind: "expense".to_owned(),
            amount: "12.50".to_owned(),
            date: "2026-11-20".to_owned(),
            description: "  Feed for the hens ".to_owned(),
            ..EntryForm::empty(TODAY)
        }
    }

    #[test]
    fn a_good_form_becomes_an_entry() {
        let entry = form().validate(TODAY).unwrap();
        assert_eq!(entry.amount, Amount(-1_250));
        assert_eq!(entry.on, date!(2026 - 11 - 20));
        assert_eq!(entry.description, "Feed for the hens");
        let income = EntryForm {
            kind: "income".to_owned(),
            ..form()
        }
        .validate(TODAY)
        .unwrap();
        assert_eq!(income.amount, Amount(1_250));
    }

    #[test]
    fn all_errors_are_found_at_once() {
        let errors = EntryForm::default().validate(TODAY).unwrap_err();
        assert!(
            errors.kind.is_some()
                && errors.amount.is_some()
                && errors.date.is_some()
                && errors.description.is_some()
        );
    }

    #[test]
    fn dates_are_real_days_in_range() {
        for good in ["1970-01-01", "2024-02-29", "2026-11-21", "2027-11-22"] {
            assert!(
                EntryForm {
                    date: good.to_owned(),
                    ..form()
                }
                .validate(TODAY)
                .is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "1969-12-31",
            "2027-11-23",
            "9999-99-99",
            "26-11-21",
            "2026-1-1",
            "21.11.2026",
            "2026-11-21T00:00",
            "+026-11-21",
            "2026-11-\u{0662}",
        ] {
            let errors = EntryForm {
                date: bad.to_owned(),
                ..form()
            }
            .validate(TODAY)
            .unwrap_err();
            assert!(errors.date.is_some() && errors.amount.is_none(), "{bad}");
        }
    }

    #[test]
    fn descriptions_are_one_plain_line() {
        let check = |text: &str| {
            EntryForm {
                description: text.to_owned(),
                ..form()
            }
            .validate(TODAY)
        };
        for good in [
            "x",
            "Ünïcode ✓ 漢字",
            "<script>alert(1)</script>",
            "'; DROP TABLE entry; --",
            &"é".repeat(200),
        ] {
            assert_eq!(check(good).unwrap().description, good);
        }
        for bad in [
            "",
            "   ",
            "a\nb",
            "a\0b",
            "a\u{202E}b",
            "a\u{2066}b",
            "\u{7f}x",
            &"é".repeat(201),
        ] {
            assert!(check(bad).unwrap_err().description.is_some(), "{bad:?}");
        }
    }
}
