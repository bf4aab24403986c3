//! Durations and sizes as people write them: `100ms`, `1s`, `00:00:00.100`; `64MB`, `48MiB`, `1048576`.
//!
//! Only text forms. What range a setting may have is `checks`' matter.

use std::time::Duration;

use bytesize::ByteSize;

/// What a duration must look like, for messages.
pub const DURATION: &str = "a duration with its unit, such as `100ms`, `1s` or `00:00:00.100`";
/// What a size must look like, for messages.
pub const SIZE: &str = "a size, such as `64MB`, `48MiB` or a number of bytes";

/// Reads `100ms`, `1s`, `2m 30s`, and .NET's `[d.]hh:mm:ss[.fraction]`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.contains(':') { parse_time_span(text) } else { humantime::parse_duration(text).ok() }
}

fn parse_time_span(text: &str) -> Option<Duration> {
    let (clock, fraction) = match text.rsplit_once('.') {
        Some((clock, fraction)) if !fraction.contains(':') => (clock, fraction),
        _ => (text, "0"),
    };
    let (days, clock) = clock.split_once('.').unwrap_or(("0", clock));
    let [hours, minutes, seconds] = clock.split(':').collect::<Vec<_>>().try_into().ok()?;
    let (days, hours) = (number(days)?, number(hours).filter(|hours| *hours < 24)?);
    let (minutes, seconds) = (below_sixty(minutes)?, below_sixty(seconds)?);
    let seconds =
        ((days.checked_mul(24)?.checked_add(hours)?).checked_mul(60)?.checked_add(minutes)?).checked_mul(60)?.checked_add(seconds)?;
    Some(Duration::new(seconds, nanoseconds(fraction)?))
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn below_sixty(digits: &str) -> Option<u64> {
    number(digits).filter(|value| *value < 60)
}

/// The digits after the point: `1` is a tenth of a second.
fn nanoseconds(fraction: &str) -> Option<u32> {
    (fraction.len() <= 9).then(|| number(&format!("{fraction:0<9}")))?.and_then(|value| u32::try_from(value).ok())
}

/// Writes a duration so that [`parse_duration`] reads the same again.
pub fn format_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// Reads `64MB` (10⁶), `48MiB` (2²⁰) or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// Writes a size in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(1 << 30, "GiB"), (1_000_000_000, "GB"), (1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1_000, "KB")];
    let unit = UNITS.into_iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// serde of a duration: `#[serde(with = "human::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    /// Writes `100ms`.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*value))
    }

    /// Reads what [`super::parse_duration`] reads.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(super::DURATION)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                super::parse_duration(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// serde of an optional duration: `#[serde(with = "human::optional_duration")]`.
pub mod optional_duration {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    /// Writes `100ms` or nothing.
    #[allow(clippy::ref_option, reason = "serde asks for this signature")]
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(super::format_duration).serialize(serializer)
    }

    /// Reads what [`super::parse_duration`] reads.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Text(#[serde(with = "super::duration")] Duration);
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

/// serde of a size in bytes: `#[serde(with = "human::size")]`.
pub mod size {
    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    /// Writes `64MB`.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_size(*value))
    }

    /// Reads what [`super::parse_size`] reads, or an integer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = u64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(super::SIZE)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
                super::parse_size(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
                Ok(bytes)
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
                u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(text: &str) -> Option<u128> {
        parse_duration(text).map(|value| value.as_millis())
    }

    #[test]
    fn reads_every_spelling_of_a_duration() {
        let spellings = ["100ms", " 100ms ", "00:00:00.100", "00:00:00.1", "0.00:00:00.1000000"];
        assert!(spellings.iter().all(|text| milliseconds(text) == Some(100)), "{:?}", spellings.map(milliseconds));
        assert_eq!(milliseconds("1.02:03:04"), Some((((24 + 2) * 60 + 3) * 60 + 4) * 1000));
        assert_eq!(milliseconds("2s 500ms"), Some(2500));
        assert_eq!(milliseconds("0s"), Some(0));
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "100", "fast", "-1s", "1:2", "00:60:00", "24:00:00", "00:00:00.1234567890", "::", "1.2.3:4:5", "00:00:0x"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_go_there_and_back() {
        for (text, bytes) in [("64MB", 64_000_000), ("48MiB", 48 << 20), ("1MiB", 1 << 20), ("0", 0), ("1001", 1001)] {
            assert_eq!(parse_size(text), Some(bytes));
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("much"), None);
    }
}
