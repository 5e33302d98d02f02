//! Times as documents hold them: RFC 3339 in UTC, to the millisecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// The last second that RFC 3339 can say.
const LAST: Duration = Duration::from_secs(253_402_300_799);

pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(whole(*time)))
}

/// Also takes what Python's `isoformat` writes, without a zone or with `+00:00`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339_weak(&text).map_err(|_| D::Error::custom("expected a time in RFC 3339, in UTC"))
}

/// The time to the millisecond, so that what is written is what is read.
pub(crate) fn whole(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    UNIX_EPOCH + Duration::new(since.as_secs(), since.subsec_millis() * 1_000_000)
}

/// For an optional field.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Serializer, SystemTime};

    #[derive(Deserialize)]
    struct Time(#[serde(with = "super")] SystemTime);

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Time>::deserialize(deserializer)?.map(|Time(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct At(#[serde(with = "super")] SystemTime);

    #[test]
    fn times_are_rfc_3339_in_utc_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_micros(1_795_000_000_123_456);
        assert_eq!(serde_json::to_string(&At(time)).unwrap(), r#""2026-11-18T11:06:40.123Z""#);
        let read: At = serde_json::from_str(r#""2026-11-18T11:06:40.123Z""#).unwrap();
        assert_eq!(read, At(whole(time)));
    }

    #[test]
    fn the_spellings_of_python_are_read_and_others_refused() {
        for text in ["2026-11-18T11:06:40.123456", "2026-11-18T11:06:40+00:00", "2026-11-18 11:06:40"] {
            assert!(serde_json::from_value::<At>(text.into()).is_ok(), "{text}");
        }
        for text in
            ["", "yesterday", "2026-11-18T11:06:40+02:00", "2026-13-18T11:06:40Z", "é026-11-18T11:06:40Z"]
        {
            assert!(serde_json::from_value::<At>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn times_that_rfc_3339_cannot_say_do_not_panic() {
        for time in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + LAST + Duration::from_secs(10)] {
            assert!(serde_json::to_string(&At(time)).is_ok());
        }
    }
}
