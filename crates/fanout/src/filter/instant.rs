//! Dates and times as numbers that compare as they do: read from what clients write and from what images have, and printed
//! for SQL.
//!
//! One form is read: a year of four digits or more, month, day, then the time, by `T` or a blank; era ` BC` at the end.
//! PostgreSQL takes many more, some of which mean another moment on another day (`now`) or in another session (`01/02/03`).

use std::fmt::Write;

/// Before and after everything else.
const INFINITIES: [(&str, i64); 2] = [("-infinity", i64::MIN), ("infinity", i64::MAX)];
const DAY: i64 = 86_400 * SECOND;
/// In microseconds, which is how finely PostgreSQL measures.
const SECOND: i64 = 1_000_000;
/// 24 November 4714 BC: the first day that PostgreSQL knows.
const FIRST_DAY: i64 = -2_451_545;
/// From 1 March of the year 0 to 1 January 2000, from which is counted: so do PostgreSQL's timestamps just fit.
const DAYS_BEFORE: i64 = 730_425;
const LAST_DATE_YEAR: i64 = 5_874_897;
const LAST_TIMESTAMP_YEAR: i64 = 294_276;
/// Offsets from UTC that PostgreSQL takes are less than this, in hours.
const ZONE_HOURS: i64 = 16;

/// A date, as days.
pub(super) fn date(text: &str) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    let (days, year, rest) = take_date(without_era(text))?;
    (rest.is_empty() && year <= LAST_DATE_YEAR).then_some(days)
}

/// A time of day, as microseconds since midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    match take_time(text)? {
        (time, "") => Some(time),
        _ => None,
    }
}

/// A timestamp without zone, as microseconds. A date alone is its midnight.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    match take_timestamp(text)? {
        (micros, "") => in_range(micros),
        _ => None,
    }
}

/// A timestamp with zone, as microseconds in UTC. Without a zone it is UTC, as in all of the product's sessions.
pub(super) fn timestamp_tz(text: &str) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    let (micros, zone) = take_timestamp(text)?;
    in_range(micros.checked_sub(offset(zone)?)?)
}

/// Prints days as SQL takes them for a date.
pub(super) fn date_text(days: i64) -> String {
    match infinity_name(days) {
        Some(name) => name.into(),
        None => {
            let (day, era) = day_text(days);
            day + era
        }
    }
}

/// Prints microseconds since midnight as SQL takes them for a time.
pub(super) fn time_text(micros: i64) -> String {
    let seconds = micros / SECOND;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{hour:02}:{minute:02}:{second:02}");
    if micros % SECOND != 0 {
        // Writing into memory cannot fail.
        let _ = write!(text, ".{:06}", micros % SECOND);
    }
    text
}

/// Prints microseconds as SQL takes them for a timestamp; `zone` follows the time.
pub(super) fn timestamp_text(micros: i64, zone: &str) -> String {
    match infinity_name(micros) {
        Some(name) => name.into(),
        None => {
            let (day, era) = day_text(micros.div_euclid(DAY));
            format!("{day} {}{zone}{era}", time_text(micros.rem_euclid(DAY)))
        }
    }
}

fn infinity(text: &str) -> Option<i64> {
    INFINITIES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

fn infinity_name(value: i64) -> Option<&'static str> {
    INFINITIES.iter().find(|(_, infinity)| *infinity == value).map(|(name, _)| *name)
}

fn in_range(micros: i64) -> Option<i64> {
    let end = days_of(LAST_TIMESTAMP_YEAR + 1, 1, 1) * DAY;
    (FIRST_DAY * DAY..end).contains(&micros).then_some(micros)
}

/// The text before the era, and whether that is BC.
fn without_era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true))
}

/// Microseconds, and what follows date and time.
fn take_timestamp(text: &str) -> Option<(i64, &str)> {
    let (days, year, rest) = take_date(without_era(text))?;
    if year > LAST_TIMESTAMP_YEAR + 1 {
        return None;
    }
    let (time, rest) = match rest.strip_prefix(['T', ' ']) {
        Some(rest) => take_time(rest)?,
        None => (0, rest),
    };
    Some((days.checked_mul(DAY)?.checked_add(time)?, rest))
}

/// Days since 2000, the year they are in, and what follows.
fn take_date((text, bc): (&str, bool)) -> Option<(i64, i64, &str)> {
    let year_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(4..=7).contains(&year_digits) {
        return None;
    }
    let year: i64 = text[..year_digits].parse().ok().filter(|year| *year > 0)?;
    // There is no year 0: before 1 comes 1 BC.
    let year = if bc { 1 - year } else { year };
    let (month, rest) = two_digits(text[year_digits..].strip_prefix('-')?)?;
    let (day, rest) = two_digits(rest.strip_prefix('-')?)?;
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let days = days_of(year, month, day);
    (days >= FIRST_DAY).then_some((days, year, rest))
}

