//! Durations as resources and the command line have them: one whole number and one unit (`90s`, `15m`, `36h`, `7d`).

use std::time::Duration;

/// The form, as a regular expression that a whole text has to match.
pub(super) const FORM: &str = "^[0-9]{1,6}[smhd]$";

/// Units and the seconds that each has.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

/// Reads a duration; none where the text has another form.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.into_iter().find(|(letter, _)| *letter == unit)?;
    let digits = text.strip_suffix(unit)?;
    let is_number =
        (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok())??;
    Some(Duration::from_secs(number * seconds))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0s", Some(0))]
    #[case("90s", Some(90))]
    #[case("15m", Some(900))]
    #[case("36h", Some(129_600))]
    #[case("7d", Some(604_800))]
    #[case("999999d", Some(86_399_913_600))]
    #[case("1000000d", None)]
    #[case("", None)]
    #[case("d", None)]
    #[case("7", None)]
    #[case("-7d", None)]
    #[case("+7d", None)]
    #[case("1h30m", None)]
    #[case("7 d", None)]
    #[case("7D", None)]
    #[case("7d\n", None)]
    #[case("٧d", None)]
    fn one_number_and_one_unit(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(parse(text).map(|duration| duration.as_secs()), seconds);
    }
}
