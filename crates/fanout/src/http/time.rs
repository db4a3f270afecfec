//! Times in requests: RFC 3339, such as `2026-11-03T12:00:00.5Z` or `2026-11-03T13:00:00+01:00`.

/// Microseconds since 1970-01-01 UTC; digits beyond that are dropped. `None` where the text is no time.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let (date, clock) = (date.as_bytes(), clock.as_bytes());
    let separated = date[4] == b'-' && date[7] == b'-' && clock[2] == b':' && clock[5] == b':';
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?);
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?);
    // 60: a leap second, which clocks count as the next one.
    let exists = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !(separated && exists) {
        return None;
    }
    let (us, zone) = fraction(rest)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s(zone)?;
    Some(seconds * 1_000_000 + us)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + i64::from(digit - b'0')),
        _ => None,
    })
}

/// The microseconds behind the seconds, if there are any, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = rest.split_at(length);
    let known = &digits.as_bytes()[..length.min(6)];
    let scale = 10i64.pow(u32::try_from(6 - known.len()).ok()?);
    (length > 0).then_some((number(known)? * scale, rest))
}

fn offset_s(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, text) = match zone.split_at_checked(1)? {
        // In a query string a plus sign that is not escaped is a blank.
        ("+" | " ", text) => (1, text.as_bytes()),
        ("-", text) => (-1, text.as_bytes()),
        _ => return None,
    };
    if text.len() != 5 || text[2] != b':' {
        return None;
    }
    let (hours, minutes) = (number(&text[..2])?, number(&text[3..])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, in years that begin in March, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::timestamp::Timestamp;

    #[test]
    fn reads_what_the_standard_allows() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-03T12:00:00.123456Z", Some(1_793_707_200_123_456)),
            ("2026-11-03t13:30:00.1234569+01:30", Some(1_793_707_200_123_456)),
            ("2026-11-03T13:30:00.123456 01:30", Some(1_793_707_200_123_456)),
            ("2026-11-03 07:00:00.5-05:00", Some(1_793_707_200_500_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000)),
            ("1969-12-31T23:59:59.999999z", Some(-1)),
            ("0000-01-01T00:00:00Z", Some(-62_167_219_200_000_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00+1:00", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01", None),
            ("+026-01-01T00:00:00Z", None),
            ("2026-01-01T00:00:00Zx", None),
            ("yesterday", None),
            ("ü026-01-01T00:00:00Z", None),
        ] {
            assert_eq!(parse(text), us, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_the_service_prints(us in -62_167_219_200_000_000i64..253_402_300_800_000_000) {
            prop_assert_eq!(parse(&Timestamp(us).to_string()), Some(us));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
