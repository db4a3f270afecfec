//! The lines of wal2json on their way to the assembler: translated into the messages that say the same, one line at a time.
//!
//! A line can give several messages, and the assembler can ask for a table at any of them; so what it has not taken waits
//! here, and the same line comes again. No IO: which shape a table has is looked up elsewhere.

use std::collections::{HashMap, VecDeque};

use waldelta_wal::{Misfit, Relation, TableName, Translated, Translator, Wal2jsonError};

use crate::Error;

/// A table's outline: all its columns, and the names of those that are not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) relation: Relation,
    pub(crate) unpublished: Vec<String>,
}

/// A table whose outline is needed before its line can be translated.
#[derive(Clone, Debug)]
pub(crate) struct Unshaped {
    /// As the line names it.
    pub(crate) name: TableName,
    /// What does not fit the outline that was given for this very line; `None` when it is asked for the first time.
    pub(crate) misfit: Option<Misfit>,
    /// The outline that rows before had, if there were any.
    pub(crate) before: Option<Outline>,
}

/// See the module.
pub(crate) struct Lines {
    translator: Translator,
    /// The messages of the line that was read, as far as they are not taken.
    waiting: VecDeque<Vec<u8>>,
    /// By the name that lines have.
    defined: HashMap<TableName, Outline>,
}

impl Lines {
    pub(crate) fn new(translator: Translator) -> Self {
        Lines { translator, waiting: VecDeque::new(), defined: HashMap::new() }
    }

    /// Reads a line, unless messages of it still wait. Where it says which table has to be defined first, the line was not
    /// taken and is to come again.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<Option<Unshaped>, Error> {
        if !self.waiting.is_empty() {
            return Ok(None);
        }
        match self.translator.translate(line) {
            Ok(Translated::Messages(messages)) => {
                self.waiting = messages.into();
                Ok(None)
            }
            Ok(Translated::Undefined(name)) => {
                let before = self.defined.get(&name).cloned();
                Ok(Some(Unshaped { name, misfit: None, before }))
            }
            Err(Wal2jsonError::Shape { table, misfit }) => {
                Ok(Some(Unshaped { name: table, misfit: Some(misfit), before: None }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next message of the line.
    pub(crate) fn next_message(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }

    /// Gives the message taken last back, to be taken again.
    pub(crate) fn give_back(&mut self, message: Vec<u8>) {
        self.waiting.push_front(message);
    }

    /// Defines a table by the name in its outline.
    pub(crate) fn define(&mut self, outline: Outline) -> Result<(), Error> {
        self.translator.define(outline.relation.clone(), &outline.unpublished)?;
        self.defined.insert(outline.relation.table_name(), outline);
        Ok(())
    }

    /// Sees to it that the table is asked for again before its next row.
    pub(crate) fn forget(&mut self, table_oid: u32) {
        self.translator.forget(table_oid);
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{EndLsn, Lsn, RelationColumn, ReplicaIdentity};

    use super::*;

    const INSERT: &str = r#"{"action":"I","schema":"public","table":"t","columns":[{"name":"id","typeoid":23,"value":1}],"pk":[{"name":"id","typeoid":23}]}"#;

    fn outline(column: &str) -> Outline {
        let id = RelationColumn {
            identity: true,
            name: column.into(),
            type_oid: 23,
            type_modifier: -1,
            type_name: None,
        };
        let relation = Relation {
            oid: 7,
            schema: "public".into(),
            name: "t".into(),
            identity: ReplicaIdentity::Default,
            columns: vec![id],
        };
        Outline { relation, unpublished: Vec::new() }
    }

    #[test]
    fn a_line_comes_again_until_all_its_messages_are_taken() {
        let mut lines = Lines::new(Translator::new(EndLsn(Lsn(0))));
        let asked = lines.read(INSERT.as_bytes()).unwrap().unwrap();
        assert_eq!((asked.name.to_string(), asked.misfit, asked.before), ("public.t".into(), None, None));
        lines.define(outline("id")).unwrap();
        assert!(lines.read(INSERT.as_bytes()).unwrap().is_none());
        let shape = lines.next_message().unwrap();
        assert_eq!(shape[0], b'R');
        lines.give_back(shape);
        assert!(lines.read(INSERT.as_bytes()).unwrap().is_none(), "nothing is translated twice");
        let kinds: Vec<u8> = std::iter::from_fn(|| lines.next_message()).map(|message| message[0]).collect();
        assert_eq!(kinds, b"RI");
    }

    #[test]
    fn an_outline_that_does_not_fit_is_told_and_the_one_before_is_kept() {
        let mut lines = Lines::new(Translator::new(EndLsn(Lsn(0))));
        lines.define(outline("id")).unwrap();
        assert!(lines.read(INSERT.as_bytes()).unwrap().is_none());
        while lines.next_message().is_some() {}
        lines.forget(7);
        let asked = lines.read(INSERT.as_bytes()).unwrap().unwrap();
        assert_eq!(asked.before, Some(outline("id")));
        lines.define(outline("number")).unwrap();
        let misfit = lines.read(INSERT.as_bytes()).unwrap().unwrap();
        assert!(misfit.misfit.is_some());
        lines.define(asked.before.unwrap()).unwrap();
        assert!(lines.read(INSERT.as_bytes()).unwrap().is_none());
    }
}
