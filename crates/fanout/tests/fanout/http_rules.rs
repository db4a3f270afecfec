//! What somebody sees over plain HTTP by the rules: rows of their own, columns that they may have, and nothing that tells of the rest.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_fanout::{Config, Policy, Rule, Rules};
use waldelta_testkit::wait_until;
use waldelta_wal::{Change, Column, Operation, Position, ReplicaIdentity, Table};

use crate::http_access::{Token, by_tokens, token};
use crate::support::*;

/// Table `p` is of tenants; each sees the rows of its own, and of `secret` nothing. Nobody sees `u`.
pub(crate) async fn tenants(hint: &str) -> (World, Arc<Table>) {
    let rule = |table: &str, columns: Option<&[&str]>, filter: Option<&str>| Rule {
        table: table.into(),
        columns: columns.map(|names| names.iter().map(|&name| name.into()).collect()),
        filter: filter.map(str::to_owned),
        ..Rule::default()
    };
    let rules = [
        rule("public.p", Some(&["tenant", "note"]), Some("tenant = :claims.tenant")),
        rule("public.t", None, None),
    ];
    let policy = Policy { rules: Rules::parse(&rules).unwrap(), ..Policy::default() };
    let config = Config { policy, ..Config::default() };
    let mut world = World::with(hint, Setup { config, access: by_tokens(), ..Setup::default() }).await;
    let database = &world.database;
    database
        .exec(
            "CREATE TABLE p (id int PRIMARY KEY, tenant text, secret text, note text);
             ALTER TABLE p REPLICA IDENTITY FULL; ALTER PUBLICATION waldelta ADD TABLE p",
        )
        .await;
    let oid = database.query_text("SELECT 'p'::regclass::oid").await.parse().unwrap();
    let mut shape = table(oid, "p");
    let text = shape.columns[1].clone();
    let named =
        |number: i16, name: &str| Column { number, name: name.into(), identity: true, ..text.clone() };
    shape.columns.truncate(1);
    shape.columns.extend([named(2, "tenant"), named(3, "secret"), named(4, "note")]);
    shape.identity = ReplicaIdentity::Full;
    let p = world.add_shape(shape);
    (world, p)
}

pub(crate) async fn of_tenant(world: &World, tenant: &str) -> Token {
    token(world, &format!("of {tenant}"), |token| {
        token.claims.insert("tenant".into(), tenant.into());
    })
    .await
}

pub(crate) fn row(id: u64, tenant: &str, secret: &str, note: &str) -> String {
    json!({"id": id, "tenant": tenant, "secret": secret, "note": note}).to_string()
}

pub(crate) fn changed(p: &Arc<Table>, id: u64, old: Option<&str>, new: Option<&str>) -> Change {
    let operation = match (old, new) {
        (None, _) => Operation::Insert,
        (_, Some(_)) => Operation::Update,
        (_, None) => Operation::Delete,
    };
    let bytes = |text: &str| text.to_owned().into();
    Change { operation, data: new.map(bytes), old_data: old.map(bytes), ..insert(p, 0, id) }
}

/// The life of row 7: with `a`, then with `b`, with `a` again, and gone.
async fn live(world: &mut World, p: &Arc<Table>) -> Vec<Position> {
    let states = [
        None,
        Some(row(7, "a", "s1", "n1")),
        Some(row(7, "a", "s2", "n1")),
        Some(row(7, "b", "s3", "n2")),
        Some(row(7, "b", "s4", "n3")),
        Some(row(7, "a", "s5", "n4")),
        None,
    ];
    let mut places = Vec::new();
    for pair in states.windows(2) {
        let change = by("me", changed(p, 7, pair[0].as_deref(), pair[1].as_deref()));
        places.push(world.commit(FUTURE_XID, vec![change]).await);
    }
    places
}

