//! From a filter's text to its condition: by recursive descent, as deep as a limit allows.

use super::condition::{Condition, Literal, Relation, TextType};
use super::error::FilterError::{self, Syntax};
use super::lexer::{Token, tokens};
use super::pattern::{FLOATING_CHARS_MAX, Pattern, PatternError};
use super::{DEPTH_MAX, VALUES_MAX};

/// Parentheses and NOTs in each other. A printed condition has two of them for a level.
const NESTING_MAX: usize = 2 * DEPTH_MAX;
/// Words that name no column, unless in double quotes.
const WORDS: [&str; 10] = ["and", "or", "not", "in", "is", "null", "like", "between", "true", "false"];

const A_COMPARISON: &str = "=, <>, <, <=, >, >=, [NOT] IN, [NOT] BETWEEN, [NOT] LIKE or IS [NOT] NULL";
const A_VALUE: &str =
    "a value: a number, a text in single quotes, true or false (NULL is asked for with IS NULL)";
const A_CONDITION: &str = "a column, a value, NOT or (";
const A_TYPE: &str = "one of the types bytea, date, text, time, timestamp, timestamptz, uuid";

/// Reads a whole text. With `claims` a claim may stand for a value.
pub(super) fn parse(text: &str, claims: bool) -> Result<Condition, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, claims };
    let condition = parser.condition(0)?;
    match parser.peek() {
        Token::End => Ok(condition),
        _ => Err(parser.expected("AND, OR or the end of the filter")),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    claims: bool,
}

/// What stands between two sides of a comparison.
enum Comparison {
    Equal,
    Unequal,
    Ordered(Relation),
}

impl Parser {
    /// Parts joined by OR.
    fn condition(&mut self, nesting: usize) -> Result<Condition, FilterError> {
        let mut parts = vec![self.conjunction(nesting)?];
        while self.take_word("or") {
            parts.push(self.conjunction(nesting)?);
        }
        Ok(Condition::or(parts))
    }

    /// Parts joined by AND.
    fn conjunction(&mut self, nesting: usize) -> Result<Condition, FilterError> {
        let mut parts = vec![self.part(nesting)?];
        while self.take_word("and") {
            parts.push(self.part(nesting)?);
        }
        Ok(Condition::and(parts))
    }

    fn part(&mut self, nesting: usize) -> Result<Condition, FilterError> {
        if nesting > NESTING_MAX {
            return Err(FilterError::TooDeep { max: DEPTH_MAX });
        }
        if self.take_word("not") {
            return Ok(self.part(nesting + 1)?.negated());
        }
        if self.take_sign("(") {
            let condition = self.condition(nesting + 1)?;
            self.demand_sign(")", "AND, OR or )")?;
            return Ok(condition);
        }
        if let Some(column) = self.take_column() {
            return self.of_column(column);
        }
        if let Some(value) = self.take_value()? {
            return self.of_value(value);
        }
        Err(self.expected(A_CONDITION))
    }

    /// What is said of a column; alone it has to be true.
    fn of_column(&mut self, column: String) -> Result<Condition, FilterError> {
        if let Some(comparison) = self.take_comparison() {
            let value = self.value()?;
            return Ok(compare(column, comparison, value));
        }
        if self.take_word("is") {
            let negated = self.take_word("not");
            if !self.take_word("null") {
                return Err(self.expected(if negated { "NULL" } else { "NULL or NOT NULL" }));
            }
            let is_null = Condition::IsNull { column };
            return Ok(if negated { is_null.negated() } else { is_null });
        }
        let negated = self.take_word("not");
        let condition = if self.take_word("in") {
            Condition::one_of(column, self.list()?)
        } else if self.take_word("between") {
            let from = self.value()?;
            if !self.take_word("and") {
                return Err(self.expected("AND and the other end of BETWEEN"));
            }
            let to = self.value()?;
            let side = |relation, value| Condition::Compare { column: column.clone(), relation, value };
            Condition::and(vec![side(Relation::GreaterOrEqual, from), side(Relation::LessOrEqual, to)])
        } else if self.take_word("like") {
            Condition::Like { pattern: self.pattern()?, column }
        } else if negated {
            return Err(self.expected("IN, BETWEEN or LIKE"));
        } else if matches!(self.peek(), Token::End | Token::Sign(")"))
            || self.is_word("and")
            || self.is_word("or")
        {
            return Ok(Condition::one_of(column, vec![Literal::Bool(true)]));
        } else {
            return Err(self.expected(A_COMPARISON));
        };
        Ok(if negated { condition.negated() } else { condition })
    }

    /// A comparison with the column on its right.
    fn of_value(&mut self, value: Literal) -> Result<Condition, FilterError> {
        let Some(comparison) = self.take_comparison() else {
            return Err(self.expected("=, <>, <, <=, > or >= and a column"));
        };
        let Some(column) = self.take_column() else {
            return Err(self.expected("a column: a value is compared with nothing else"));
        };
        let comparison = match comparison {
            Comparison::Ordered(relation) => Comparison::Ordered(relation.reversed()),
            equality => equality,
        };
        Ok(compare(column, comparison, value))
    }

