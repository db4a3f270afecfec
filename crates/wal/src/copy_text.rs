//! One line of `COPY … TO STDOUT` in text format, as values (PostgreSQL documentation, COPY, "Text Format").
//!
//! With the default delimiter and null string. Reads what `COPY TO` writes, not all that `COPY FROM` would take.

use std::ops::Range;

use crate::row::Value;

/// A line that `COPY TO` does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyTextError {
    /// A backslash before something that `COPY TO` does not escape.
    #[error("COPY line: unknown escape \\x{byte:02x}")]
    UnknownEscape {
        /// The byte after the backslash.
        byte: u8,
    },
    /// A backslash is the last byte of a field.
    #[error("COPY line: backslash at the end of a field")]
    UnfinishedEscape,
    /// The line has more or fewer fields than columns were asked for.
    #[error("COPY line: {found} fields for {expected} columns")]
    FieldCount {
        /// Columns that were copied.
        expected: usize,
        /// Fields of the line.
        found: usize,
    },
}

/// Splits lines into values. Keeps its buffers from line to line.
#[derive(Debug, Default)]
pub struct CopyText {
    unescaped: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
enum Field {
    Null,
    Plain(Range<usize>),
    Unescaped(Range<usize>),
}

impl CopyText {
    /// The values of one line, with or without the line break at its end.
    ///
    /// # Errors
    /// When it is no line of `columns` fields as `COPY TO` writes them.
    pub fn split<'a>(
        &'a mut self,
        line: &'a [u8],
        columns: usize,
    ) -> Result<impl ExactSizeIterator<Item = Value<'a>> + Clone, CopyTextError> {
        self.unescaped.clear();
        self.fields.clear();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        // A line of no columns is empty, as is a line of one empty text.
        if !(columns == 0 && line.is_empty()) {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\t', line).chain([line.len()]) {
                let field = self.field(line, start..end)?;
                self.fields.push(field);
                start = end + 1;
            }
        }
        if self.fields.len() != columns {
            return Err(CopyTextError::FieldCount { expected: columns, found: self.fields.len() });
        }
        let unescaped = &self.unescaped;
        Ok(self.fields.iter().map(move |field| match field {
            Field::Null => Value::Null,
            Field::Plain(range) => Value::Text(&line[range.clone()]),
            Field::Unescaped(range) => Value::Text(&unescaped[range.clone()]),
        }))
    }

    fn field(&mut self, line: &[u8], range: Range<usize>) -> Result<Field, CopyTextError> {
        let mut rest = &line[range.clone()];
        if rest == b"\\N" {
            return Ok(Field::Null);
        }
        let start = self.unescaped.len();
        let mut escaped = false;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            escaped = true;
            self.unescaped.extend_from_slice(&rest[..at]);
            let byte = *rest.get(at + 1).ok_or(CopyTextError::UnfinishedEscape)?;
            self.unescaped.push(match byte {
                b'b' => 0x08,
                b'f' => 0x0C,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0B,
                b'\\' => b'\\',
                byte => return Err(CopyTextError::UnknownEscape { byte }),
            });
            rest = &rest[at + 2..];
        }
        if !escaped {
            return Ok(Field::Plain(range));
        }
        self.unescaped.extend_from_slice(rest);
        Ok(Field::Unescaped(start..self.unescaped.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str, columns: usize) -> Result<Vec<Option<String>>, CopyTextError> {
        let mut copy = CopyText::default();
        let values = copy.split(line.as_bytes(), columns)?;
        Ok(values
            .map(|value| match value {
                Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                Value::Null | Value::Unchanged => None,
            })
            .collect())
    }

    #[test]
    fn fields_are_split_and_unescaped() {
        assert_eq!(
            split("1\t\\N\t\tback\\\\slash\ttab\\there\\nnext\\b\\f\\r\\v\t\\\\N\n", 6).unwrap(),
            [
                Some("1"),
                None,
                Some(""),
                Some("back\\slash"),
                Some("tab\there\nnext\u{8}\u{c}\r\u{b}"),
                Some("\\N")
            ]
            .map(|field| field.map(str::to_owned))
        );
    }

    #[test]
    fn an_empty_line_is_no_column_or_one_empty_text() {
        assert_eq!(split("\n", 0).unwrap(), []);
        assert_eq!(split("\n", 1).unwrap(), [Some(String::new())]);
    }

    #[test]
    fn refuses_other_lines() {
        assert_eq!(split("1\t2", 3), Err(CopyTextError::FieldCount { expected: 3, found: 2 }));
        assert_eq!(split("x", 0), Err(CopyTextError::FieldCount { expected: 0, found: 1 }));
        assert_eq!(split("a\\", 1), Err(CopyTextError::UnfinishedEscape));
        assert_eq!(split("\\\t\\", 2), Err(CopyTextError::UnfinishedEscape));
        assert_eq!(split("\\.", 1), Err(CopyTextError::UnknownEscape { byte: b'.' }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line: Vec<u8>, columns in 0..4usize) {
            let _ = CopyText::default().split(&line, columns).map(Iterator::count);
        }

        #[test]
        fn any_text_survives(fields in prop::collection::vec("[\\x01-\\x20\\\\Nnté]{0,8}", 1..5)) {
            let escape = |field: &String| {
                let mut escaped = field.replace('\\', "\\\\");
                for (raw, code) in [('\u{8}', "\\b"), ('\u{c}', "\\f"), ('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t"), ('\u{b}', "\\v")] {
                    escaped = escaped.replace(raw, code);
                }
                escaped
            };
            let line: Vec<String> = fields.iter().map(escape).collect();
            let read: Vec<String> = split(&line.join("\t"), fields.len()).unwrap().into_iter().flatten().collect();
            prop_assert_eq!(read, fields);
        }
    }
}