fn seen(tenant: &str, note: &str) -> Value {
    json!({"id": 7, "tenant": tenant, "note": note})
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_row_are_told_while_it_is_of_the_tenant() {
    let (mut world, p) = tenants("rules_versions").await;
    let places = live(&mut world, &p).await;
    let (a, b, c) =
        (of_tenant(&world, "a").await, of_tenant(&world, "b").await, of_tenant(&world, "c").await);
    let of_a = [
        ("insert", seen("a", "n1"), 0),
        ("update", seen("a", "n1"), 1),
        ("delete", Value::Null, 2),
        ("insert", seen("a", "n4"), 4),
        ("delete", Value::Null, 5),
    ];
    let of_b = [("insert", seen("b", "n2"), 2), ("update", seen("b", "n3"), 3), ("delete", Value::Null, 4)];
    for (who, expected) in [(&a, &of_a[..]), (&b, &of_b[..])] {
        for limit in 1..7 {
            let (mut versions, mut from) = (Vec::new(), String::new());
            loop {
                let path = format!("/v1/rows/public.p/7/history?patch=rfc6902&limit={limit}{from}");
                let (status, page) = world.get(&path, &who.header).await;
                assert_eq!(status, 200, "{page}");
                assert!(!page.to_string().contains("s1") && !page.to_string().contains("secret"), "{page}");
                versions.extend(page["versions"].as_array().unwrap().clone());
                if page["has_more"] == false {
                    break;
                }
                from = format!("&from={}", page["cursor"].as_str().unwrap());
            }
            let told: Vec<_> = versions
                .iter()
                .map(|it| (it["op"].as_str().unwrap(), it["data"].clone(), it["cursor"].clone()))
                .collect();
            let expected = expected.iter().map(|(op, data, place)| {
                (*op, data.clone(), json!(Position { index: 0, ..places[*place] }.to_string()))
            });
            assert_eq!(told, expected.collect::<Vec<_>>(), "{limit}");
            let mut document = Value::Null;
            for version in &versions {
                let next = crate::rows::patched(&document, &version["patch"]);
                assert_eq!(next, version["data"], "{version}");
                assert_eq!(crate::rows::patched(&next, &version["reverse"]), document, "{version}");
                document = next;
            }
        }
    }
    // To a third one it is as a row that never was, down to the cursor.
    for query in ["", "?limit=1", "?limit=2&patch=rfc6902"] {
        let body = async |id: u64| {
            let path = format!("/v1/rows/public.p/{id}/history{query}");
            let (status, body) = world.get(&path, &c.header).await;
            assert_eq!((status, &body["versions"], &body["has_more"]), (200, &json!([]), &json!(false)));
            body["cursor"].clone()
        };
        assert_eq!(body(7).await, body(8).await, "{query}");
    }

    // As of each place, and as of before.
    let before = Position { index: 0, ..places[0] };
    assert!(before < places[0]);
    for (index, place) in places.iter().enumerate() {
        let path = format!("/v1/rows/public.p/7?at={place}");
        for (who, rows) in [
            (&a, [Some("n1"), Some("n1"), None, None, Some("n4"), None]),
            (&b, [None, None, Some("n2"), Some("n3"), None, None]),
            (&c, [None; 6]),
        ] {
            let (status, body) = world.get(&path, &who.header).await;
            match rows[index] {
                Some(note) => assert_eq!((status, &body["data"]["note"]), (200, &json!(note)), "{index}"),
                None => {
                    let never = world.get(&format!("/v1/rows/public.p/8?at={place}"), &who.header).await;
                    assert_eq!((status, body), never, "{index}: as a row that never was");
                }
            }
        }
    }
    let path = format!("/v1/rows/public.p/7?at={}", places[2]);
    let (_, body) = world.get(&path, &b.header).await;
    assert_eq!((&body["version"]["op"], &body["data"]), (&json!("insert"), &seen("b", "n2")), "{body}");

    // Whoever read it is in the audit before the answer.
    let read = "SELECT count(*) FROM waldelta.audit WHERE action = 'row_history_read' AND subject = ";
    let count = async |subject: &str| -> u64 {
        world.database.query_text(&format!("{read}'{subject}'")).await.parse().unwrap()
    };
    let before = count("of a").await;
    assert!(before >= 6 && count("of b").await >= 3);
    world.get("/v1/rows/public.p/7/history", &a.header).await;
    assert_eq!(count("of a").await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_to_another_key_is_told_where_it_is_seen() {
    let (mut world, p) = tenants("rules_moves").await;
    let (old, new) = (row(7, "a", "s", "n"), row(9, "b", "s", "n"));
    world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&old))]).await;
    let moved = Change { row_key: Some("[9]".into()), ..changed(&p, 7, Some(&old), Some(&new)) };
    world.commit(FUTURE_XID, vec![moved]).await;
    for (tenant, of_7, of_9) in [
        ("a", json!(["insert", "delete"]), json!([])),
        ("b", json!([]), json!(["insert"])),
        ("c", json!([]), json!([])),
    ] {
        let who = of_tenant(&world, tenant).await;
        for (id, expected) in [(7, of_7), (9, of_9)] {
            let (_, body) = world.get(&format!("/v1/rows/public.p/{id}/history"), &who.header).await;
            let versions = body["versions"].as_array().unwrap();
            let ops: Vec<_> = versions.iter().map(|it| it["op"].clone()).collect();
            assert_eq!(json!(ops), expected, "{tenant} {id}");
            // The other key is a row of somebody else.
            assert!(versions.iter().all(|it| it.get("moved_to").is_none() && it.get("moved_from").is_none()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_given_to_who_sees_its_row_and_column() {
    let (mut world, p) = tenants("rules_values").await;
    let places = live(&mut world, &p).await;
    let (a, b, c) =
        (of_tenant(&world, "a").await, of_tenant(&world, "b").await, of_tenant(&world, "c").await);
    let move_to_b = Position { index: 0, ..places[2] };
    let nowhere = Position { index: 5, ..places[2] };
    for (who, image, column, expected) in [
        (&a, "data", "note", None),
        (&a, "old", "note", Some("\"n1\"")),
        (&a, "old", "secret", None),
        (&a, "old", "nosuch", None),
        (&b, "data", "note", Some("\"n2\"")),
        (&b, "data", "secret", None),
        (&b, "old", "note", None),
        (&c, "data", "note", None),
        (&c, "old", "note", None),
    ] {
        let path = |place| format!("/v1/values/{place}/{image}/{column}");
        let (status, head, body) = world.get_text(&path(move_to_b), &who.header).await;
        match expected {
            Some(value) => {
                assert_eq!((status, &*body), (200, value));
                assert!(head.contains("cache-control: private, no-cache"), "{head}");
                assert!(head.contains("vary: authorization"), "{head}");
                let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
                let known = format!("{}If-None-Match: {etag}\r\n", who.header);
                assert_eq!(world.get_text(&path(move_to_b), &known).await.0, 304);
                let others = format!("{}If-None-Match: {etag}\r\n", c.header);
                assert_eq!(world.get_text(&path(move_to_b), &others).await.0, 404);
            }
            None => assert_eq!(status, 404, "{image} {column}: {body}"),
        }
    }
    // Who sees nothing of it is told the same as of a change that is not there; and a column that may not be seen is none.
    let get = async |who: &Token, place, column: &str| {
        world.get(&format!("/v1/values/{place}/data/{column}"), &who.header).await
    };
    assert_eq!(get(&c, move_to_b, "note").await, get(&c, nowhere, "note").await);
    assert_eq!(get(&b, move_to_b, "secret").await, get(&b, move_to_b, "nosuch").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_tenants_are_apart_and_so_are_their_tags() {
    let (mut world, p) = tenants("rules_pages").await;
    let start = world.commit_inserts(1..2).await[0];
    let mut all = live(&mut world, &p).await;
    // Of both in one transaction, and of a table that nobody sees.
    let changes = vec![
        changed(&p, 1, None, Some(&row(1, "a", "sa", "only-of-a"))),
        Change { seq: 1, ..changed(&p, 2, None, Some(&row(2, "b", "sb", "only-of-b"))) },
        insert(&world.u, 2, 77),
    ];
    all.push(world.commit(FUTURE_XID, changes).await);
    all.extend(world.commit_inserts(3..5).await);
    let (a, b) = (of_tenant(&world, "a").await, of_tenant(&world, "b").await);
    let path = format!("/v1/changes?after={start}&table=public.p&limit=1");
    let page = async |who: &Token, more: &str| {
        let (status, head, body) = world.get_text(&path, &format!("{}{more}", who.header)).await;
        let header = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
        };
        (status, header("etag"), header("cache-control"), head.clone(), body)
    };
    let (status, tag_a, kept, head, body_a) = page(&a, "").await;
    assert_eq!((status, kept.as_deref()), (200, Some("private, no-cache")), "{head}");
    assert!(head.contains("vary: authorization"), "{head}");
    let (tag_a, (_, tag_b, _, _, body_b)) = (tag_a.unwrap(), page(&b, "").await);
    assert_ne!(Some(&tag_a), tag_b.as_ref());
    assert_ne!(body_a, body_b);
    let known = format!("If-None-Match: {tag_a}\r\n");
    assert_eq!(page(&a, &known).await.0, 304);
    assert_eq!(page(&b, &known).await.0, 200, "no tag of one is good for the other");
    // Also where both are told the same.
    let empty = format!("/v1/changes?after={start}&table=public.u&limit=1");
    let (_, of_a) = world.get(&empty, &a.header).await;
    assert_eq!(of_a["transactions"], json!([]));

    for (who, ops, note) in [
        (
            &a,
            &[("insert", 7), ("update", 7), ("delete", 7), ("insert", 7), ("delete", 7), ("insert", 1)][..],
            "only-of-b",
        ),
        (&b, &[("insert", 7), ("update", 7), ("delete", 7), ("insert", 2)], "only-of-a"),
    ] {
        for (accept, table) in [
            ("application/json", "*"),
            ("application/json", "public.p"),
            ("application/x-ndjson", "public.*"),
        ] {
            let path = format!("/v1/changes?after={start}&table={table}");
            let (status, _, body) =
                world.get_text(&path, &format!("{}Accept: {accept}\r\n", who.header)).await;
            assert_eq!(status, 200, "{body}");
            assert!(!body.contains(note) && !body.contains("secret") && !body.contains("public.u"), "{body}");
            let frames: Vec<Value> = match accept {
                "application/json" => {
                    let page: Value = serde_json::from_str(&body).unwrap();
                    page["transactions"].as_array().unwrap().clone()
                }
                _ => body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            };
            let changes = frames.iter().filter(|frame| frame["type"] == "tx");
            let changes = changes.flat_map(|frame| frame["changes"].as_array().unwrap());
            let of_p = changes.filter(|change| change["table"] == "public.p");
            let told: Vec<_> = of_p
                .map(|change| (change["op"].as_str().unwrap(), change["key"]["id"].as_u64().unwrap()))
                .collect();
            assert_eq!(told, ops, "{accept} {table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_of_what_may_be_seen() {
    let (world, _) = tenants("rules_snapshots").await;
    world
        .database
        .exec("INSERT INTO p SELECT i, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'hidden', 'n' || i FROM generate_series(1, 40) i")
        .await;
    let mut tags = Vec::new();
    for (tenant, odd) in [("a", 0), ("b", 1), ("c", 2)] {
        let who = of_tenant(&world, tenant).await;
        for table in ["public.p", "*"] {
            let (status, head, body) = world
                .get_text(
                    &format!("/v1/snapshot?table={table}"),
                    &format!("{}Connection: close\r\n", who.header),
                )
                .await;
            assert_eq!(status, 200, "{body}");
            assert!(!body.contains("hidden") && !body.contains("secret"), "{body}");
            assert!(head.contains("authorization"), "{head}");
            let ids: Vec<u64> = body
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|frame| frame["type"] == "rows" && frame["table"] == "public.p")
                .flat_map(|frame| frame["rows"].as_array().unwrap().clone())
                .map(|row| row["id"].as_u64().unwrap())
                .collect();
            let wanted: Vec<u64> = (1..=40).filter(|id| id % 2 == odd).collect();
            assert_eq!(ids, wanted, "{tenant} {table}");
            if table == "public.p" {
                tags.push((
                    who.header.clone(),
                    head.lines().find_map(|line| line.strip_prefix("etag: ").map(str::to_owned)).unwrap(),
                ));
            }
        }
    }
    for (index, (header, _)) in tags.iter().enumerate() {
        for (other, (_, tag)) in tags.iter().enumerate() {
            let headers = format!("{header}If-None-Match: {tag}\r\n");
            let (status, ..) = world.get_text("/v1/snapshot?table=public.p", &headers).await;
            assert_eq!(status == 304, index == other, "{index} {other}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_told_of_by_no_error() {
    let (mut world, p) = tenants("rules_errors").await;
    let u = world.u.clone();
    let of_b = changed(&p, 7, None, Some(&row(7, "b", "s1", "n1")));
    // Snapshots wait for what they could not see.
    world.commit(SHOWN_XID, vec![of_b, insert(&u, 1, 1)]).await;
    let a = of_tenant(&world, "a").await;
    // `u` is there, and `nosuch` is not: the answers differ in that name alone.
    for path in [
        "/v1/rows/public.NAME/1",
        "/v1/rows/public.NAME/1/history",
        "/v1/rows/public.NAME/%5B1,2,3%5D",
        "/v1/snapshot?table=public.NAME",
        "/v1/snapshot?table=public.NAME&where=nothing%20%3D%201",
        "/v1/snapshot?table=public.NAME&columns=v",
        "/v1/changes?table=public.NAME&where=nothing%20%3D%201",
        "/v1/changes?table=public.NAME&columns=nothing",
        "/v1/changes?table=public.NAME",
    ] {
        let get = async |name: &str| {
            let (status, body) = world.get(&path.replace("NAME", name), &a.header).await;
            (status, body.to_string().replace(&format!("public.{name}"), "public.NAME"))
        };
        let (hidden, nowhere) = (get("u").await, get("nosuch").await);
        assert_eq!(hidden, nowhere, "{path}");
        assert!(hidden.0 != 200 || path.starts_with("/v1/changes"), "{path} {hidden:?}");
    }
    // And so it is with columns.
    for path in [
        "/v1/changes?table=public.p&where=NAME%20%3D%20%27s1%27",
        "/v1/changes?table=public.p&columns=NAME",
        "/v1/snapshot?table=public.p&where=NAME%20%3D%20%27s1%27",
        "/v1/snapshot?table=public.p&columns=NAME",
    ] {
        let get = async |name: &str| {
            let (status, body) = world.get(&path.replace("NAME", name), &a.header).await;
            (status, body.to_string().replace(name, "NAME"))
        };
        let hidden = get("secret").await;
        assert_eq!(hidden, get("nosuch").await, "{path}");
        assert_eq!(hidden.0, 400, "{path} {hidden:?}");
    }
}

/// What is told of rows 7 and 8, which are to be told alike.
async fn assert_same(world: &World, who: &Token, query: &str, context: &str) -> (u16, Value) {
    let get = async |id: u64| {
        let (status, mut body) = world.get(&format!("/v1/rows/public.p/{id}{query}"), &who.header).await;
        body.as_object_mut().unwrap().remove("key");
        (status, body)
    };
    let (hidden, never) = (get(7).await, get(8).await);
    assert_eq!(hidden, never, "{context}: {query}");
    hidden
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_row_is_as_one_that_never_was_in_what_is_not_known_too() {
    let (mut world, p) = tenants("rules_never").await;
    let (a, b) = (of_tenant(&world, "a").await, of_tenant(&world, "b").await);
    let of_b = |note: &str| row(7, "b", "s", note);
    let truncate =
        || Change { operation: Operation::Truncate, row_key: None, data: None, ..insert(&p, 0, 0) };
    let first = world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&of_b("n1")))]).await;
    let reset = Change { table: Some(p.clone()), ..reset(&p, 0) };
    let reset = world.commit(FUTURE_XID, vec![reset]).await;
    let after = world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&of_b("n2")))]).await;
    let update = changed(&p, 7, Some(&of_b("n2")), Some(&of_b("n3")));
    let updated = world.commit(FUTURE_XID, vec![update]).await;
    let gone = world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&of_b("n3")), None)]).await;
    let truncated = world.commit(FUTURE_XID, vec![truncate()]).await;
    let last = world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&of_b("n4")))]).await;
    for (place, status) in
        [(first, 404), (reset, 410), (after, 410), (updated, 410), (gone, 410), (truncated, 404), (last, 404)]
    {
        let found = assert_same(&world, &a, &format!("?at={place}"), "of another").await;
        assert_eq!(found.0, status, "{place}: {}", found.1);
        let (_, body) = assert_same(&world, &a, &format!("/history?from={place}"), "from there").await;
        assert_eq!(body["has_more"], false, "{body}");
    }
    let (_, body) = assert_same(&world, &a, "/history", "all").await;
    let ops: Vec<_> = body["versions"].as_array().unwrap().iter().map(|it| it["op"].clone()).collect();
    assert_eq!(ops, ["reset", "truncate"], "{body}");
    let (status, body) = world.get(&format!("/v1/rows/public.p/7?at={updated}"), &b.header).await;
    assert_eq!((status, &body["data"]["note"]), (200, &json!("n3")), "{body}");

    // And where what was before is gone from history.
    let pruned = format!(
        "UPDATE waldelta.captures SET pruned_epoch = epoch, pruned_lsn = '{}', pruned_time = now()",
        waldelta_wal::Lsn(truncated.commit_lsn.0 + 1)
    );
    world.database.exec(&pruned).await;
    let (status, body) = assert_same(&world, &a, &format!("?at={last}"), "pruned").await;
    assert_eq!((status, &body["code"]), (410, &json!("WD-HISTORY-PRUNED")));
    let (status, body) = world.get(&format!("/v1/rows/public.p/7?at={last}"), &b.header).await;
    assert_eq!((status, &body["data"]["note"]), (200, &json!("n4")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_of_a_row_is_told_to_no_tenant() {
    let (mut world, p) = tenants("rules_skipped").await;
    let (a, all) = (of_tenant(&world, "a").await, token(&world, "all", |_| {}).await);
    let order = r#"{"by":"an operator","why":"it is broken"}"#;
    let skip = |table: &Arc<Table>| {
        let left_out = Change { operation: Operation::Skip, data: Some(order.into()), ..insert(table, 0, 7) };
        by("an operator", left_out)
    };
    let of_p = world.commit(FUTURE_XID, vec![skip(&p)]).await;
    let of_t = world.commit(FUTURE_XID, vec![skip(&world.t.clone())]).await;
    for query in ["", "/history", "/history?limit=1&patch=rfc6902"] {
        let (_, body) = assert_same(&world, &a, query, "left out").await;
        assert!(body.get("versions").is_none_or(|versions| *versions == json!([])), "{body}");
    }
    // Of a table of which every row may be seen it is told, and not who ordered it and why.
    let (_, body) = world.get("/v1/rows/public.t/7/history", &all.header).await;
    assert_eq!(body["versions"][0]["op"], "skip", "{body}");
    assert!(!body.to_string().contains("operator") && !body.to_string().contains("metadata"), "{body}");
    for place in [of_p, of_t] {
        for column in ["by", "why", "id"] {
            let get = async |index: u32| {
                let path = format!("/v1/values/{}/data/{column}", Position { index, ..place });
                world.get(&path, &a.header).await
            };
            assert_eq!(get(0).await, get(1).await, "{column}");
            assert_eq!(get(0).await.0, 404);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_its_rule_does_not_fit_is_not_there_by_any_name() {
    let (mut world, p) = tenants("rules_names").await;
    let rules =
        [("public.t", None), ("public.p", Some("nothing = :claims.tenant"))].map(|(table, filter)| Rule {
            table: table.into(),
            filter: filter.map(str::to_owned),
            ..Rule::default()
        });
    world.fanout.apply(Policy { rules: Rules::parse(&rules).unwrap(), ..Policy::default() });
    world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&row(7, "a", "s", "n")))]).await;
    world.commit_inserts(7..8).await;
    let a = of_tenant(&world, "a").await;
    let get = async |world: &World, name: &str, path: &str| {
        let (status, body) = world.get(&format!("/v1/rows/public.{name}/{path}"), &a.header).await;
        (status, body.to_string().replace(&format!("public.{name}"), "public.NAME"))
    };
    assert_eq!(get(&world, "t", "7").await.0, 200);
    let paths = ["7", "7/history", "%5B1,2,3%5D"];
    for path in paths {
        assert_eq!(get(&world, "p", path).await, get(&world, "nosuch", path).await, "{path}");
    }
    // It has another name now, by which nobody may see it.
    let mut renamed = Table::clone(&world.t);
    renamed.name.name = "renamed".into();
    let renamed = world.add_shape(renamed);
    world.commit(FUTURE_XID, vec![insert(&renamed, 0, 8)]).await;
    for path in paths {
        assert_eq!(get(&world, "t", path).await, get(&world, "nosuch", path).await, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_less_by_the_time_of_the_answer_gets_none() {
    let (mut world, p) = tenants("rules_late").await;
    let place = live(&mut world, &p).await[0];
    let a = of_tenant(&world, "a").await;
    let value = format!("/v1/values/{}/data/note", Position { index: 0, ..place });
    let as_of = format!("/v1/rows/public.p/7?at={place}");
    let narrower = |filter: &str| {
        let rule = Rule { table: "public.p".into(), filter: Some(filter.into()), ..Rule::default() };
        Policy { rules: Rules::parse(&[rule]).unwrap(), ..Policy::default() }
    };
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
        AND relation = 'waldelta.change_history'::regclass";
    for (filter, path) in
        [("id = 1", &value), ("id = 2", &as_of), ("id = 3", &"/v1/rows/public.p/7/history".to_owned())]
    {
        let lock = world.database.client().await;
        lock.batch_execute("BEGIN; LOCK TABLE waldelta.change_history IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        let change = async {
            let waits = async || world.database.query_text(waiting).await != "0";
            wait_until("the reading waits", PATIENCE, waits).await;
            world.fanout.apply(narrower(filter));
            lock.batch_execute("ROLLBACK").await.unwrap();
        };
        let ((status, body), ()) = tokio::join!(world.get(path, &a.header), change);
        assert_eq!((status, &body["code"]), (503, &json!("WD-PERMISSION-CHANGED")), "{path}: {body}");
    }
}
