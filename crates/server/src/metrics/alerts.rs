//! What to be alarmed by: rules for Prometheus, and the page that says what each means and what to do. Both are made from this list.

use waldelta_testkit::generated;

use super::registry::described;

struct Alert {
    name: &'static str,
    expr: &'static str,
    /// So long it has to be the case.
    lasts: &'static str,
    severity: &'static str,
    /// What is the case, in a sentence; `{{ $value }}` is the expression's.
    summary: &'static str,
    /// What follows from it, and what to do.
    runbook: &'static str,
}

const ALERTS: &[Alert] = &[
    Alert {
        name: "WaldeltaAbsent",
        expr: "absent(waldelta_build_info)",
        lasts: "5m",
        severity: "critical",
        summary: "No Waldelta is there to be asked.",
        runbook: "Nobody reads the slot, which keeps WAL at the source until somebody does. Look whether the process runs \
                  (`/livez`, its log, its exit code: see [the command line](cli.md)), and whether Prometheus reaches `/metrics`.",
    },
    Alert {
        name: "WaldeltaNobodyCaptures",
        expr: "sum by (job) (waldelta_capture_state{state=\"streaming\"}) == 0",
        lasts: "5m",
        severity: "critical",
        summary: "No process of {{ $labels.job }} streams from the source.",
        runbook: "Clients are served with what is durable; nothing new comes, and the slot keeps WAL. `waldelta status` names the \
                  state that capture is in, and its fix: see [states](states.md).",
    },
    Alert {
        name: "WaldeltaCaptureStopped",
        expr: "waldelta_capture_state{state=\"stopped\"} == 1",
        lasts: "1m",
        severity: "critical",
        summary: "Capture has stopped on {{ $labels.instance }} and needs a decision.",
        runbook: "It goes on by itself in none of these states, because that could lose something silently. `waldelta recover` says \
                  what is the case and what would help; [states](states.md) has all of them.",
    },
    Alert {
        name: "WaldeltaNeedsRepair",
        expr: "waldelta_capture_tables_needing_repair > 0",
        lasts: "10m",
        severity: "warning",
        summary: "{{ $value }} tables have rows that changed in a way that history has no changes of.",
        runbook: "`waldelta status` names them with the reason. Capture goes on, theirs too; `waldelta recover --yes` closes the gap: \
                  clients get these tables anew.",
    },
    Alert {
        name: "WaldeltaSlotInactive",
        expr: "max by (job) (waldelta_slot_active) == 0",
        lasts: "5m",
        severity: "critical",
        summary: "Nobody reads the slot of {{ $labels.job }}.",
        runbook: "It keeps all WAL from here on: without a limit until the source's disk is full, with one until the slot is lost. \
                  Start a process that captures, or see why the one that runs does not (`waldelta status`).",
    },
    Alert {
        name: "WaldeltaSlotRetainsMuch",
        expr: "waldelta_slot_verdict{verdict=\"warning\"} == 1",
        lasts: "10m",
        severity: "warning",
        summary: "The slot retains much WAL at the source, or falls behind.",
        runbook: "`waldelta status` says how much, how fast it grows and what mends it; mostly history is slower than the source \
                  writes, or a transaction at the source has been open for long.",
    },
    Alert {
        name: "WaldeltaSlotCritical",
        expr: "waldelta_slot_verdict{verdict=~\"critical|lost\"} == 1",
        lasts: "1m",
        severity: "critical",
        summary: "The slot is lost, or soon will be.",
        runbook: "Raise `max_slot_wal_keep_size` at the source (it takes effect at a reload) if its disk has room, and see why capture \
                  is behind. A lost slot can never be read again: `waldelta recover` then says how to go on.",
    },
    Alert {
        name: "WaldeltaSlotLostSoon",
        expr: "waldelta_slot_seconds_until_lost < 3600",
        lasts: "2m",
        severity: "critical",
        summary: "The slot is lost in {{ $value | humanizeDuration }}, if nobody reads it.",
        runbook: "As for WaldeltaSlotCritical.",
    },
    Alert {
        name: "WaldeltaLag",
        expr: "waldelta_capture_lag_seconds > 60",
        lasts: "5m",
        severity: "warning",
        summary: "History on {{ $labels.instance }} is {{ $value | humanizeDuration }} behind the source.",
        runbook: "`waldelta_capture_stage_lag_bytes` says where: *receive*: the source sends slowly (a large transaction, its network, its \
                  load); *decode*: a large transaction is on its way; *store*: history is slow; *report*: nothing is wrong but that the slot \
                  was not told yet.",
    },
    Alert {
        name: "WaldeltaCanaryMissing",
        expr: "waldelta_capture_canary_alive == 0",
        lasts: "5m",
        severity: "warning",
        summary: "The canary cannot be updated at the source.",
        runbook: "Changes are captured all the same, but the lag of an idle source is not known in seconds, and a publication that was \
                  lost is noticed later. `waldelta doctor` prints the statement that the source's administrator has to run.",
    },
    Alert {
        name: "WaldeltaAppendsFail",
        expr: "increase(waldelta_capture_append_failures_total[10m]) > 2 or increase(waldelta_capture_stalls_total[10m]) > 0",
        lasts: "1m",
        severity: "critical",
        summary: "History does not take in what is captured.",
        runbook: "Nothing is lost: it comes again from the slot, which keeps WAL meanwhile. The log has history's words; mostly its \
                  disk is full, or it is not reached.",
    },
    Alert {
        name: "WaldeltaErrors",
        expr: "sum by (instance, code) (increase(waldelta_problems_total{level=\"error\"}[10m])) > 0",
        lasts: "1m",
        severity: "warning",
        summary: "{{ $labels.instance }} has logged errors: {{ $labels.code }}.",
        runbook: "Each code has its cause and its fix in [errors](errors.md).",
    },
    Alert {
        name: "WaldeltaHistoryUnwritten",
        expr: "waldelta_writer_state{state=~\"absent|not_begun\"} == 1",
        lasts: "2m",
        severity: "critical",
        summary: "Nobody writes the history that {{ $labels.instance }} serves.",
        runbook: "Clients get what is durable and nothing new. Start a process with the role `capture` or `all`: see [standby](standby.md).",
    },
    Alert {
        name: "WaldeltaSessionsEvicted",
        expr: "increase(waldelta_fanout_evictions_total[10m]) > 10",
        lasts: "5m",
        severity: "warning",
        summary: "{{ $value | humanize }} sessions were let go in ten minutes because they were too slow.",
        runbook: "Each comes back and resumes where it was. Many at once: the network between, or this machine, is overloaded. The \
                  bound is `server.write_timeout_ms`.",
    },
    Alert {
        name: "WaldeltaDeliverySlow",
        expr: "histogram_quantile(0.99, sum by (job, le) (rate(waldelta_fanout_commit_to_socket_seconds_bucket[5m]))) > 5",
        lasts: "10m",
        severity: "warning",
        summary: "One of a hundred writes to live clients comes {{ $value | humanizeDuration }} after its commit.",
        runbook: "Where WaldeltaLag is on too it is that. Else compare with `waldelta_fanout_delivery_seconds`, which begins where a \
                  transaction is durable: where that is small, the two machines' clocks differ.",
    },
    Alert {
        name: "WaldeltaTurnedAway",
        expr: "sum by (instance, code) (rate(waldelta_fanout_turned_away_total[5m])) > 1",
        lasts: "10m",
        severity: "warning",
        summary: "More than one client a second is not let in: {{ $labels.code }}.",
        runbook: "The code has its cause in [errors](errors.md); from where, `waldelta` has noted in the audit: see \
                  [audit](../how-to/audit.md).",
    },
    Alert {
        name: "WaldeltaConfigRefused",
        expr: "increase(waldelta_config_reloads_total{result=\"refused\"}[15m]) > 0",
        lasts: "0m",
        severity: "warning",
        summary: "The configuration of {{ $labels.instance }} was read again and is not taken.",
        runbook: "What was in force before still is. `waldelta status` says where the file is wrong.",
    },
    Alert {
        name: "WaldeltaFilesShort",
        expr: "process_open_fds / process_max_fds > 0.9 and on (instance) waldelta_build_info",
        lasts: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }} has used up nine tenths of its open files.",
        runbook: "Each client is one. Raise the limit of open files of the service, or serve with one process more.",
    },
];

