//! Times as callers read and write them: RFC 3339, in UTC, and Go's durations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, with nanoseconds: `2026-11-24T21:05:39.000000001Z`.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// The calendar by days since 1970: years of 400 repeat, and March is taken for the first month, so that the leap day is the
/// last of a year.
fn rfc3339(seconds: u64, nanoseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// A duration as Go prints it, such as `100ms` or `1m30s`, or a number of seconds.
///
/// # Errors
/// It is not one, or not longer than nothing.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "it is not a duration longer than 0: such as 5, 1s, 100ms or 1m30s".to_owned();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = if is_number { format!("{text}s") } else { text.to_owned() };
    let mut rest = &*whole;
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let (part, behind) = part(rest).ok_or_else(refuse)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(refuse)?;
        rest = behind;
    }
    Some(Duration::from_nanos(nanoseconds)).filter(|duration| !duration.is_zero()).ok_or_else(refuse)
}

/// A number with its unit at the beginning of a text, in nanoseconds, and what comes behind it.
fn part(text: &str) -> Option<(u64, &str)> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),  // the micro sign
        ("\u{3bc}s", 1_000), // the Greek letter
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let (number, behind) = text.split_at(end);
    let (unit, value) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(15))?; // more digits are less than a nanosecond of any unit
    let scale = 10_u128.pow(fraction.len() as u32);
    let of_fraction = u128::from(digits(fraction)?) * u128::from(*value) / scale;
    let of_integer = digits(integer)?.checked_mul(*value)?;
    Some((of_integer.checked_add(u64::try_from(of_fraction).ok()?)?, &behind[unit.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("5", 5_000),
            ("1s", 1_000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".25s", 250),
            ("2.s", 2_000),
            ("5m0s", 300_000),
            ("1000us", 1),
            ("1000\u{b5}s", 1),
            ("0h1000000ns", 1),
            ("0.3333333333333333333ms", 0),
        ] {
            assert_eq!(duration(text).map(|duration| duration.as_millis()), Ok(milliseconds), "{text}");
        }
        let wrong = ["", "0", "0s", "-1s", "+1s", "s", ".s", "1.2.3s", "1 s", "1d", "1S", "1.5", "9999999999h", "1s2"];
        for wrong in wrong {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn known_moments() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(seconds, 0), expected);
        }
    }
}
