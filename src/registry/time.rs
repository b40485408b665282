//! Times: `jiff` here, `time` in the database library.

use jiff::Timestamp;
use sqlx::types::time::OffsetDateTime;

use super::RegistryError;

/// A column's value.
pub(super) fn read(
    column: &'static str,
    value: OffsetDateTime,
) -> Result<Timestamp, RegistryError> {
    Timestamp::from_nanosecond(value.unix_timestamp_nanos())
        .map_err(|_| RegistryError::unreadable(column, &value.to_string()))
}

/// A column's value that may be absent.
pub(super) fn read_optional(
    column: &'static str,
    value: Option<OffsetDateTime>,
) -> Result<Option<Timestamp>, RegistryError> {
    value.map(|value| read(column, value)).transpose()
}

/// A value for a column.
pub(super) fn write(value: Timestamp) -> Result<OffsetDateTime, RegistryError> {
    OffsetDateTime::from_unix_timestamp_nanos(value.as_nanosecond())
        .map_err(|_| RegistryError::unreadable("a time", &value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_went_in() {
        let times = [
            "2026-11-21T15:20:33.123456Z",
            "1969-12-31T23:59:59.5Z",
            "9999-12-30T00:00:00Z",
        ];
        for text in times {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(read("x", write(time).unwrap()).unwrap(), time, "{text}");
        }
        assert_eq!(read_optional("x", None).unwrap(), None);
    }
}
