//! What a grant shows is what PostgreSQL says that it shows: random rules with claims, over random rows and updates of them, for
//! random identities, with filters of the clients' own.
//!
//! PostgreSQL is asked with the claims' values written into the SQL by the test itself.

use serde_json::{Value, json};
use waldelta_wal::{Change, Operation, ReplicaIdentity};

use super::*;
use crate::rules::{Grant, Rules};
use crate::subscription::{Route, Selection, Telling};
use crate::testing::{change, filtered, identity, rule, subscription};

const RULES: usize = 80;
/// Updates for each rule.
const UPDATES: usize = 60;

/// A rule, somebody whom it gives something, and what that is.
struct Policy {
    rule: String,
    claims: Value,
    sql: String,
}

/// One comparison with a claim, or two, and a filter without any.
fn policy(dice: &mut Dice) -> Policy {
    let [one, two] = ["one", "two"].map(|name| random::claimed(dice, name));
    let fixed = loop {
        let wish = random::filter(dice, 1);
        if wish.is_sql {
            break wish.text;
        }
    };
    let join = |one: &str, two: &str, form: usize| match form {
        0 => one.to_owned(),
        1 => format!("{one} OR {two}"),
        2 => format!("NOT ({one} AND {two})"),
        3 => format!("{one} AND ({fixed})"),
        _ => format!("({one} OR ({fixed})) AND NOT ({two})"),
    };
    let form = dice.index(5);
    let uses_two = !matches!(form, 0 | 3);
    Policy {
        rule: join(&one.rule, &two.rule, form),
        sql: join(&one.sql, &two.sql, form),
        claims: if uses_two {
            json!({"one": one.claim, "two": two.claim})
        } else {
            json!({"one": one.claim})
        },
    }
}

impl Policy {
    fn rules(&self) -> Rules {
        Rules::parse(&[rule("t", None, Some(&self.rule))])
            .unwrap_or_else(|error| panic!("{error}: {}", self.rule))
    }

    fn grant(&self, claims: &Value) -> Grant {
        self.rules().grant(Some(&identity(claims.clone())))
    }

    /// Without any one of the claims it gives nothing, whatever it says beside.
    fn check_missing(&self, table: &Table) {
        for name in self.claims.as_object().unwrap().keys() {
            for nothing in [Value::Null, json!({}), json!([]), json!([[1]])] {
                let mut claims = self.claims.clone();
                claims[name] = nothing;
                assert!(self.grant(&claims).permission(table).is_none(), "{} {claims}", self.rule);
            }
            let mut claims = self.claims.clone();
            claims.as_object_mut().unwrap().remove(name);
            assert!(self.grant(&claims).permission(table).is_none(), "{} {claims}", self.rule);
        }
    }
}

