//! What wal2json is asked for.

use crate::table::TableName;

/// The options of START_REPLICATION: names and values, neither of them quoted.
///
/// `tables` are all that shall be sent; none means none. wal2json compares their names as they were when a row was written:
/// partitions by their own name, never by their root's.
///
/// `exact_numbers` asks for numbers as text, so that NaN and infinities arrive. wal2json knows that since 2.6, older ones
/// refuse to start (SQLSTATE 22023); nothing else tells the version.
pub fn options(tables: &[TableName], exact_numbers: bool) -> Vec<(String, String)> {
    let mut options = vec![
        ("format-version", "2".to_owned()),
        ("include-transaction", "true".to_owned()),
        ("include-xids", "true".to_owned()),
        ("include-timestamp", "true".to_owned()),
        ("include-lsn", "true".to_owned()),
        // By it a primary key that changes is seen.
        ("include-pk", "true".to_owned()),
        // Names of types are not always JSON: that of a type "b" in a schema "a" is printed as "a"."b".
        ("include-types", "false".to_owned()),
        ("include-type-oids", "true".to_owned()),
        ("actions", "insert,update,delete,truncate".to_owned()),
        ("add-tables", add_tables(tables)),
    ];
    if exact_numbers {
        options.push(("numeric-data-types-as-string", "true".to_owned()));
    }
    options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `schema.table,schema.table`. A backslash takes the meaning from whatever follows it, so it precedes everything that
/// could have one: what separates, what spaces, and the asterisk, which alone stands for all.
fn add_tables(tables: &[TableName]) -> String {
    let mut list = String::new();
    for table in tables {
        if !list.is_empty() {
            list.push(',');
        }
        escape(&table.schema, &mut list);
        list.push('.');
        escape(&table.name, &mut list);
    }
    list
}

fn escape(name: &str, list: &mut String) {
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' {
            list.push('\\');
        }
        list.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(schema: &str, name: &str) -> TableName {
        TableName { schema: schema.into(), name: name.into() }
    }

    /// How wal2json 2.5 reads the value: names end at a comma or a space, the schema at a dot, what follows a backslash
    /// means nothing. `None` where it refuses the value, or would take more than one table for a name.
    fn read(list: &str) -> Option<Vec<TableName>> {
        let mut tables = Vec::new();
        let mut chars = list.chars().peekable();
        while chars.peek().is_some() {
            let (mut parts, mut written, mut escaped) = (vec![String::new()], String::new(), false);
            for c in chars.by_ref() {
                match c {
                    _ if std::mem::replace(&mut escaped, false) => parts.last_mut()?.push(c),
                    '\\' => escaped = true,
                    ',' => break,
                    '.' if parts.len() == 1 => parts.push(String::new()),
                    c if c.is_ascii_whitespace() || c == '\u{b}' => return None,
                    c => parts.last_mut()?.push(c),
                }
                written.push(c);
            }
            if written.starts_with("*.") || written.ends_with(".*") && !written.ends_with("\\.*") {
                return None;
            }
            tables.push(table(&parts[0], parts.get(1)?));
        }
        Some(tables)
    }

    #[test]
    fn names_are_escaped_as_wal2json_reads_them() {
        // As wal2json 2.5 was seen to take them.
        let tables = [
            table("public", "plain_1"),
            table("a.b,c d", "t x,.*\\"),
            table("*", "*"),
            table("back\\slash", "q\"u'o te"),
            table("public", "ünï"),
            table("public", "nl\n\t tab\u{a0}\u{85}"),
        ];
        let list = add_tables(&tables);
        assert_eq!(
            list,
            "public.plain_1,a\\.b\\,c\\ d.t\\ x\\,\\.\\*\\\\,\\*.\\*,back\\\\slash.q\\\"u\\'o\\ te,public.ünï,\
             public.nl\\\n\\\t\\ tab\u{a0}\u{85}"
        );
        assert_eq!(read(&list), Some(tables.to_vec()));
        assert_eq!(add_tables(&[]), "", "which stands for no table at all");
    }

    #[test]
    fn the_fixtures_were_captured_with_these_options() {
        let script = include_str!("../../fixtures/wal2json/capture.sh");
        for (name, value) in options(&[], false).iter().filter(|(name, _)| name != "add-tables") {
            assert!(script.contains(&format!("'{name}', '{value}'")), "{name} {value}");
        }
        let with = options(&[], true);
        assert_eq!(with.last().unwrap().0, "numeric-data-types-as-string");
        assert_eq!(with.len(), options(&[], false).len() + 1);
    }

    proptest! {
        #[test]
        fn any_names_read_back(names in prop::collection::vec(("[^\\x00]{1,6}", "[ -/*.,\\\\a\n]{1,6}"), 1..4)) {
            let tables: Vec<_> = names.iter().map(|(schema, name)| table(schema, name)).collect();
            prop_assert_eq!(read(&add_tables(&tables)), Some(tables));
        }
    }
}
