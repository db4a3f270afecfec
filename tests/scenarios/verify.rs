//! What is sealed and altered afterwards is found by `waldelta verify`, which fails then and says where; a restart seals on.

use waldelta_testkit::wait_until;

use crate::setting::{PATIENCE, Setting, config_file, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, v text)";
/// Whether all that is stored is sealed.
const SEALED: &str = "SELECT coalesce((SELECT sum(changes) FROM waldelta.seals) = (SELECT count(*) FROM waldelta.change_history), false)";

#[tokio::test]
async fn what_is_altered_behind_its_back_is_found() {
    let mut setting = Setting::new("verify", SCHEMA).await;
    let verify = |setting: &Setting, more: &[&str]| {
        let mut args = with_databases(&["verify"], &setting.source, &setting.history);
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args
    };
    setting.source.exec("INSERT INTO a SELECT i, 'x' FROM generate_series(1, 100) i").await;
    setting.settled().await;
    let (code, answer, error) = waldelta(&verify(&setting, &[]));
    assert_eq!(code, Some(1), "nothing is sealed, and that is no success: {answer}");
    assert!(
        error.contains("WD-HISTORY-UNSEALED") && answer.contains("not sealed yet: 100 changes"),
        "{answer}{error}"
    );

    // It seals when it starts, and from then on once a minute.
    let config = config_file("[history]\nseal = true\n");
    setting.service.stop().await;
    setting.service.start_again_with(config.add_to(setting.run_options())).await;
    wait_until("it is sealed", PATIENCE, async || setting.history.query_text(SEALED).await == "t").await;
    let good = waldelta_ok(&verify(&setting, &[]));
    assert!(good.contains("100 changes in 1 of 1 seals are as they were sealed"), "{good}");
    let first = good.lines().find_map(|line| line.strip_prefix("newest seal: ")).unwrap().to_owned();
    let status = async || -> serde_json::Value {
        serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap()
    };
    let is_told = async || status().await["history"]["sealed"]["seal"] == first.as_str();
    wait_until("the status has the newest seal", PATIENCE, is_told).await;

    setting.source.exec("UPDATE a SET v = 'y' WHERE id <= 10").await;
    setting.settled().await;
    setting.service.stop().await;
    setting.service.start_again().await;
    wait_until("it seals on", PATIENCE, async || setting.history.query_text(SEALED).await == "t").await;
    let report = waldelta_ok(&verify(&setting, &["--json", "--expect", &first]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["noted"], &report["epochs"][0]["good_changes"]),
        (&"same".into(), &110.into()),
        "{report}"
    );

    let altered = "UPDATE waldelta.change_history SET data = jsonb_set(data, '{v}', '\"z\"') WHERE row_key = '[5]' AND operation = 'update'";
    setting.history.exec(altered).await;
    let (code, answer, error) = waldelta(&verify(&setting, &[]));
    assert_eq!(code, Some(1), "{answer}{error}");
    assert!(error.contains("WD-HISTORY-ALTERED") && error.contains("seal 2"), "{error}");
    assert!(answer.contains("as many changes as were sealed, 10, but not the same"), "{answer}");
    // No value of a row is told.
    assert!(
        ![&answer, &error].iter().any(|text| text.contains("[5]") || text.contains("\"z\"")),
        "{answer}{error}"
    );

    // What became of the chain is found by who has noted a seal of it.
    setting.history.exec("DELETE FROM waldelta.seals").await;
    let (code, _, error) = waldelta(&verify(&setting, &["--expect", &first]));
    assert_eq!((code, error.contains("WD-HISTORY-ALTERED")), (Some(1), true), "{error}");
}