const PAGE_HEAD: &str = "\
# Alerts

<!-- Made from crates/server/src/metrics/alerts.rs by `make docs`. -->

The rules are in [deploy/prometheus/waldelta.rules.yml](../../deploy/prometheus/waldelta.rules.yml): name it under `rule_files` of Prometheus.
*critical*: something is lost, or nothing comes, unless somebody acts soon. *warning*: somebody should look by day. The same states also go
out by themselves, without Prometheus: see [being told](../how-to/notify.md).
";

#[test]
fn rules_and_page_are_made_of_this_list() {
    let mut rules = String::from(
        "# Made from crates/server/src/metrics/alerts.rs by `make docs`.\ngroups:\n  - name: waldelta\n    rules:\n",
    );
    for alert in ALERTS {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        rules.push_str(&format!(
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          \
             summary: {}\n          runbook: {}\n          runbook_url: {}\n",
            alert.name,
            quoted(alert.expr),
            alert.lasts,
            alert.severity,
            quoted(alert.summary),
            quoted(alert.runbook),
            quoted(&format!("docs/reference/alerts.md#{}", alert.name.to_lowercase())),
        ));
    }
    generated("deploy/prometheus/waldelta.rules.yml", &rules);
    // A chart has in it what it reads.
    generated("deploy/helm/waldelta/waldelta.rules.yml", &rules);

    let mut page = PAGE_HEAD.to_owned();
    for Alert { name, expr, lasts, severity, summary, runbook } in ALERTS {
        page.push_str(&format!(
            "\n## {name}\n\n{summary} *{severity}*, after {lasts} of:\n\n```promql\n{expr}\n```\n\n{runbook}\n"
        ));
    }
    generated("docs/reference/alerts.md", &page);
}

#[test]
fn each_alert_is_of_metrics_that_there_are() {
    let described = described();
    for alert in ALERTS {
        let names = super::dashboard::names_in(alert.expr);
        assert!(!names.is_empty(), "{}", alert.name);
        for name in names {
            assert!(described.contains_key(&name), "{}: {name}", alert.name);
        }
    }
}
