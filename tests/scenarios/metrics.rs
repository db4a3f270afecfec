//! What a service measures: described to the last label, equal to what the status says, taken in by a real Prometheus, whose rules and whose
//! dashboard ask for nothing that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use waldelta_testkit::{HttpStream, Service, wait_until};

use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str =
    "CREATE TABLE item (id int PRIMARY KEY, value text); CREATE TABLE other (id int PRIMARY KEY)";
const LSNS: [&str; 5] = ["source", "received", "decoded", "durable", "reported"];

fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(of_repository(path)).unwrap()
}

/// A line of `/metrics`.
#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn series(text: &str) -> Vec<Series> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
            let labels = labels.map(|label| {
                let (name, value) = label.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            });
            Series { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
        })
        .collect()
}

/// The names of the reference page, with their labels.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once('`').unwrap();
        let labels = rest.split('|').nth(2).unwrap();
        (name.to_owned(), labels.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    })
    .collect()
}

async fn measured(service: &Service) -> Vec<Series> {
    series(&service.get("/metrics").await.1)
}

/// The value of the only series of this name with this label.
fn value(all: &[Series], name: &str, label: Option<(&str, &str)>) -> f64 {
    let has = |series: &&Series| {
        series.name == name
            && label.is_none_or(|(label, value)| series.labels.get(label).is_some_and(|is| is == value))
    };
    let found: Vec<&Series> = all.iter().filter(has).collect();
    let [one] = found[..] else { panic!("{name} with {label:?}: {found:?}") };
    one.value
}

fn lsn(text: &Value) -> f64 {
    text.as_str().unwrap().parse::<waldelta_wal::Lsn>().unwrap().0 as f64
}

/// A service with some work behind it, and a client.
async fn busy(hint: &str) -> Setting {
    let setting = Setting::new(hint, SCHEMA).await;
    let (mut socket, mut replica) = setting.client("reader").await;
    setting.source.exec("INSERT INTO item SELECT i, 'x' FROM generate_series(1, 150) i").await;
    setting.source.exec("UPDATE item SET value = 'y' WHERE id <= 7").await;
    setting.source.exec("INSERT INTO other VALUES (1)").await;
    setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    setting
}

#[tokio::test]
async fn all_of_it_is_described_with_its_labels_and_says_what_the_status_says() {
    let setting = busy("metrics").await;
    let (mut socket, mut replica) = setting.client("stays").await;
    let described = described();
    for Series { name, labels, .. } in measured(&setting.service).await {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = base.filter(|base| described.contains_key(*base)).unwrap_or(&name);
        let known =
            described.get(name).unwrap_or_else(|| panic!("{name} is not in docs/reference/metrics.md"));
        let labels: BTreeSet<String> = labels.into_keys().filter(|label| label != "le").collect();
        assert_eq!(&labels, known, "{name}");
    }

    // A quiet service says the same twice.
    setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    wait_until("both views were read between two moves", PATIENCE, async || {
        let status: Value = serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap();
        let all = measured(&setting.service).await;
        let capture = &status["capture"];
        LSNS.iter().all(|which| {
            let name = format!("waldelta_capture_{which}_lsn_bytes");
            lsn(&capture[format!("{which}_lsn")]) == value(&all, &name, None)
        })
    })
    .await;
    let status: Value = serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap();
    let (all, capture) = (measured(&setting.service).await, &status["capture"]);
    for (name, field) in [("transactions_total", "transactions"), ("changes_total", "changes")] {
        assert_eq!(
            value(&all, &format!("waldelta_capture_{name}"), None),
            capture[field].as_f64().unwrap(),
            "{name}"
        );
    }
    let live = status["sessions"].as_array().unwrap().iter().filter(|session| session["state"] == "live");
    assert_eq!(value(&all, "waldelta_fanout_sessions", Some(("state", "live"))), live.count() as f64);
    let tables = status["tables"].as_array().unwrap();
    let told: Vec<(&str, u64)> = tables
        .iter()
        .map(|table| (table["table"].as_str().unwrap(), table["changes"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("public.item", 157), ("public.other", 1)]);
    for (table, changes) in told {
        let counted = value(&all, "waldelta_capture_table_changes_total", Some(("table", table)));
        assert_eq!(counted, changes as f64, "{table}");
    }
    // Those of 150, 7 and 1 changes.
    let sizes = |le| value(&all, "waldelta_capture_transaction_changes_bucket", Some(("le", le)));
    assert_eq!((sizes("1"), sizes("10"), sizes("100"), sizes("1000")), (1.0, 2.0, 2.0, 3.0));
}

/// Ended when it is dropped.
struct Prometheus {
    process: Child,
    address: String,
    folder: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    fn start(scraped: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (address, folder) =
            (format!("127.0.0.1:{port}"), std::env::temp_dir().join(format!("waldelta-prometheus-{port}")));
        std::fs::create_dir_all(&folder).unwrap();
        let rules = of_repository("deploy/prometheus/waldelta.rules.yml").canonicalize().unwrap();
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: waldelta, static_configs: [{{targets: ['{scraped}']}}]}}]\n",
            rules.display()
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("start prometheus");
        Prometheus { process, address, folder }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = HttpStream::get(&self.address, path, "").await;
        // It says in words that it is not ready yet.
        serde_json::from_str(&answer.body(PATIENCE).await).unwrap_or_default()
    }

    async fn query(&self, expr: &str) -> Value {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={encoded}")).await
    }
}

#[tokio::test]
async fn prometheus_takes_it_in_with_the_rules_and_every_line_of_the_dashboard() {
    let rules = of_repository("deploy/prometheus/waldelta.rules.yml");
    let checked =
        Command::new("promtool").args(["check", "rules"]).arg(rules).output().expect("run promtool");
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );

    let setting = busy("prometheus").await;
    let _client = setting.client("stays").await;
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", setting.service.port()));
    wait_until("prometheus listens", PATIENCE, async || {
        tokio::net::TcpStream::connect(&prometheus.address).await.is_ok()
    })
    .await;
    wait_until("it has asked the service", PATIENCE, async || {
        prometheus.query("waldelta_build_info").await["data"]["result"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    })
    .await;
    wait_until("the rules were evaluated, and nothing is wrong but what is", PATIENCE, async || {
        let groups = prometheus.get("/api/v1/rules").await;
        let rules = groups["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive")
    })
    .await;

    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/waldelta.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let lines = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |line: &Value| {
        let expr = line["expr"].as_str().unwrap().replace("$job", ".*").replace("$instance", ".*");
        expr.replace("$__rate_interval", "5s")
    };
    let lines: Vec<String> = lines.map(filled).collect();
    assert!(lines.len() > 80, "{} lines", lines.len());
    // Not all that can be measured happens here, and a rate needs two answers.
    wait_until("nearly half of the lines have data", PATIENCE, async || {
        let mut with_data = 0;
        for line in &lines {
            let answer = prometheus.query(line).await;
            assert_eq!(answer["status"], "success", "{line}: {answer}");
            with_data += usize::from(!answer["data"]["result"].as_array().unwrap().is_empty());
        }
        with_data * 5 > lines.len() * 2
    })
    .await;
}