    fn list(&mut self) -> Result<Vec<Literal>, FilterError> {
        self.demand_sign("(", "( and values")?;
        let mut values = Vec::new();
        loop {
            let at = self.at();
            values.push(self.value()?);
            if values.len() > VALUES_MAX {
                return Err(FilterError::TooManyValues { at, max: VALUES_MAX });
            }
            if self.take_sign(")") {
                return Ok(values);
            }
            self.demand_sign(",", ", or )")?;
        }
    }

    fn pattern(&mut self) -> Result<String, FilterError> {
        let at = self.at();
        let Token::Text(text) = self.peek() else { return Err(self.expected("a pattern in single quotes")) };
        let text = text.clone();
        match Pattern::new(&text) {
            Ok(_) => {
                self.next += 1;
                Ok(text)
            }
            Err(PatternError::UnfinishedEscape) => {
                Err(Syntax { at, expected: "a character behind the last backslash of the pattern" })
            }
            Err(PatternError::TooLong) => Err(FilterError::PatternTooLong { at, max: FLOATING_CHARS_MAX }),
        }
    }

    fn value(&mut self) -> Result<Literal, FilterError> {
        self.take_value()?.ok_or_else(|| self.expected(A_VALUE))
    }

    /// A value, where one begins here.
    fn take_value(&mut self) -> Result<Option<Literal>, FilterError> {
        for (word, value) in [("true", true), ("false", false)] {
            if self.take_word(word) {
                return Ok(Some(Literal::Bool(value)));
            }
        }
        let negative = self.take_sign("-");
        if negative || self.take_sign("+") {
            let Token::Number(number) = self.peek() else { return Err(self.expected("a number")) };
            let number = if negative { number.clone().negated() } else { number.clone() };
            self.next += 1;
            return Ok(Some(Literal::Number(number)));
        }
        match (self.peek(), self.after()) {
            (Token::Number(number), _) => {
                let number = number.clone();
                self.next += 1;
                Ok(Some(Literal::Number(number)))
            }
            (Token::Word(word), Token::Text(text)) => {
                let Some(text_type) = TextType::named(word) else { return Err(self.expected(A_TYPE)) };
                let literal = Literal::Text(Some(text_type), text.clone());
                self.next += 2;
                Ok(Some(literal))
            }
            (Token::Text(text), _) => {
                let text = text.clone();
                self.next += 1;
                Ok(Some(Literal::Text(self.take_cast()?, text)))
            }
            (Token::Claim(path), _) if self.claims => {
                let path = path.clone();
                self.next += 1;
                Ok(Some(Literal::Claim(path)))
            }
            _ => Ok(None),
        }
    }

    /// `::` and a type.
    fn take_cast(&mut self) -> Result<Option<TextType>, FilterError> {
        if !self.take_sign("::") {
            return Ok(None);
        }
        let Token::Word(word) = self.peek() else { return Err(self.expected(A_TYPE)) };
        let Some(text_type) = TextType::named(word) else { return Err(self.expected(A_TYPE)) };
        self.next += 1;
        Ok(Some(text_type))
    }

    /// A column's name, where one stands here. A word right before a text is a type.
    fn take_column(&mut self) -> Option<String> {
        let name = match (self.peek(), self.after()) {
            (Token::Quoted(name), _) => name.clone(),
            (Token::Word(_), Token::Text(_)) => return None,
            (Token::Word(word), _) if !WORDS.contains(&&**word) => word.clone(),
            _ => return None,
        };
        self.next += 1;
        Some(name)
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let Token::Sign(sign) = self.peek() else { return None };
        let comparison = match *sign {
            "=" => Comparison::Equal,
            "<>" => Comparison::Unequal,
            "<" => Comparison::Ordered(Relation::Less),
            "<=" => Comparison::Ordered(Relation::LessOrEqual),
            ">" => Comparison::Ordered(Relation::Greater),
            ">=" => Comparison::Ordered(Relation::GreaterOrEqual),
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found == word)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn demand_sign(&mut self, sign: &str, expected: &'static str) -> Result<(), FilterError> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    /// The token behind the next.
    fn after(&self) -> &Token {
        self.tokens.get(self.next + 1).map_or(&Token::End, |(token, _)| token)
    }

    /// Where the next token is.
    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(1, |(_, at)| *at)
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        Syntax { at: self.at(), expected }
    }
}

fn compare(column: String, comparison: Comparison, value: Literal) -> Condition {
    match comparison {
        Comparison::Equal => Condition::one_of(column, vec![value]),
        Comparison::Unequal => Condition::one_of(column, vec![value]).negated(),
        Comparison::Ordered(relation) => Condition::Compare { column, relation, value },
    }
}
