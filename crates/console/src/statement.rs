//! What a text asks for. SQL is read by a library; what is a console's own (SHOW, PAUSE, KILL …) is a word or two.

use sqlparser::ast::Query;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::{Command, Refusal};

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// `SHOW` of this, in lower case: a table or a setting.
    Show(String),
    /// A query that is to be planned.
    Query(Box<Query>),
    /// Something to be done.
    Command(Command),
    /// What drivers say and means nothing here, with the tag that they wait for.
    Nothing(&'static str),
    /// psql's `\d`, by what it asks the catalog for.
    ListOfTables,
}

/// The statements of a text, in order; none where there is nothing but comments.
pub(crate) fn read(text: &str) -> Result<Vec<Statement>, Refusal> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
    let tokens = tokens.map_err(|error| Refusal::syntax(error.to_string()))?;
    let meaningful: Vec<Token> =
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let statements = meaningful.split(|token| *token == Token::SemiColon).filter(|tokens| !tokens.is_empty());
    statements.map(statement).collect()
}

fn statement(tokens: &[Token]) -> Result<Statement, Refusal> {
    let words: Vec<String> = tokens.iter().map_while(word).collect();
    let first = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let alone = |statement| match tokens {
        [_] => Ok(statement),
        _ => Err(Refusal::syntax(format!("nothing stands behind {first}"))),
    };
    match first.as_str() {
        "SHOW" => match tokens {
            [_] => Ok(Statement::Show("help".to_owned())),
            _ if words.len() == tokens.len() => {
                Ok(Statement::Show(words[1..].join("_").to_ascii_lowercase()))
            }
            _ => Err(Refusal::syntax("SHOW is followed by a name").hint("SHOW HELP lists them.")),
        },
        "PAUSE" => alone(Statement::Command(Command::Pause)),
        "RESUME" => alone(Statement::Command(Command::Resume)),
        "RELOAD" => alone(Statement::Command(Command::Reload)),
        "KILL" => match tokens {
            [_, session] => {
                let session = word(session).or_else(|| text(session));
                session.map(|session| Statement::Command(Command::Kill(session)))
            }
            _ => None,
        }
        .ok_or_else(|| Refusal::syntax("KILL is followed by a session").hint("SHOW CLIENTS lists them.")),
        "SELECT" | "WITH" | "VALUES" => query(tokens),
        "SET" | "RESET" => Ok(Statement::Nothing("SET")),
        "BEGIN" | "START" => Ok(Statement::Nothing("BEGIN")),
        "COMMIT" | "END" => Ok(Statement::Nothing("COMMIT")),
        "ROLLBACK" | "ABORT" => Ok(Statement::Nothing("ROLLBACK")),
        "DISCARD" => Ok(Statement::Nothing("DISCARD ALL")),
        "DEALLOCATE" => Ok(Statement::Nothing("DEALLOCATE")),
        "" => Err(Refusal::syntax("no statement begins so")),
        _ => Err(Refusal::unsupported(&first)),
    }
}

fn query(tokens: &[Token]) -> Result<Statement, Refusal> {
    // What psql asks for `\d` and `\dt` is a join of its catalog's tables.
    let is = |name: &str| tokens.iter().any(|token| word(token).is_some_and(|word| word == name));
    if is("pg_class") && is("relkind") && is("relowner") {
        return Ok(Statement::ListOfTables);
    }
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens(tokens.to_vec());
    let query = parser.parse_query().map_err(|error| Refusal::syntax(error.to_string()))?;
    match parser.peek_token().token {
        Token::EOF => Ok(Statement::Query(query)),
        token => Err(Refusal::syntax(format!("nothing is expected where {token} stands"))),
    }
}

fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word.value.clone()),
        // Names of sessions may begin with a figure.
        Token::Number(number, _) => Some(number.clone()),
        _ => None,
    }
}

fn text(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Statement {
        let [statement] = &read(text).unwrap()[..] else { panic!("{text}") };
        statement.clone()
    }

    #[test]
    fn a_text_is_any_number_of_statements_and_comments_are_none() {
        assert_eq!(read(" ; -- nothing\n /* at */ ;"), Ok(vec![]));
        assert_eq!(
            read("SHOW clients; show Transaction Isolation Level ; SHOW"),
            Ok(["clients", "transaction_isolation_level", "help"]
                .map(|name| Statement::Show(name.into()))
                .to_vec())
        );
        assert_eq!(one("/* a */ pause -- b"), Statement::Command(Command::Pause));
        assert_eq!(one("KILL s_7"), Statement::Command(Command::Kill("s_7".into())));
        assert_eq!(one("kill 'S-7 x'"), Statement::Command(Command::Kill("S-7 x".into())));
        assert_eq!(one("SET extra_float_digits = 3"), Statement::Nothing("SET"));
        assert_eq!(one("start transaction read only"), Statement::Nothing("BEGIN"));
        assert!(matches!(one("select 1"), Statement::Query(_)));
    }

    #[test]
    fn what_it_does_not_know_is_refused_with_what_it_does() {
        for (text, sqlstate) in [
            ("DROP TABLE clients", "0A000"),
            ("UPDATE clients SET state = 'x'", "0A000"),
            ("PAUSE now", "42601"),
            ("KILL", "42601"),
            ("KILL 'a' 'b'", "42601"),
            ("SELECT * FROM", "42601"),
            ("SELECT 1 2", "42601"),
            ("SHOW 'x'", "42601"),
            ("SELECT 'open", "42601"),
            ("(", "42601"),
        ] {
            assert_eq!(read(text).unwrap_err().sqlstate, sqlstate, "{text}");
        }
    }
}
