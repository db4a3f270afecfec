//! What a configuration file may say, and what is refused.

use super::*;

fn refusal(text: &str) -> String {
    format!("{:#}", parse(text, Path::new("waldelta.toml")).unwrap_err())
}

#[test]
fn reads_what_is_given_and_keeps_defaults() {
    let config = parse("[source]\nslot = 'mine'\n[server]\nlisten = '[::1]:9000'", Path::new("x")).unwrap();
    assert_eq!(config.source.slot, "mine");
    assert_eq!(config.source.publication, "waldelta");
    assert_eq!(config.server.listen.port(), 9000);
}

#[test]
fn the_plugin_is_one_of_two() {
    let config = parse("[source]\nplugin = 'wal2json'", Path::new("x")).unwrap();
    assert_eq!(config.source.plugin, Plugin::Wal2json);
    let refusal = refusal("[source]\nplugin = 'test_decoding'");
    assert!(refusal.contains("line 2") && refusal.contains("pgoutput"), "{refusal}");
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    assert!(refusal("[capture]\nbatch_row_max = 1").contains("did you mean `capture.batch_rows_max`"));
    assert!(refusal("[sorce]\nurl = 'x'").contains("did you mean `source`"));
    assert!(!refusal("[zzz]").contains("did you mean"));
}

/// The reference page of the configuration is a configuration: all settings are in it, with their defaults.
#[test]
fn the_reference_names_every_setting_with_its_default() {
    let reference: toml::Table = include_str!("../../../../docs/reference/waldelta.toml").parse().unwrap();
    assert_eq!(reference, toml::Table::try_from(Config::default()).unwrap());
}

#[test]
fn what_becomes_of_oversize_values_is_one_of_two() {
    let config =
        parse("[source]\nurl = 'postgresql://h/d'\n[capture]\noversize = 'reference'", Path::new("x"));
    assert_eq!(config.unwrap().source().unwrap().values.oversize, waldelta_wal::Oversize::Reference);
    assert!(refusal("[capture]\noversize = 'skip'").contains("reference"));
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    assert!(refusal("[server]\nsessions_max = 'many'").contains("line 2"));
}

#[test]
fn a_bound_of_nothing_is_refused() {
    let mut config = Config::default();
    config.capture.batch_rows_max = 0;
    assert!(format!("{:#}", config.check().unwrap_err()).contains("capture.batch_rows_max"));
}

#[test]
fn a_writer_that_is_well_is_never_taken_over() {
    let mut config = Config::default();
    config.check().unwrap();
    config.capture.takeover_after_ms = 9_999;
    assert!(format!("{:#}", config.check().unwrap_err()).contains("capture.takeover_after_ms"));
}

#[test]
fn a_bound_of_nothing_is_refused_for_clients_too_but_not_to_drain_at_once() {
    let mut config = Config::default();
    config.server.drain_ms = 0;
    config.check().unwrap();
    config.server.write_timeout_ms = 0;
    assert!(format!("{:#}", config.check().unwrap_err()).contains("server.write_timeout_ms"));
}

#[test]
fn a_bound_that_makes_no_sense_is_refused_with_what_would() {
    let refusal = |text: &str| {
        let config = parse(text, Path::new("waldelta.toml")).unwrap();
        config.check().map_or_else(|error| format!("{error:#}"), |()| String::new())
    };
    for (setting, says) in [
        ("sessions_max = 0", "between 1 and 10000000, and is 0"),
        ("arrivals_max = 0", "between 1 and"),
        ("hydrations_max = 99999999999", "between 1 and"),
        ("catch_up_bytes_max = 32", "it is in bytes"),
        ("snapshot_bytes_max = 128", "it is in bytes"),
        ("snapshot_age_max_ms = 90000000", "between 1 and 86400000, and is 90000000: it is in milliseconds"),
        ("forget_clients_after_days = 0", "it is in days"),
        ("forget_clients_after_days = 7776000", "between 1 and 36500"),
    ] {
        let (name, _) = setting.split_once(' ').unwrap();
        let refusal = refusal(&format!("[server]\n{setting}"));
        assert!(refusal.contains(&format!("server.{name} must be ")) && refusal.contains(says), "{refusal}");
    }
    let least = "[server]\narrivals_max = 1\nhydrations_max = 1\ncatch_up_bytes_max = 1048576\n\
        snapshot_bytes_max = 1048576\nsnapshot_age_max_ms = 1\nforget_clients_after_days = 1";
    assert_eq!(refusal(least), "");
}

#[test]
fn the_role_is_one_of_three() {
    let config = parse("[server]\nrole = 'fanout'", Path::new("x")).unwrap();
    assert_eq!(config.server.role, crate::role::Role::Fanout);
    let refusal = refusal("[server]\nrole = 'fan-out'");
    assert!(refusal.contains("line 2") && refusal.contains("capture"), "{refusal}");
}
