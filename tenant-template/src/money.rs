//! Exact amounts: whole minor units (hundredths), never a float.

use std::fmt;

/// The largest amount one entry may have, in minor units: 9,999,999,999.99.
pub const MAX_MINOR: i64 = 999_999_999_999;

/// A signed amount in minor units. Displays as `−1,234.50`, with a real minus sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(pub i64);

/// Why a typed amount was not accepted; the text is for the person who typed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Nothing was typed.
    #[error("Enter an amount, for example 12.50.")]
    Empty,
    /// A comma where the decimals begin.
    #[error("Write decimals with a point: 12.50.")]
    DecimalComma,
    /// More than two decimals.
    #[error("Use at most two decimals.")]
    TooPrecise,
    /// A sign was typed.
    #[error("Leave out the sign: choose income or expense instead.")]
    Signed,
    /// Zero.
    #[error("The amount must be more than zero.")]
    Zero,
    /// More than [`MAX_MINOR`].
    #[error("The largest amount is 9,999,999,999.99.")]
    TooLarge,
    /// Anything else.
    #[error("Enter a number, for example 1,250.00.")]
    NotANumber,
}

impl Amount {
    /// Reads what a person typed: digits, thousands separated by commas or not at all, at most two decimals
    /// after a point. The result is positive.
    pub fn parse(typed: &str) -> Result<Self, AmountError> {
        let typed = typed.trim();
        if typed.is_empty() {
            return Err(AmountError::Empty);
        }
        if typed.starts_with(['-', '+', '\u{2212}']) {
            return Err(AmountError::Signed);
        }
        let (whole, decimals) = typed.split_once('.').unwrap_or((typed, ""));
        if decimals.len() > 2 && decimals.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::TooPrecise);
        }
        if typed.ends_with('.') || decimals.len() > 2 {
            return Err(AmountError::NotANumber);
        }
        let whole = join_thousands(whole)?;
        let digits = format!("{whole}{decimals:0<2}");
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotANumber);
        }
        // Only digits are left, so that a failure can only be a number that is too long.
        match digits.parse() {
            Ok(0) => Err(AmountError::Zero),
            Ok(minor) if minor <= MAX_MINOR => Ok(Self(minor)),
            Ok(_) | Err(_) => Err(AmountError::TooLarge),
        }
    }

    /// The style of the amount: `in`, `out`, or none for zero.
    #[must_use]
    pub fn direction(self) -> &'static str {
        match self.0.signum() {
            1 => "in",
            -1 => "out",
            _ => "none",
        }
    }

    /// The amount with its sign, also when it is positive: `+12.50`.
    #[must_use]
    pub fn signed(self) -> String {
        if self.0 > 0 {
            format!("+{self}")
        } else {
            self.to_string()
        }
    }
}

/// `1,234` → `1234`; groups must be of three digits.
fn join_thousands(whole: &str) -> Result<String, AmountError> {
    let groups: Vec<&str> = whole.split(',').collect();
    let [first, rest @ ..] = groups.as_slice() else {
        return Err(AmountError::NotANumber);
    };
    if first.is_empty() {
        return Err(AmountError::NotANumber);
    }
    match rest {
        [] => Ok((*first).to_owned()),
        [only] if only.len() < 3 => Err(AmountError::DecimalComma),
        _ if first.len() <= 3 && rest.iter().all(|group| group.len() == 3) => Ok(groups.concat()),
        _ => Err(AmountError::NotANumber),
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("\u{2212}")?;
        }
        let minor = self.0.unsigned_abs();
        let whole = (minor / 100).to_string();
        for (position, digit) in whole.char_indices() {
            if position > 0 && (whole.len() - position).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        write!(f, ".{:02}", minor % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (typed, minor) in [
            ("1", 100),
            ("0.01", 1),
            ("12.5", 1_250),
            (" 12.50 ", 1_250),
            ("1234.56", 123_456),
            ("1,234.56", 123_456),
            ("1,234,567", 123_456_700),
            ("007", 700),
            ("9,999,999,999.99", MAX_MINOR),
        ] {
            assert_eq!(Amount::parse(typed), Ok(Amount(minor)), "{typed:?}");
        }
    }

    #[test]
    fn bad_amounts_say_what_is_wrong() {
        use AmountError::{DecimalComma, Empty, NotANumber, Signed, TooLarge, TooPrecise, Zero};
        for (typed, error) in [
            ("", Empty),
            ("  ", Empty),
            ("12,50", DecimalComma),
            ("12,5", DecimalComma),
            ("1.234", TooPrecise),
            ("-5", Signed),
            ("\u{2212}5", Signed),
            ("+5", Signed),
            ("0", Zero),
            ("0.00", Zero),
            ("10000000000", TooLarge),
            ("99999999999999999999999", TooLarge),
            ("1e5", NotANumber),
            ("1.", NotANumber),
            (".5", NotANumber),
            ("12,34,567", NotANumber),
            ("1234,567", NotANumber),
            (",123", NotANumber),
            ("1.2.3", NotANumber),
            ("NaN", NotANumber),
            ("\u{0661}", NotANumber),
            ("1.\u{0661}", NotANumber),
            ("5 EUR", NotANumber),
        ] {
            assert_eq!(Amount::parse(typed), Err(error), "{typed:?}");
        }
    }

    #[test]
    fn amounts_are_shown_with_thousands_and_two_decimals() {
        for (minor, shown) in [
            (0, "0.00"),
            (5, "0.05"),
            (-5, "\u{2212}0.05"),
            (100_000, "1,000.00"),
            (-123_456_789, "\u{2212}1,234,567.89"),
            (i64::MIN, "\u{2212}92,233,720,368,547,758.08"),
        ] {
            assert_eq!(Amount(minor).to_string(), shown);
        }
        assert_eq!(Amount(1_250).signed(), "+12.50");
        assert_eq!(Amount(-1_250).signed(), "\u{2212}12.50");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for minor in [1, 99, 100, 123_456, 100_000_000, MAX_MINOR] {
            assert_eq!(Amount::parse(&Amount(minor).to_string()), Ok(Amount(minor)));
        }
    }
}