/// Microseconds since midnight, and what follows. The end of the day is a time too.
fn take_time(text: &str) -> Option<(i64, &str)> {
    let (hour, rest) = two_digits(text)?;
    let (minute, mut rest) = two_digits(rest.strip_prefix(':')?)?;
    let (mut second, mut micros) = (0, 0);
    if let Some(seconds) = rest.strip_prefix(':') {
        (second, rest) = two_digits(seconds)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=6).contains(&count) {
                return None;
            }
            micros = format!("{:0<6}", &fraction[..count]).parse().ok()?;
            rest = &fraction[count..];
        }
    }
    let time = ((hour * 60 + minute) * 60 + second) * SECOND + micros;
    (minute < 60 && second < 60 && time <= DAY).then_some((time, rest))
}

/// Microseconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = two_digits(&zone[1..])?;
    let (minutes, rest) = match rest.strip_prefix(':').unwrap_or(rest) {
        "" if rest.is_empty() => (0, ""),
        rest => two_digits(rest)?,
    };
    (rest.is_empty() && hours < ZONE_HOURS && minutes < 60)
        .then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    let digits = text.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some((digits.parse().ok()?, &text[2..]))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let is_leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01 of a date in the Gregorian calendar: counted from March, a leap day is the last of its year.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - DAYS_BEFORE
}

/// The opposite: the day, and its era.
fn day_text(days: i64) -> (String, &'static str) {
    let days = days + DAYS_BEFORE;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, if month < 10 { month + 3 } else { month - 9 });
    let year = if month <= 2 { year + 1 } else { year };
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_and_times_have_their_order() {
        let dates = [
            "-infinity",
            "4714-11-24 BC",
            "0044-03-15 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "1969-12-31",
            "2024-02-29",
            "2024-03-01",
            "10000-01-01",
            "5874897-12-31",
            "infinity",
        ];
        let dates = dates.map(|text| date(text).unwrap_or_else(|| panic!("{text}")));
        assert!(dates.is_sorted_by(|a, b| a < b));
        assert_eq!(dates[3] + 1, dates[4], "there is no year 0");
        let times = ["00:00", "00:00:00.000001", "09:30:00.5", "23:59:59.999999", "24:00:00"];
        assert!(times.map(|text| time(text).unwrap()).is_sorted_by(|a, b| a < b));
        let timestamps = [
            "-Infinity",
            "4714-11-24T00:00:00 BC",
            "0044-03-15 12:13:14.5 BC",
            "2024-01-02",
            "2024-01-02T03:04:05.678",
            "294276-12-31 23:59:59.999999",
            "infinity",
        ];
        assert!(timestamps.map(|text| timestamp(text).unwrap()).is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn one_moment_in_several_zones() {
        let moment = timestamp_tz("2024-01-02T03:04:05.678+00:00");
        assert_eq!(moment, timestamp("2024-01-02 03:04:05.678"));
        for text in [
            "2024-01-02 03:04:05.678",
            "2024-01-02T03:04:05.678Z",
            "2024-01-02 08:34:05.678+05:30",
            "2024-01-01 22:04:05.678-0500",
            "2024-01-02 04:04:05.678000+01",
        ] {
            assert_eq!(timestamp_tz(text), moment, "{text}");
        }
        assert!(timestamp_tz("0044-03-15T12:13:14.5+00:00 BC").is_some());
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for text in [
            "",
            "now",
            "today",
            "epoch",
            "24-01-02",
            "2024-1-2",
            "2024-13-01",
            "2024-02-30",
            "2023-02-29",
            "0000-01-01",
            "01/02/2024",
            "2024-01-02 x",
            "4714-11-23 BC",
            "99999999-01-01",
            "2024-01-0é",
        ] {
            assert_eq!(date(text), None, "{text}");
            assert_eq!(timestamp(text), None, "{text}");
            assert_eq!(timestamp_tz(text), None, "{text}");
        }
        assert_eq!(date("5874898-01-01"), None);
        assert_eq!(date("2024-01-02 00:00:00"), None);
        for text in [
            "294277-01-01",
            "2024-01-02 25:00",
            "2024-01-02 10:60",
            "2024-01-02 10:00:60",
            "2024-01-02 10:00:00.1234567",
            "2024-01-02 10:00:00+00",
            "2024-01-02 10",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
        for text in [
            "2024-01-02 10:00+16",
            "2024-01-02 10:00+1",
            "2024-01-02 10:00 UTC",
            "2024-01-02 10:00+01:",
            "2024-01-02 10:00+é",
        ] {
            assert_eq!(timestamp_tz(text), None, "{text}");
        }
        for text in ["24:00:00.1", "10", "1:00", "10:00:00+00"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(days in FIRST_DAY..2_144_000_000i64, micros in 0..DAY) {
            prop_assert_eq!(date(&date_text(days)), Some(days));
            prop_assert_eq!(time(&time_text(micros)), Some(micros));
            let moment = (days % 1_000_000) * DAY + micros;
            prop_assert_eq!(timestamp(&timestamp_text(moment, "")), Some(moment));
            prop_assert_eq!(timestamp_tz(&timestamp_text(moment, "+00")), Some(moment));
        }

        #[test]
        fn any_text_ends_without_panic(text: String) {
            let _ = (date(&text), time(&text), timestamp(&text), timestamp_tz(&text));
        }
    }
}
