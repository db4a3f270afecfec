//! The text of a filter as words, values and signs. Each with its place, for messages.

use super::DIGITS_MAX;
use super::decimal::Decimal;
use super::error::FilterError::{self, Syntax};

/// A part of a filter's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word without quotes, in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A number without its sign.
    Number(Decimal<'static>),
    /// A text in quotes.
    Text(String),
    /// `:claims` and the names behind it, as they are written.
    Claim(Vec<String>),
    /// `(`, `)`, `,`, `=`, `<>` (for `!=` too), `<`, `<=`, `>`, `>=`, `+`, `-`, `::`.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// What a claim begins with.
const CLAIMS: &str = ":claims";
/// How deep a claim may lie in objects.
const CLAIM_NAMES_MAX: usize = 8;

/// A longer sign stands before its beginnings.
const SIGNS: [(&str, &str); 13] = [
    ("<>", "<>"),
    ("!=", "<>"),
    ("<=", "<="),
    (">=", ">="),
    ("::", "::"),
    ("<", "<"),
    (">", ">"),
    ("=", "="),
    ("(", "("),
    (")", ")"),
    (",", ","),
    ("+", "+"),
    ("-", "-"),
];

/// All tokens of a text, each with where it begins, in characters from 1. The last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, FilterError> {
    let mut lexer = Lexer { rest: text, at: 1 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((token, at));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn skip_blanks(&mut self) {
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.take(blanks);
    }

    fn token(&mut self) -> Result<Token, FilterError> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        let second = self.rest.chars().nth(1);
        match first {
            '\'' => self.quoted('\'').map(Token::Text),
            ':' if second != Some(':') => self.claim(),
            '"' => match self.quoted('"')? {
                name if name.is_empty() => Err(Syntax { at: self.at, expected: "a name between the quotes" }),
                name => Ok(Token::Quoted(name)),
            },
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|second| second.is_ascii_digit()) => self.number(),
            first if starts_word(first) => {
                let end = self.rest.find(|c| !continues_word(c)).unwrap_or(self.rest.len());
                Ok(Token::Word(self.take(end).to_ascii_lowercase()))
            }
            _ => match SIGNS.iter().find(|(sign, _)| self.rest.starts_with(sign)) {
                Some((sign, meaning)) => {
                    self.take(sign.len());
                    Ok(Token::Sign(meaning))
                }
                None => Err(Syntax { at: self.at, expected: "a column, a value, or a comparison" }),
            },
        }
    }

    /// What stands between two quotes, a doubled one taken for one. A backslash is a backslash.
    fn quoted(&mut self, quote: char) -> Result<String, FilterError> {
        let begin = self.at;
        self.take(1);
        let mut text = String::new();
        loop {
            // PostgreSQL has no text with it.
            let Some(end) = self.rest.find([quote, '\0']) else {
                return Err(Syntax { at: begin, expected: "a quote that is closed further on" });
            };
            text.push_str(self.take(end));
            if !self.rest.starts_with(quote) {
                return Err(Syntax { at: self.at, expected: "a character other than NUL" });
            }
            self.take(1);
            if !self.rest.starts_with(quote) {
                return Ok(text);
            }
            self.take(1);
            text.push(quote);
        }
    }

    /// `:claims.name`, `:claims.name.of.a.part`; what is no word stands in double quotes.
    fn claim(&mut self) -> Result<Token, FilterError> {
        let refused = Syntax { at: self.at, expected: "a claim, such as :claims.tenant" };
        let mut path = Vec::new();
        if !self.rest.starts_with(CLAIMS) {
            return Err(refused);
        }
        self.take(CLAIMS.len());
        while self.rest.starts_with('.') {
            self.take(1);
            let name = match self.rest.starts_with('"') {
                true => self.quoted('"')?,
                false => {
                    let end = self.rest.find(|c| !continues_word(c)).unwrap_or(self.rest.len());
                    self.take(end).to_owned()
                }
            };
            if name.is_empty() || path.len() >= CLAIM_NAMES_MAX {
                return Err(refused);
            }
            path.push(name);
        }
        match path.is_empty() || self.rest.starts_with(continues_word) {
            true => Err(refused),
            false => Ok(Token::Claim(path)),
        }
    }

    fn number(&mut self) -> Result<Token, FilterError> {
        let at = self.at;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut end = digits(self.rest);
        if let Some(fraction) = self.rest[end..].strip_prefix('.') {
            end += 1 + digits(fraction);
        }
        if let Some(exponent) = self.rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            end += 1 + sign + digits(&exponent[sign..]);
        }
        let text = self.take(end);
        if self.rest.starts_with(|c| continues_word(c) || c == '.') {
            return Err(Syntax { at, expected: "a number with nothing behind it" });
        }
        if text.ends_with(['e', 'E', '+', '-']) {
            return Err(Syntax { at, expected: "digits behind the e of a number" });
        }
        match Decimal::parse(text.as_bytes()) {
            Some(number) if number.extent() <= DIGITS_MAX => Ok(Token::Number(number.into_owned())),
            // An exponent can be too long to be read.
            _ => Err(FilterError::NumberTooLong { at, max: DIGITS_MAX }),
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at += taken.chars().count();
        self.rest = rest;
        taken
    }
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

pub(super) fn continues_word(c: char) -> bool {
    starts_word(c) || c.is_ascii_digit() || c == '$'
}
