//! LIKE: `%` is any text, `_` any character, a backslash takes what follows it as it is. Time grows with the text alone.
//!
//! Between two `%` stands a segment, and the first place where it fits is always right: nothing is ever tried again. A
//! segment with `_` is searched for with one bit for each of its characters, which is why such a segment is bounded.

use memchr::memmem;

/// Characters of a segment that has a `_` and can lie anywhere: bits of a number.
pub(super) const FLOATING_CHARS_MAX: usize = 128;

/// A pattern of LIKE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// What the text begins with.
    first: Segment,
    /// What comes behind it, in this order, anywhere. `None` where there is no `%`: then nothing else may come.
    rest: Option<(Vec<Floating>, Segment)>,
}

/// Why there is no such pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// A backslash is the last character.
    UnfinishedEscape,
    /// A segment has more than [`FLOATING_CHARS_MAX`] characters.
    TooLong,
}

/// What stands between two `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Plain(String),
    /// `None` is any character.
    Wild(Vec<Option<char>>),
}

/// A segment that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Floating {
    Plain(String),
    Wild {
        /// For each character that is named: where, a bit for each place.
        places: Vec<(char, u128)>,
        /// Where any character may be.
        anywhere: u128,
        /// The bit of the last place.
        last: u128,
    },
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let mut segments = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let element = match char {
                '%' => {
                    segments.push(Vec::new());
                    continue;
                }
                '_' => None,
                '\\' => Some(chars.next().ok_or(PatternError::UnfinishedEscape)?),
                char => Some(char),
            };
            if let Some(segment) = segments.last_mut() {
                segment.push(element);
            }
        }
        let last = (segments.len() > 1).then(|| segments.pop()).flatten();
        let mut segments = segments.into_iter();
        let first = Segment::new(segments.next().unwrap_or_default());
        let floating =
            segments.filter(|segment| !segment.is_empty()).map(Floating::new).collect::<Result<_, _>>()?;
        let rest = last.map(|last| (floating, Segment::new(last)));
        Ok(Pattern { text: text.to_owned(), first, rest })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(text) = self.first.after_start(text) else { return false };
        let Some((floating, last)) = &self.rest else { return text.is_empty() };
        let Some(mut text) = last.before_end(text) else { return false };
        for segment in floating {
            match segment.after_first(text) {
                Some(rest) => text = rest,
                None => return false,
            }
        }
        true
    }
}

impl Segment {
    fn new(elements: Vec<Option<char>>) -> Self {
        match elements.iter().copied().collect::<Option<String>>() {
            Some(plain) => Segment::Plain(plain),
            None => Segment::Wild(elements),
        }
    }

    /// What follows where the text begins with it.
    fn after_start<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Segment::Plain(plain) => text.strip_prefix(&**plain),
            Segment::Wild(elements) => {
                let mut chars = text.chars();
                let fit = elements.iter().all(|element| fits(*element, chars.next()));
                fit.then_some(chars.as_str())
            }
        }
    }

    /// What precedes it where the text ends with it.
    fn before_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Segment::Plain(plain) => text.strip_suffix(&**plain),
            Segment::Wild(elements) => {
                let mut chars = text.chars();
                let fit = elements.iter().rev().all(|element| fits(*element, chars.next_back()));
                fit.then_some(chars.as_str())
            }
        }
    }
}

fn fits(element: Option<char>, char: Option<char>) -> bool {
    char.is_some() && (element.is_none() || element == char)
}

impl Floating {
    fn new(elements: Vec<Option<char>>) -> Result<Self, PatternError> {
        let elements = match Segment::new(elements) {
            Segment::Plain(plain) => return Ok(Floating::Plain(plain)),
            Segment::Wild(elements) if elements.len() > FLOATING_CHARS_MAX => {
                return Err(PatternError::TooLong);
            }
            Segment::Wild(elements) => elements,
        };
        let (mut places, mut anywhere, mut last): (Vec<(char, u128)>, _, _) = (Vec::new(), 0, 0);
        for (place, element) in elements.into_iter().enumerate() {
            last = 1 << place;
            match element {
                None => anywhere |= last,
                Some(char) => match places.binary_search_by_key(&char, |(char, _)| *char) {
                    Ok(at) => places[at].1 |= last,
                    Err(at) => places.insert(at, (char, last)),
                },
            }
        }
        Ok(Floating::Wild { places, anywhere, last })
    }

