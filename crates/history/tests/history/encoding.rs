//! History in databases that are not encoded in UTF-8.

use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::{Config, Error, History, NewGap};
use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{
    Author, Change, Code, Lsn, Operation, RowEncoder, Table, Value, ValuePolicy, schema_json,
};

use crate::support::*;

/// A database of this encoding beside the test's own; its URL. [`drop_beside`] removes it.
async fn beside(database: &TestDatabase, encoding: &str) -> Config {
    let name = format!("{}_encoded", database.name());
    let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
    database.exec(&create).await;
    let url = database.url().replacen(database.name(), &name, 1);
    Config { target: Target::parse(&url, &Environment::default()).unwrap(), ..config(database) }
}

async fn drop_beside(database: &TestDatabase) {
    database.exec(&format!("DROP DATABASE {}_encoded WITH (FORCE)", database.name())).await;
}

/// A table whose names and values have characters beyond ASCII, written as for a database that is not in UTF-8.
async fn goes_in_and_comes_out(config: &Config, text: &str, json: &str) {
    let history = History::open(config).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    let mut shape = table(7, text);
    shape.name.schema = format!("{text} \"1\"");
    shape.columns[1].name = text.to_owned();
    shape.columns.push(column(3, "doc", 114, "json"));
    let first = writer.number(Table { columns: shape.columns[..1].to_vec(), ..shape.clone() }).table;
    let numbered = writer.number(shape);
    assert!(numbered.changed);
    let orders = numbered.table;
    let policy = ValuePolicy { ascii_escapes_only: true, ..ValuePolicy::default() };
    let values = [Value::Text(b"1"), Value::Text(text.as_bytes()), Value::Text(json.as_bytes())];
    let mut data = Vec::new();
    let notes = RowEncoder::new(&orders, policy).encode_object(values, &mut data).unwrap();
    let mut told = Vec::new();
    schema_json(&orders, &mut told);
    let author = Author { client_id: text.to_owned(), metadata: Some(format!("{{\"{text}\": 1}}")) };
    let changes = vec![
        insert(&first, 0, 1),
        Change {
            operation: Operation::Schema,
            row_key: None,
            data: Some(Bytes::from(told)),
            ..insert(&orders, 1, 1)
        },
        Change {
            row_key: Some(Bytes::from(format!("[\"{text}\"]"))),
            data: Some(Bytes::from(data)),
            unchanged: vec![text.to_owned()],
            flagged: notes.flagged.iter().map(|at| orders.columns[usize::from(*at)].name.clone()).collect(),
            origin: Some(text.into()),
            author: Some(Arc::new(author)),
            ..insert(&orders, 2, 1)
        },
    ];
    writer.append(vec![transaction(START, changes.clone())]).await.unwrap();
    let gap = NewGap { table_oid: 7, from: Lsn(START), reason: text.to_owned() };
    writer.note_source(vec![gap], vec![(7, format!("{{\"name\": \"{text}\"}}"))]).await.unwrap();
    drop(writer);

    let reader = History::open(config).await.unwrap();
    let read = &read_all(&reader, whole(START - 1)).await.parts[0].changes;
    let value =
        |change: &Change| serde_json::from_slice::<serde_json::Value>(change.data.as_ref().unwrap()).unwrap();
    for (read, written) in read.iter().zip(&changes) {
        assert_eq!(value(read), value(written));
        let without_data = |change: &Change| Change { data: None, ..change.clone() };
        assert_eq!(without_data(read), without_data(written));
    }
    let gaps = reader.open_gaps().await.unwrap();
    assert_eq!((gaps[0].table.as_ref(), gaps[0].reason.as_str()), (Some(&orders.name), text));
    assert_eq!(reader.fingerprints().await.unwrap()[&7], format!("{{\"name\": \"{text}\"}}"));
    reader.record_ack(text, whole(START)).await.unwrap();
    assert_eq!(reader.acked(text).await.unwrap(), Some(whole(START)));
}

#[tokio::test]
async fn latin1_holds_what_a_latin1_source_has() {
    let database = TestDatabase::create("history_latin1").await;
    let config = beside(&database, "LATIN1").await;
    goes_in_and_comes_out(&config, "Größe ÿ\u{a0}", r#"{"a": "é", "b": "\u20ac \u00e9"}"#).await;
    let history = History::open(&config).await.unwrap();
    assert_eq!(history.encoding().await.unwrap(), "LATIN1");
    assert_eq!(history.check_encoding("LATIN1").await.unwrap(), "LATIN1");
    let refused = history.check_encoding("UTF8").await.unwrap_err();
    assert_eq!(refused.code(), Code::HistoryEncoding);
    assert!(!refused.is_retryable());
    assert!(
        matches!(&refused, Error::Encoding { history, captured } if history == "LATIN1" && captured == "UTF8")
    );
    // What it has no place for stops at the row, by name.
    let mut writer = history.writer("again").await.unwrap();
    let orders = writer.number(table(8, "orders")).table;
    let euro =
        Change { data: Some(Bytes::from_static("{\"note\": \"€\"}".as_bytes())), ..insert(&orders, 0, 3) };
    let poison = writer.append(vec![transaction(START + 10, vec![euro])]).await.unwrap_err();
    assert!(matches!(&poison, Error::Poison { row_key: Some(key), .. } if key == "[3]"), "{poison:?}");
    drop((writer, history));
    drop_beside(&database).await;
}

#[tokio::test]
async fn sql_ascii_holds_every_text() {
    let database = TestDatabase::create("history_ascii").await;
    let config = beside(&database, "SQL_ASCII").await;
    goes_in_and_comes_out(&config, "Größe €\u{1f99b}", r#"{"a": "€", "b": "\ud83e\udd9b \u0041"}"#).await;
    let history = History::open(&config).await.unwrap();
    for source in ["UTF8", "LATIN1", "SQL_ASCII"] {
        assert_eq!(history.check_encoding(source).await.unwrap(), "SQL_ASCII");
    }
    drop(history);
    drop_beside(&database).await;
}

#[tokio::test]
async fn utf8_holds_every_source() {
    let database = TestDatabase::create("history_utf8").await;
    let history = History::open(&config(&database)).await.unwrap();
    for source in ["UTF8", "LATIN1", "EUC_JP", "SQL_ASCII"] {
        assert_eq!(history.check_encoding(source).await.unwrap(), "UTF8");
    }
}
