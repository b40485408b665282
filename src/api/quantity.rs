//! Kubernetes quantities, printed the way the API server stores them.
//!
//! The operator compares what it applied with what is live, so `1000m` and `1` must not look different.
//! Source: `k8s.io/apimachinery/pkg/api/resource`, canonical form: no fraction, the largest fitting suffix.

use std::fmt;

/// Millicores of CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub u64);

/// Bytes of memory or storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Binary and decimal suffixes with their factors, largest first.
const BINARY: [(&str, u64); 5] = [
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, u64); 5] = [
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl Cpu {
    /// Reads whole cores (`2`) or millicores (`500m`); `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('m') {
            Some(millis) => digits(millis).map(Self),
            None => digits(text)?.checked_mul(1000).map(Self),
        }
    }
}

impl Bytes {
    /// Reads a whole number of bytes with an optional suffix (`256Mi`, `1G`); `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let suffixed = BINARY
            .iter()
            .chain(&DECIMAL)
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
        let (number, factor) = suffixed.unwrap_or((text, 1));
        digits(number)?.checked_mul(factor).map(Self)
    }

    /// The number of whole mebibytes.
    #[must_use]
    pub const fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

/// Digits only: no sign, no fraction, no exponent.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write_decimal(f, self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match largest(&BINARY, self.0) {
            Some((suffix, number)) => write!(f, "{number}{suffix}"),
            None => write_decimal(f, self.0),
        }
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
    match largest(&DECIMAL, value) {
        Some((suffix, number)) => write!(f, "{number}{suffix}"),
        None => write!(f, "{value}"),
    }
}

/// The largest suffix that divides the value, and the number before it.
fn largest(suffixes: &[(&'static str, u64)], value: u64) -> Option<(&'static str, u64)> {
    suffixes
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .map(|(suffix, factor)| (*suffix, value / factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("500m", "500m")]
    #[case("1000m", "1")]
    #[case("1500m", "1500m")]
    #[case("2", "2")]
    #[case("0", "0")]
    fn cpu_is_canonical(#[case] text: &str, #[case] stored: &str) {
        assert_eq!(Cpu::parse(text).unwrap().to_string(), stored);
    }

    #[rstest]
    #[case("1024Mi", "1Gi")]
    #[case("1536Mi", "1536Mi")]
    #[case("1048576", "1Mi")]
    #[case("1G", "1G")]
    #[case("1500M", "1500M")]
    #[case("1000Ki", "1000Ki")]
    fn bytes_are_canonical(#[case] text: &str, #[case] stored: &str) {
        assert_eq!(Bytes::parse(text).unwrap().to_string(), stored);
    }

    #[rstest]
    #[case("")]
    #[case("m")]
    #[case("Mi")]
    #[case("-1Mi")]
    #[case("+1")]
    #[case("1.5Gi")]
    #[case("1e3")]
    #[case("1 Mi")]
    #[case("1mi")]
    #[case("99999999999999999999")]
    #[case("99999999999999999Pi")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert_eq!(Bytes::parse(text), None);
        assert_eq!(Cpu::parse(text), None);
    }

    proptest! {
        #[test]
        fn printing_loses_nothing(value in 0..u64::MAX / 1000) {
            prop_assert_eq!(Cpu::parse(&Cpu(value).to_string()), Some(Cpu(value)));
            prop_assert_eq!(Bytes::parse(&Bytes(value).to_string()), Some(Bytes(value)));
            let round = Bytes(value >> 20 << 20);
            prop_assert_eq!(Bytes::parse(&round.to_string()), Some(round));
        }
    }
}