    /// What follows the first place in the text where it fits.
    fn after_first<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Floating::Plain(plain) => {
                let at = memmem::find(text.as_bytes(), plain.as_bytes())?;
                text.get(at + plain.len()..)
            }
            Floating::Wild { places, anywhere, last } => {
                // A bit for each beginning of the segment that the text so far ends with.
                let mut begun = 0u128;
                let mut chars = text.chars();
                while let Some(char) = chars.next() {
                    let named =
                        places.binary_search_by_key(&char, |(char, _)| *char).map_or(0, |at| places[at].1);
                    begun = ((begun << 1) | 1) & (named | anywhere);
                    if begun & last != 0 {
                        return Some(chars.as_str());
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(text: &str, pattern: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn patterns_match_as_in_sql() {
        for (text, pattern) in [
            ("", ""),
            ("", "%"),
            ("", "%%"),
            ("abc", "abc"),
            ("abc", "a%"),
            ("abc", "%c"),
            ("abc", "a%c"),
            ("abc", "_b_"),
            ("aé€𝄞", "____"),
            ("abab", "%ab"),
            ("aab", "%a_%"),
            ("a%c", "a\\%c"),
            ("a\\c", "a\\\\c"),
            ("abc", "\\a\\b\\c"),
            ("xaybxazb", "%a_b%a_b"),
            ("mississippi", "m%iss%ip%i"),
            ("a\nb", "a_b"),
        ] {
            assert!(like(text, pattern), "{text:?} {pattern:?}");
        }
        for (text, pattern) in [
            ("a", ""),
            ("abc", "ab"),
            ("abc", "b%"),
            ("ab", "ab%b"),
            ("aba", "ab%ba"),
            ("abc", "____%"),
            ("ABC", "abc"),
            ("axc", "a\\_c"),
            ("mississippi", "m%iss%iss%iss%"),
            ("xayb", "%a_b%a_b"),
        ] {
            assert!(!like(text, pattern), "{text:?} {pattern:?}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        assert_eq!(Pattern::new("a\\"), Err(PatternError::UnfinishedEscape));
        let long = |chars: usize| format!("%{}%", "_".repeat(chars));
        assert!(like(&"x".repeat(FLOATING_CHARS_MAX), &long(FLOATING_CHARS_MAX)));
        assert_eq!(Pattern::new(&long(FLOATING_CHARS_MAX + 1)), Err(PatternError::TooLong));
        let anchored = "_".repeat(1_000);
        assert!(like(&"x".repeat(1_000), &anchored));
    }

    /// What backtracking would never finish.
    #[test]
    fn a_hard_pattern_takes_no_longer() {
        let text = "a".repeat(1 << 20);
        assert!(!like(&text, &format!("{}b", "%a_a".repeat(500))));
        assert!(!like(&text, &format!("%{}b%", "a_".repeat(60))));
        assert!(!like(&text, &format!("%{}b%", "a".repeat(5_000))));
    }

    /// The definition, by trying everything.
    fn slowly(text: &[char], pattern: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['%', pattern @ ..], text) => (0..=text.len()).any(|skipped| slowly(&text[skipped..], pattern)),
            (['_', pattern @ ..], [_, text @ ..]) => slowly(text, pattern),
            (['\\', expected, pattern @ ..], [char, text @ ..]) => char == expected && slowly(text, pattern),
            ([expected, pattern @ ..], [char, text @ ..]) => char == expected && slowly(text, pattern),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_does(text in "[abé]{0,8}", pattern in "([ab_%é]|\\\\[%_a]){0,7}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&text, &pattern), slowly(&chars(&text), &chars(&pattern)));
        }
    }
}
