//! A change that cannot be stored stops capture, by name and with the command that leaves it out; once that is ordered, all
//! else goes on, and what was left out is mended like any table that needs repair.

use waldelta_testkit::wait_until;

use crate::setting::{PATIENCE, Setting, waldelta_ok, with_databases};
use crate::stops::{epochs, status, stays_over_a_restart, stopped, streaming};

const SCHEMA: &str =
    "CREATE TABLE item (id int PRIMARY KEY, value text); CREATE TABLE other (id int PRIMARY KEY)";
const TABLES: [&str; 2] = ["public.item", "public.other"];
const CODE: &str = "WD-POISON-ROW";
/// History's database refuses a value: as it does what jsonb cannot hold, but for less than a quarter of a gigabyte.
const REFUSE: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'this value is refused' USING ERRCODE = 'untranslatable_character'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON waldelta.change_history FOR EACH ROW
        WHEN (NEW.data->>'value' = 'poison') EXECUTE FUNCTION refuse()";

/// The words of the `waldelta skip` that the state names.
fn ordered(message: &str) -> Vec<String> {
    let (_, command) =
        message.split_once("waldelta skip ").unwrap_or_else(|| panic!("no command: {message}"));
    let mut words = vec!["skip".to_owned()];
    let mut rest = command.split_whitespace().peekable();
    while let Some(flag) = rest.next_if(|word| ["--lsn", "--seq"].contains(word)) {
        words.extend([flag.to_owned(), rest.next().unwrap().trim_matches([',', '.', '`', ';']).to_owned()]);
    }
    words.extend(["--why", "known to be broken", "--by", "the scenario"].map(str::to_owned));
    words
}

#[tokio::test]
async fn of_a_row_that_history_refuses() {
    let mut setting = Setting::new("skip", SCHEMA).await;
    let (mut here, mut replica) = setting.client("here").await;
    setting.source.exec("INSERT INTO item VALUES (1, 'before')").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    setting.history.exec(REFUSE).await;
    setting
        .source
        .exec("BEGIN; INSERT INTO other VALUES (1); INSERT INTO item VALUES (2, 'poison'); INSERT INTO other VALUES (2); COMMIT")
        .await;
    setting.source.exec("INSERT INTO item VALUES (3, 'after')").await;
    let capture = stopped(&setting, "poison", CODE).await;
    let told = format!("{} {}", capture["message"], capture["fix"]);
    println!("{told}");
    assert!(told.contains("public.item") && told.contains("[2]"), "{told}");
    drop(here);
    stays_over_a_restart(&mut setting, "poison", CODE).await;

    let words = ordered(capture["message"].as_str().unwrap());
    assert!(words.contains(&"--lsn".to_owned()) && words.contains(&"--seq".to_owned()), "{words:?}");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    println!("{}", waldelta_ok(&with_databases(&words, &setting.source, &setting.history)));
    streaming(&setting).await;
    setting.source.exec("INSERT INTO item VALUES (4, 'goes on')").await;
    setting.settled().await;
    // Everything else of the transaction is there; in the place of the change stands who left it out, and why.
    assert!(!setting.service.log().contains("DETAIL"), "details hold values of rows");
    let of_transaction =
        "SELECT string_agg(operation || coalesce(row_key, ''), ' ' ORDER BY seq) FROM waldelta.change_history
                          WHERE lsn = (SELECT lsn FROM waldelta.change_history WHERE operation = 'skip')";
    let stored = setting.history.query_text(of_transaction).await;
    assert!(stored.starts_with("insert[1] skip") && stored.ends_with("insert[2]"), "{stored}");
    let why = setting
        .history
        .query_text("SELECT data::text FROM waldelta.change_history WHERE operation = 'skip'")
        .await;
    assert!(
        why.contains("known to be broken") && why.contains("the scenario") && !why.contains("poison"),
        "{why}"
    );
    assert_eq!(epochs(&setting).await, 1);
    setting.history_is_gapless().await;

    // The table lacks a row now: it needs repair, and gets it.
    wait_until("it needs repair", PATIENCE, async || {
        status(&setting).await["needs_repair"][0]["table"] == "public.item"
    })
    .await;
    let mut here = setting.resume("here", &mut replica).await;
    assert_eq!(replica.resets(), [""; 0]);
    waldelta_ok(&with_databases(&["recover", "--yes"], &setting.source, &setting.history));
    let once = |replica: &waldelta_testkit::Replica| replica.resets() == ["gap"] && replica.is_live();
    here.follow(&mut replica, "it is reset", PATIENCE, once).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.rows("public.item").len(), 4);
}

/// The source itself cannot send it: in this encoding bytes are legal that stand for no character.
#[tokio::test]
async fn of_a_transaction_that_the_source_cannot_decode() {
    const CODE: &str = "WD-SOURCE-CANNOT-DECODE";
    let source = waldelta_testkit::TestDatabase::create_in_encoding("skip_source", "WIN1252").await;
    let history = waldelta_testkit::TestDatabase::create("skip_source_h").await;
    let setting = Setting::over(source, history, SCHEMA).await;
    setting
        .source
        .exec(
            "DO $$ BEGIN INSERT INTO item VALUES (1, 'before'); COMMIT;
             INSERT INTO other VALUES (1); INSERT INTO item VALUES (2, 'x' || chr(129)); COMMIT;
             INSERT INTO item VALUES (3, 'after'); END $$",
        )
        .await;
    let capture = stopped(&setting, "poison", CODE).await;
    let words = ordered(capture["message"].as_str().unwrap());
    assert!(!words.contains(&"--seq".to_owned()), "the whole of it: {words:?}");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    waldelta_ok(&with_databases(&words, &setting.source, &setting.history));
    streaming(&setting).await;
    setting.settled().await;
    let stored = "SELECT string_agg(operation || coalesce(row_key, ''), ' ' ORDER BY lsn, seq) FROM waldelta.change_history
                  WHERE operation IN ('insert', 'skip')";
    assert_eq!(setting.history.query_text(stored).await, "insert[1] skip insert[3]");
    let repair = status(&setting).await["needs_repair"].take();
    assert_eq!(repair.as_array().unwrap().len(), 2, "any table may have been in it: {repair}");
    // What cannot be read stays so: it is taken away, then the tables are read afresh.
    setting.source.exec("DELETE FROM item WHERE id = 2").await;
    waldelta_ok(&with_databases(&["recover", "--yes"], &setting.source, &setting.history));
    let (mut here, mut replica) = setting.client("here").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    wait_until("nothing needs repair", PATIENCE, async || {
        status(&setting).await["needs_repair"].as_array().unwrap().is_empty()
    })
    .await;
}
