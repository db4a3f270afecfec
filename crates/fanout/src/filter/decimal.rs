//! Numbers of any length, compared digit by digit: never as doubles.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// Numbers with up to so many zeros between point and digits are printed without an exponent.
const PLAIN_ZEROS_MAX: i64 = 20;

/// A finite number: `0.d₁d₂… × 10^power`, its digits in ASCII without zeros at either end. Zero has none, and power 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    power: i64,
    digits: Cow<'a, [u8]>,
}

/// What a number can be, in the order that PostgreSQL gives them: NaN is the greatest, and equals itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Number<'a> {
    NegativeInfinity,
    Finite(Decimal<'a>),
    Infinity,
    NaN,
}

impl<'a> Decimal<'a> {
    /// Reads a number: a sign, digits with a point, an exponent.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let exponent_at = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at(exponent_at);
        let exponent: i64 = match exponent.get(1..) {
            None => 0,
            Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        };
        let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
        let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..).unwrap_or_default());
        if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let digits: Cow<'a, [u8]> =
            if fraction.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned([whole, fraction].concat()) };
        let zero = || Decimal { negative: false, power: 0, digits: Cow::Borrowed(&[]) };
        let Some(first) = digits.iter().position(|b| *b != b'0') else { return Some(zero()) };
        let last = digits.iter().rposition(|b| *b != b'0')?;
        let power =
            i64::try_from(point).ok()?.checked_sub(i64::try_from(first).ok()?)?.checked_add(exponent)?;
        let digits = match digits {
            Cow::Borrowed(digits) => Cow::Borrowed(&digits[first..=last]),
            Cow::Owned(digits) => Cow::Owned(digits[first..=last].to_vec()),
        };
        Some(Decimal { negative, power, digits })
    }

    /// How many digits it has before its point and behind it, zeros between counted: whichever is more.
    pub(super) fn extent(&self) -> i64 {
        let digits = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        self.power.saturating_abs().max(digits.saturating_sub(self.power)).max(digits)
    }

    pub(super) fn is_whole(&self) -> bool {
        i64::try_from(self.digits.len()).is_ok_and(|digits| digits <= self.power || digits == 0)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub(super) fn negated(self) -> Self {
        Decimal { negative: !self.negative && !self.is_zero(), ..self }
    }

    pub(super) fn into_owned(self) -> Decimal<'static> {
        Decimal { negative: self.negative, power: self.power, digits: Cow::Owned(self.digits.into_owned()) }
    }

    /// Appends bytes that are equal for equal numbers only.
    pub(super) fn write_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.negative));
        out.extend_from_slice(&self.power.to_be_bytes());
        out.extend_from_slice(&self.digits);
    }

    fn sign(&self) -> i8 {
        match (self.is_zero(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Digits without zeros at their end compare as texts do: a prefix is less.
        let magnitudes = || (self.power, &self.digits).cmp(&(other.power, &other.digits));
        match self.sign().cmp(&other.sign()) {
            Ordering::Equal if self.negative => magnitudes().reverse(),
            Ordering::Equal => magnitudes(),
            unequal => unequal,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As SQL takes it.
impl fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::str::from_utf8(&self.digits).map_err(|_| fmt::Error)?;
        let count = i64::try_from(digits.len()).map_err(|_| fmt::Error)?;
        if self.negative {
            f.write_str("-")?;
        }
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
        match self.power {
            _ if digits.is_empty() => f.write_str("0"),
            power if (count..=count + PLAIN_ZEROS_MAX).contains(&power) => {
                write!(f, "{digits}{}", zeros(power - count))
            }
            power if (1..count).contains(&power) => {
                let (whole, fraction) = digits.split_at(usize::try_from(power).map_err(|_| fmt::Error)?);
                write!(f, "{whole}.{fraction}")
            }
            power if (-PLAIN_ZEROS_MAX..=0).contains(&power) => write!(f, "0.{}{digits}", zeros(-power)),
            power => {
                let (first, rest) = digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{first}{point}{rest}e{}", power - 1)
            }
        }
    }
}

impl<'a> Number<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        Self::special(text).or_else(|| Decimal::parse(text.as_bytes()).map(Number::Finite))
    }

    /// What is no finite number, in the words that PostgreSQL takes for it.
    pub(super) fn special(text: &str) -> Option<Number<'static>> {
        let (negative, word) = match text.strip_prefix('-') {
            Some(word) => (true, word),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let infinite = ["infinity", "inf"].iter().any(|known| word.eq_ignore_ascii_case(known));
        match (infinite, negative) {
            (true, true) => Some(Number::NegativeInfinity),
            (true, false) => Some(Number::Infinity),
            (false, _) => text.eq_ignore_ascii_case("nan").then_some(Number::NaN),
        }
    }

    pub(super) fn into_owned(self) -> Number<'static> {
        match self {
            Number::NegativeInfinity => Number::NegativeInfinity,
            Number::Finite(decimal) => Number::Finite(decimal.into_owned()),
            Number::Infinity => Number::Infinity,
            Number::NaN => Number::NaN,
        }
    }
}

/// As SQL takes it in quotes.
impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::NegativeInfinity => f.write_str("-Infinity"),
            Number::Finite(decimal) => decimal.fmt(f),
            Number::Infinity => f.write_str("Infinity"),
            Number::NaN => f.write_str("NaN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn equal_numbers_are_equal_however_written() {
        for (a, b) in [
            ("1", "1.000"),
            ("1e+20", "100000000000000000000"),
            ("-0", "0e5"),
            (".5", "0.50"),
            ("5.", "5"),
            ("1.5E-07", "0.00000015"),
            ("007", "+7"),
        ] {
            assert_eq!(decimal(a), decimal(b), "{a} {b}");
            let keys = [a, b].map(|text| {
                let mut key = Vec::new();
                decimal(text).write_key(&mut key);
                key
            });
            assert_eq!(keys[0], keys[1], "{a} {b}");
        }
    }

    #[test]
    fn numbers_have_their_order() {
        let ascending = [
            "-1e30",
            "-101",
            "-100",
            "-1.5",
            "-1",
            "-0.001",
            "0",
            "1e-9",
            "0.09",
            "0.1",
            "0.11",
            "1",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e30",
        ];
        for pair in ascending.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
        let numbers = ["-inf", "-1e30", "5", "Infinity", "nan"].map(|text| Number::parse(text).unwrap());
        assert!(numbers.is_sorted());
    }

    #[test]
    fn what_is_no_number() {
        for text in
            ["", "-", ".", "e5", "1e", "1e+", "1 ", "0x10", "1_000", "--1", "1.2.3", "1e99999999999999999999"]
        {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_and_extents() {
        for (text, whole, extent) in [
            ("0", true, 0),
            ("1.0", true, 1),
            ("1.5", false, 2),
            ("1e3", true, 4),
            ("0.001", false, 3),
            ("-12", true, 2),
        ] {
            assert_eq!((decimal(text).is_whole(), decimal(text).extent()), (whole, extent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_the_number(text in "-?[0-9]{1,5}(\\.[0-9]{1,5})?(e[+-]?[0-9]{1,3})?") {
            let printed = decimal(&text).to_string();
            prop_assert_eq!(decimal(&printed), decimal(&text));
        }

        #[test]
        fn whole_numbers_compare_as_integers(a: i64, b: i64) {
            let (a_text, b_text) = (a.to_string(), b.to_string());
            prop_assert_eq!(decimal(&a_text).cmp(&decimal(&b_text)), a.cmp(&b));
        }
    }
}
