//! The time of a commit, which wal2json prints as PostgreSQL's `timestamptz_to_str` does: ISO whatever `DateStyle` says,
//! with the offset of `TimeZone`.

/// Days from 1970-01-01 to 2000-01-01, which the replication protocol counts from.
const PROTOCOL_EPOCH_DAYS: i64 = 10_957;

/// Microseconds since 2000-01-01 UTC of `2026-11-21 13:59:35.43404+00`. `None` where it has another form.
pub(super) fn protocol_us(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let mut date = date.splitn(3, '-');
    let year = number(date.next()?, 4..=6)?;
    let month = number(date.next()?, 2..=2).filter(|month| (1..=12).contains(month))?;
    let day = number(date.next()?, 2..=2).filter(|day| (1..=31).contains(day))?;
    let sign_at = time.find(['+', '-'])?;
    let (time, offset) = time.split_at(sign_at);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction_us = number(fraction, 1..=6)? * 10_i64.pow(6_u32.checked_sub(digits)?);
    let (sign, offset) = offset.split_at(1);
    let offset_s = seconds(offset)? * if sign == "-" { -1 } else { 1 };
    let days = days_from_unix_epoch(year, month, day) - PROTOCOL_EPOCH_DAYS;
    Some((days * 86_400 + seconds(clock)? - offset_s) * 1_000_000 + fraction_us)
}

/// Seconds of `hh`, `hh:mm` or `hh:mm:ss`.
fn seconds(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let hours = number(parts.next()?, 2..=2)?;
    let mut part = || parts.next().map_or(Some(0), |part| number(part, 2..=2));
    let (minutes, seconds) = (part()?, part()?);
    Some(hours * 3600 + minutes * 60 + seconds)
}

fn number(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let well_formed = length.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| well_formed)
}

/// The proleptic Gregorian calendar in eras of 400 years, each year beginning in March so that the leap day ends it.
fn days_from_unix_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postgres_prints() {
        // Each as `timestamptz_send` answers it.
        for (text, expected) in [
            ("2000-01-01 00:00:00+00", 0),
            ("2026-11-21 13:59:35.43404+00", 848_584_775_434_040),
            ("2024-02-29 23:59:59.999999+00", 762_566_399_999_999),
            ("2024-03-01 05:30:00.5+05:30", 762_566_400_500_000),
            ("1999-12-31 23:59:59-03:30", 12_599_000_000),
            ("1900-03-01 00:19:32+00:19:32", -3_150_576_000_000_000),
            ("294276-12-31 23:59:59.999999+00", 9_223_371_331_199_999_999),
        ] {
            assert_eq!(protocol_us(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "infinity",
            "2024-02-29",
            "2024-02-29 23:59:59",
            "2024-02-29 23:59:59.1234567+00",
            "2024-02-29 23:59:59.+00",
            "2024-13-01 00:00:00+00",
            "2024-02-29 00:00:00+00 BC",
            "Thu Feb 29 23:59:59 2024 UTC",
        ] {
            assert_eq!(protocol_us(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(any: String, near in "[0-9]{4,6}-[0-9]{2}-[0-9]{2} [0-9:.+\\-]{0,20}") {
            protocol_us(&any);
            protocol_us(&near);
        }
    }
}