/// An image's row under another key.
fn under_key(image: &[u8], id: u16) -> String {
    let members = json::members(image).map(|(name, value)| {
        let value =
            if name == b"\"id\"" { id.to_string() } else { String::from_utf8(value.to_vec()).unwrap() };
        format!("{}:{value}", String::from_utf8_lossy(name))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// Some of an image's values, always the key.
fn part_of(image: &str, dice: &mut Dice) -> String {
    let members = json::members(image.as_bytes()).filter(|(name, _)| *name == b"\"id\"" || !dice.once_in(3));
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
    format!(
        "{{{}}}",
        members.map(|(name, value)| format!("{}:{}", text(name), text(value))).collect::<Vec<_>>().join(",")
    )
}

/// As what a change is told: an insert, an update, a delete of the row before (by its key), or both of the latter.
fn op(telling: Option<&Telling<'_>>) -> &'static str {
    match telling {
        None => "nothing",
        Some(Telling::Insert(_)) => "insert",
        Some(Telling::Update(_)) => "update",
        Some(Telling::Delete { .. }) => "delete",
        Some(Telling::Moved { .. }) => "moved",
        Some(other) => panic!("{other:?}"),
    }
}

struct Checked<'a> {
    world: &'a World,
    table: Arc<Table>,
    route: Route,
    /// Rows that may be seen, and of these the ones that are asked for too, by PostgreSQL.
    permitted: Vec<u16>,
    selected: Vec<u16>,
}

impl Checked<'_> {
    fn id(&self, image: &[u8]) -> u16 {
        std::str::from_utf8(self.world.row(image).value(0).unwrap()).unwrap().parse().unwrap()
    }

    /// A change of a random row into another, under its own key or the other's.
    fn check(&self, dice: &mut Dice) -> &'static str {
        let images = &self.world.images;
        let [old, new] = [0, 1].map(|_| &images[dice.index(images.len())]);
        let (from, to) = (self.id(old), self.id(new));
        let key = if dice.once_in(2) { from } else { to };
        let (old, new) = (under_key(old, from), under_key(new, key));
        let update = Change {
            row_key: Some(format!("[{key}]").into()),
            data: Some(new.clone().into()),
            old_data: Some(old.clone().into()),
            ..change(0, Operation::Update, &self.table, i64::from(key))
        };
        let (before, after) = (self.selected.contains(&from), self.selected.contains(&to));
        let expected = match (before, after) {
            (false, false) => "nothing",
            (false, true) => "insert",
            (true, false) => "delete",
            (true, true) if from == key => "update",
            (true, true) => "moved",
        };
        assert_eq!(op(self.route.telling(&update).as_ref()), expected, "{old} {new}");
        let insert = Change { operation: Operation::Insert, old_data: None, ..update.clone() };
        assert_eq!(self.route.telling(&insert).is_some(), after, "{new}");
        let delete = Change { operation: Operation::Delete, data: None, ..update.clone() };
        assert_eq!(self.route.telling(&delete).is_some(), before, "{old}");

        // With less than whole images nothing comes out that may not be seen.
        let partial = Change {
            data: Some(part_of(&new, dice).into()),
            old_data: Some(part_of(&old, dice).into()),
            ..update
        };
        let (before, after) = (self.permitted.contains(&from), self.permitted.contains(&to));
        let told = op(self.route.telling(&partial).as_ref());
        let allowed = match told {
            "nothing" => true,
            "insert" => after,
            "delete" => before,
            _ => before && after,
        };
        assert!(allowed, "{told}: {partial:?}");
        expected
    }
}

#[tokio::test]
async fn what_a_grant_shows_is_what_postgresql_says_that_it_shows() {
    let mut dice = Dice::of(seed(), "filters");
    let world = World::new(&mut dice).await;
    let table = Arc::new(Table { identity: ReplicaIdentity::Full, ..(*world.table).clone() });
    let client = world.database.client().await;
    client.batch_execute("SET jit = off; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'").await.unwrap();
    let mut tellings = std::collections::BTreeMap::new();
    for _ in 0..RULES {
        let policy = policy(&mut dice);
        let own = loop {
            let wish = random::filter(&mut dice, 1);
            if wish.is_sql {
                break dice.once_in(2).then_some(wish.text);
            }
        };
        policy.check_missing(&table);
        let one = match &own {
            Some(own) => filtered("a", "t", own),
            None => subscription("a", "public.*"),
        };
        let selection = Selection::new(vec![one], policy.grant(&policy.claims));
        let route = selection.route(Some(&table)).unwrap().unwrap_or_else(|| panic!("{}", policy.rule));
        let read = route.sql().unwrap();
        let both = format!("({}) AND ({})", policy.sql, own.as_deref().unwrap_or("true"));
        let found = world.selected(&client, &[&policy.sql, &both, &read]).await;
        let [permitted, selected, read] = <[Vec<u16>; 3]>::try_from(found).unwrap();
        assert_eq!(read, selected, "a snapshot: {}", policy.rule);
        let checked = Checked { world: &world, table: table.clone(), route, permitted, selected };
        for _ in 0..UPDATES {
            *tellings.entry(checked.check(&mut dice)).or_insert(0) += 1;
        }
    }
    for op in ["nothing", "insert", "update", "delete", "moved"] {
        let count = tellings.get(op).copied().unwrap_or(0);
        assert!(count > RULES * UPDATES / 200, "{tellings:?}: hardly any is told as {op}");
    }
}
