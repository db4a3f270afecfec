//! The dashboard for Grafana, made from this list of panels. Every metric is in one of them.

use serde_json::{Value, json};

use waldelta_testkit::generated;

use super::registry::described;

/// A panel: its title, the unit of its axis (as Grafana calls it), and its lines, each with its legend.
struct Panel {
    title: &'static str,
    unit: &'static str,
    lines: &'static [(&'static str, &'static str)],
}

const fn panel(
    title: &'static str,
    unit: &'static str,
    lines: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, unit, lines }
}

/// Rows of panels. `$here` is what the variables select.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "At a glance",
        &[
            panel(
                "State of capture",
                "short",
                &[("waldelta_capture_named_state{$here} == 1", "{{instance}} {{name}}")],
            ),
            panel("Lag", "s", &[("waldelta_capture_lag_seconds{$here}", "{{instance}}")]),
            panel(
                "Commit to socket",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(waldelta_fanout_commit_to_socket_seconds_bucket{$here}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(waldelta_fanout_commit_to_socket_seconds_bucket{$here}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            panel("Sessions", "short", &[("sum by (state) (waldelta_fanout_sessions{$here})", "{{state}}")]),
            panel(
                "Warnings and errors",
                "short",
                &[(
                    "sum by (level, code) (increase(waldelta_problems_total{$here}[$__rate_interval]))",
                    "{{level}} {{code}}",
                )],
            ),
            panel(
                "Tables that need repair, and that are being added",
                "short",
                &[
                    ("waldelta_capture_tables_needing_repair{$here}", "{{instance}} need repair"),
                    ("waldelta_capture_tables_joining{$here}", "{{instance}} being added"),
                    ("waldelta_history_open_gaps{$here}", "{{instance}} open gaps"),
                ],
            ),
        ],
    ),
    (
        "The slot, and the source",
        &[
            panel(
                "WAL that the slot retains, and may still",
                "bytes",
                &[
                    ("waldelta_slot_retained_bytes{$here}", "retained"),
                    ("waldelta_slot_safe_bytes{$here}", "room left"),
                ],
            ),
            panel(
                "Until the slot is lost, if nobody reads it",
                "s",
                &[("waldelta_slot_seconds_until_lost{$here}", "{{instance}}")],
            ),
            panel(
                "State of the slot",
                "short",
                &[
                    ("waldelta_slot_verdict{$here} == 1", "{{verdict}}"),
                    ("waldelta_slot_wal_status{$here} == 1", "{{wal_status}}"),
                    ("waldelta_slot_active{$here}", "read by somebody"),
                ],
            ),
            panel(
                "WAL that the source writes",
                "Bps",
                &[("waldelta_source_wal_bytes_per_second{$here}", "{{instance}}")],
            ),
            panel(
                "Signs of life",
                "short",
                &[
                    ("waldelta_capture_canary_alive{$here}", "{{instance}} canary"),
                    (
                        "time() - waldelta_capture_last_commit_timestamp_seconds{$here}",
                        "{{instance}} seconds since the last commit stored",
                    ),
                ],
            ),
        ],
    ),
    (
        "From the source into history",
        &[
            panel(
                "Changes stored",
                "cps",
                &[
                    ("rate(waldelta_capture_changes_total{$here}[$__rate_interval])", "changes"),
                    ("rate(waldelta_capture_transactions_total{$here}[$__rate_interval])", "transactions"),
                    ("rate(waldelta_history_appended_rows_total{$here}[$__rate_interval])", "rows appended"),
                ],
            ),
            panel(
                "Changes by table",
                "cps",
                &[(
                    "topk(10, sum by (table) (rate(waldelta_capture_table_changes_total{$here}[$__rate_interval])))",
                    "{{table}}",
                )],
            ),
            panel(
                "Lag by stage",
                "bytes",
                &[
                    ("waldelta_capture_stage_lag_bytes{$here}", "{{instance}} {{stage}}"),
                    ("waldelta_capture_lag_bytes{$here}", "{{instance}} in all"),
                ],
            ),
            panel(
                "Lag by stage, in time",
                "s",
                &[("waldelta_capture_stage_lag_seconds{$here}", "{{instance}} {{stage}}")],
            ),
            panel(
                "Where each stage is in the WAL",
                "bytes",
                &[
                    ("waldelta_capture_source_lsn_bytes{$here}", "source"),
                    ("waldelta_capture_received_lsn_bytes{$here}", "received"),
                    ("waldelta_capture_decoded_lsn_bytes{$here}", "decoded"),
                    ("waldelta_capture_durable_lsn_bytes{$here}", "durable"),
                    ("waldelta_history_durable_lsn_bytes{$here}", "durable, as history has it"),
                    ("waldelta_capture_reported_lsn_bytes{$here}", "reported"),
                ],
            ),
            panel(
                "Time of an append",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(waldelta_history_append_duration_seconds_bucket{$here}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(waldelta_history_append_duration_seconds_bucket{$here}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            panel(
                "Changes of a transaction",
                "short",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(waldelta_capture_transaction_changes_bucket{$here}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(waldelta_capture_transaction_changes_bucket{$here}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            panel(
                "Bytes sent to history",
                "Bps",
                &[("rate(waldelta_history_appended_bytes_total{$here}[$__rate_interval])", "{{instance}}")],
            ),
            panel(
                "What went wrong",
                "short",
                &[
                    (
                        "increase(waldelta_capture_append_failures_total{$here}[$__rate_interval])",
                        "{{instance}} appends failed",
                    ),
                    (
                        "increase(waldelta_capture_stalls_total{$here}[$__rate_interval])",
                        "{{instance}} stalls",
                    ),
                    (
                        "increase(waldelta_capture_reconnects_total{$here}[$__rate_interval])",
                        "{{instance}} reconnects",
                    ),
                ],
            ),
            panel(
                "State of each process that captures",
                "short",
                &[("waldelta_capture_state{$here} == 1", "{{instance}} {{state}}")],
            ),
        ],
    ),
    (
        "History",
        &[
            panel(
                "Size",
                "bytes",
                &[
                    ("waldelta_history_stored_bytes{$here}", "stored"),
                    ("waldelta_history_feed_bytes{$here}", "{{instance}} in memory"),
                ],
            ),
            panel(
                "Partitions",
                "short",
                &[
                    ("waldelta_history_partitions{$here}", "partitions"),
                    ("waldelta_history_prune_held{$here}", "held for clients"),
                ],
            ),
            panel(
                "Pruned",
                "short",
                &[
                    (
                        "increase(waldelta_history_pruned_partitions_total{$here}[$__rate_interval])",
                        "partitions",
                    ),
                    (
                        "increase(waldelta_history_pruned_rows_total{$here}[$__rate_interval])",
                        "changes one by one",
                    ),
                ],
            ),
            panel(
                "Ages",
                "s",
                &[
                    ("waldelta_history_floor_age_seconds{$here}", "what can be resumed from"),
                    ("time() - waldelta_history_swept_timestamp_seconds{$here}", "the last sweep"),
                    ("time() - waldelta_history_sealed_timestamp_seconds{$here}", "the newest seal"),
                ],
            ),
            panel(
                "Who writes, as processes that only serve see it",
                "short",
                &[("waldelta_writer_state{$here} == 1", "{{instance}} {{state}}")],
            ),
            panel(
                "How long history has not moved for them",
                "s",
                &[
                    ("waldelta_writer_silent_seconds{$here}", "{{instance}} writer silent"),
                    ("waldelta_history_unmoved_seconds{$here}", "{{instance}} unmoved"),
                ],
            ),
        ],
    ),
    (
        "Clients",
        &[
            panel(
                "Frames",
                "cps",
                &[("sum(rate(waldelta_fanout_frames_total{$here}[$__rate_interval]))", "frames")],
            ),
            panel(
                "Bytes",
                "Bps",
                &[("sum(rate(waldelta_fanout_sent_bytes_total{$here}[$__rate_interval]))", "sent")],
            ),
            panel(
                "Durable to socket",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(waldelta_fanout_delivery_seconds_bucket{$here}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(waldelta_fanout_delivery_seconds_bucket{$here}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            panel(
                "Routing",
                "cps",
                &[
                    (
                        "rate(waldelta_fanout_routed_transactions_total{$here}[$__rate_interval])",
                        "{{instance}} transactions",
                    ),
                    (
                        "rate(waldelta_fanout_filter_lookups_total{$here}[$__rate_interval])",
                        "{{instance}} lookups",
                    ),
                    (
                        "rate(waldelta_fanout_filter_evaluations_total{$here}[$__rate_interval])",
                        "{{instance}} filters evaluated",
                    ),
                ],
            ),
            panel(
                "Not told, by reason",
                "cps",
                &[(
                    "sum by (reason) (rate(waldelta_fanout_filtered_total{$here}[$__rate_interval]))",
                    "{{reason}}",
                )],
            ),
            panel(
                "Catching up",
                "cps",
                &[
                    (
                        "rate(waldelta_fanout_catch_up_reads_total{$here}[$__rate_interval])",
                        "{{instance}} pages read for sessions",
                    ),
                    (
                        "rate(waldelta_fanout_catch_up_shared_total{$here}[$__rate_interval])",
                        "{{instance}} pages that were there",
                    ),
                    (
                        "rate(waldelta_history_catch_up_reads_total{$here}[$__rate_interval])",
                        "{{instance}} pages of history",
                    ),
                    (
                        "rate(waldelta_history_catch_up_rows_total{$here}[$__rate_interval])",
                        "{{instance}} changes in them",
                    ),
                    (
                        "rate(waldelta_fanout_extent_reads_total{$here}[$__rate_interval])",
                        "{{instance}} looks at what there is",
                    ),
                ],
            ),
            panel(
                "Snapshots",
                "short",
                &[
                    (
                        "increase(waldelta_fanout_snapshots_total{$here}[$__rate_interval])",
                        "{{instance}} sent",
                    ),
                    (
                        "increase(waldelta_fanout_snapshot_readings_total{$here}[$__rate_interval])",
                        "{{instance}} readings of the source",
                    ),
                ],
            ),
            panel(
                "Time of a snapshot",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(waldelta_fanout_snapshot_seconds_bucket{$here}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(waldelta_fanout_snapshot_seconds_bucket{$here}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            panel(
                "Held for clients",
                "bytes",
                &[
                    ("waldelta_fanout_snapshot_bytes{$here}", "{{instance}} snapshots"),
                    ("waldelta_fanout_frames_held_bytes{$here}", "{{instance}} frames"),
                ],
            ),
            panel(
                "Let go, and not let in",
                "short",
                &[
                    (
                        "increase(waldelta_fanout_evictions_total{$here}[$__rate_interval])",
                        "{{instance}} too slow",
                    ),
                    (
                        "increase(waldelta_fanout_refused_connections_total{$here}[$__rate_interval])",
                        "{{instance}} too many at once",
                    ),
                    (
                        "sum by (of, what) (increase(waldelta_fanout_limited_total{$here}[$__rate_interval]))",
                        "{{of}} has had its {{what}}",
                    ),
                    (
                        "sum by (code) (increase(waldelta_fanout_turned_away_total{$here}[$__rate_interval]))",
                        "{{code}}",
                    ),
                    (
                        "sum by (outcome) (increase(waldelta_access_jwks_fetches_total{$here}[$__rate_interval]))",
                        "keys fetched: {{outcome}}",
                    ),
                ],
            ),
            panel(
                "Connections",
                "short",
                &[
                    ("waldelta_connections{$here}", "{{instance}} {{listener}}"),
                    (
                        "increase(waldelta_connections_refused_total{$here}[$__rate_interval])",
                        "{{instance}} refused: {{bound}}",
                    ),
                    (
                        "increase(waldelta_accept_failures_total{$here}[$__rate_interval])",
                        "{{instance}} not accepted",
                    ),
                ],
            ),
        ],
    ),
    (
        "Processes",
        &[
            panel(
                "Processors",
                "short",
                &[
                    (
                        "rate(process_cpu_seconds_total{$here}[$__rate_interval])",
                        "{{instance}} as the system counts",
                    ),
                    (
                        "rate(waldelta_runtime_busy_seconds_total{$here}[$__rate_interval])",
                        "{{instance}} threads that run tasks",
                    ),
                    ("waldelta_runtime_workers{$here}", "{{instance}} such threads"),
                ],
            ),
            panel(
                "Memory",
                "bytes",
                &[
                    ("process_resident_memory_bytes{$here}", "{{instance}} resident"),
                    ("process_virtual_memory_bytes{$here}", "{{instance}} virtual"),
                    ("process_virtual_memory_max_bytes{$here}", "{{instance}} virtual at most"),
                ],
            ),
            panel(
                "Tasks",
                "short",
                &[
                    ("waldelta_runtime_tasks{$here}", "{{instance}}"),
                    ("waldelta_fanout_scopes{$here}", "{{instance}} scopes"),
                    ("waldelta_runtime_queue_depth{$here}", "{{instance}} waiting"),
                ],
            ),
            panel(
                "Open files",
                "short",
                &[
                    ("process_open_fds{$here}", "{{instance}}"),
                    ("process_max_fds{$here}", "{{instance}} at most"),
                ],
            ),
            panel(
                "Version, role and age",
                "s",
                &[
                    ("time() - process_start_time_seconds{$here}", "{{instance}} runs for"),
                    ("waldelta_build_info{$here}", "{{instance}} {{version}}"),
                    ("waldelta_role{$here}", "{{instance}} {{role}}"),
                    ("process_threads{$here}", "{{instance}} threads"),
                ],
            ),
            panel(
                "Configuration read again",
                "short",
                &[(
                    "increase(waldelta_config_reloads_total{$here}[$__rate_interval])",
                    "{{instance}} {{result}}",
                )],
            ),
        ],
    ),
];

/// What `$here` stands for.
const HERE: &str = "job=~\"$job\",instance=~\"$instance\"";
/// Of Grafana's grid of 24 columns.
const PANEL_WIDTH: usize = 8;
const PANEL_HEIGHT: usize = 7;

/// Names of metrics in an expression, without what Prometheus makes of a histogram.
pub(super) fn names_in(expr: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expr.split(|c| !is_word(c));
    let ours = words.filter(|word| word.starts_with("waldelta_") || word.starts_with("process_"));
    ours.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name}, "definition": query,
        "multi": true, "includeAll": true, "refresh": 2, "current": {"text": "All", "value": "$__all"},
    })
}

fn dashboard() -> Value {
    let datasource = json!({"type": "prometheus", "uid": "${datasource}"});
    let mut panels = Vec::new();
    let mut y = 0;
    for (title, row) in ROWS {
        let id = panels.len() + 1;
        let place = json!({"x": 0, "y": y, "w": 24, "h": 1});
        panels.push(json!({"id": id, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": []}));
        y += 1;
        for (place, Panel { title, unit, lines }) in row.iter().enumerate() {
            let (column, line) = (place % (24 / PANEL_WIDTH), place / (24 / PANEL_WIDTH));
            let targets: Vec<Value> = lines
                .iter()
                .zip('A'..)
                .map(|((expr, legend), id)| {
                    let expr = expr.replace("$here", HERE);
                    json!({"refId": id, "expr": expr, "legendFormat": legend, "datasource": datasource})
                })
                .collect();
            panels.push(json!({
                "id": panels.len() + 1,
                "type": "timeseries",
                "title": title,
                "datasource": datasource,
                "gridPos": {
                    "x": column * PANEL_WIDTH, "y": y + line * PANEL_HEIGHT, "w": PANEL_WIDTH, "h": PANEL_HEIGHT,
                },
                "fieldConfig": {"defaults": {"unit": unit, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
                "targets": targets,
            }));
        }
        y += row.len().div_ceil(24 / PANEL_WIDTH) * PANEL_HEIGHT;
    }
    json!({
        "uid": "waldelta",
        "title": "Waldelta",
        "description": "Made from crates/server/src/metrics/dashboard.rs by `make docs`.",
        "tags": ["waldelta", "postgresql"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
            variable("job", "Job", "label_values(waldelta_build_info, job)"),
            variable("instance", "Instance", "label_values(waldelta_build_info{job=~\"$job\"}, instance)"),
        ]},
        "panels": panels,
    })
}

#[test]
fn the_dashboard_is_made_of_this_list() {
    let text = serde_json::to_string_pretty(&dashboard()).unwrap();
    generated("deploy/grafana/waldelta.json", &format!("{text}\n"));
}

#[test]
fn every_metric_is_in_the_dashboard_and_nothing_else() {
    let described = described();
    let lines = ROWS.iter().flat_map(|(_, panels)| *panels).flat_map(|panel| panel.lines);
    let shown: Vec<String> = lines.flat_map(|(expr, _)| names_in(expr)).collect();
    for name in &shown {
        assert!(described.contains_key(name), "{name} is shown and is no metric");
    }
    for name in described.keys() {
        assert!(shown.contains(name), "{name} is not shown");
    }
}

#[test]
fn names_are_found_in_an_expression() {
    assert_eq!(
        names_in(
            "rate(waldelta_a_total{x=\"1\"}[1m]) / on (b) process_c + sum by (le) (waldelta_d_seconds_bucket)"
        ),
        ["waldelta_a_total", "process_c", "waldelta_d_seconds"]
    );
}
