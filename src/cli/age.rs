//! Ages and durations as people read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::duration;

/// How long ago, in at most two units, as kubectl writes ages: `45s`, `3m20s`, `5h`, `3d4h`.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> String {
    human(now.duration_since(since))
}

/// How far ahead (`in 6d4h`) or behind (`3m20s ago`).
#[must_use]
pub fn relative(when: Timestamp, now: Timestamp) -> String {
    if when >= now {
        format!("in {}", human(when.duration_since(now)))
    } else {
        format!("{} ago", human(now.duration_since(when)))
    }
}

/// A duration in at most two units; negative ones (clocks apart) count as none.
#[must_use]
pub fn human(duration: SignedDuration) -> String {
    let seconds = u64::try_from(duration.as_secs()).unwrap_or(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if days < 2 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () => format!("{}y", days / 365),
    }
}

/// Time since a command started: `0.4s`, `12.3s`, `2m05s`.
#[must_use]
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 100 {
        format!("{seconds}.{}s", duration.subsec_millis() / 100)
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

/// Reads a duration from the command line: `90s`, `5m`, `1h30m`, `90d`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let hint = "write a duration with its unit, such as 90s, 5m, 1h30m or 90d";
    let several = || Duration::try_from(text.parse::<SignedDuration>().ok()?).ok();
    match duration::parse(text).or_else(several) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) => Err(format!("it must be longer than nothing: {hint}")),
        None => Err(hint.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-5, "0s")]
    #[case(45, "45s")]
    #[case(119, "119s")]
    #[case(200, "3m20s")]
    #[case(120, "2m")]
    #[case(3_000, "50m")]
    #[case(11_000, "3h3m")]
    #[case(90_000, "25h")]
    #[case(273_600, "3d4h")]
    #[case(259_200, "3d")]
    #[case(864_000, "10d")]
    #[case(94_608_000, "3y")]
    fn ages_are_short(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(human(SignedDuration::from_secs(seconds)), text);
    }

    #[rstest]
    #[case("90s", Some(90))]
    #[case("5m", Some(300))]
    #[case("1h30m", Some(5_400))]
    #[case("90d", Some(7_776_000))]
    #[case("10", None)]
    #[case("0s", None)]
    #[case("-5m", None)]
    #[case("soon", None)]
    fn durations_need_a_unit(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(parse(text).ok(), seconds.map(Duration::from_secs), "{text}");
    }

    #[test]
    fn elapsed_time_is_exact_while_it_is_short() {
        assert_eq!(elapsed(Duration::from_millis(1_240)), "1.2s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2m05s");
    }
}
