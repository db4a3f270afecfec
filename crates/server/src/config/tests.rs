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
    let second =
        "[[rules]]\ntable = 'a.b'\nclaims = { whatever = 1 }\n[[rules]]\ntable = 'a.c'\ncolumn = ['x']";
    assert!(refusal(second).contains("`rules[2].column`; did you mean `rules[2].columns`"));
}

/// The reference page of the configuration is a configuration: all settings are in it, with their defaults.
#[test]
fn the_reference_names_every_setting_with_its_default() {
    let reference: toml::Table = REFERENCE.parse().unwrap();
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

#[test]
fn rules_and_limits_are_read_from_the_file() {
    let text = "[limits]\nsessions_per_address_max = 3\n[[rules]]\ntable = 'public.*'\nclaims = { role = 'clerk' }\n\
        where = 'tenant_id = :claims.tenant'";
    let config = parse(text, Path::new("x")).unwrap();
    config.check().unwrap();
    assert_eq!(config.policy().unwrap().limits.sessions_per_address_max, 3);
    let other = parse(&text.replace("clerk", "boss"), Path::new("x")).unwrap();
    assert_ne!(config.rules_fingerprint(), other.rules_fingerprint());
    assert_eq!(config.rules_fingerprint(), config.clone().rules_fingerprint());
    let wrong = "[limits]\nrequests_per_second_max = 0";
    let refusal = parse(wrong, Path::new("x")).unwrap().check().unwrap_err();
    assert!(format!("{refusal:#}").contains("limits.requests_per_second_max must be at least 1"));
}

/// A password may stand in any line.
#[test]
fn a_file_that_cannot_be_read_is_refused_without_its_lines() {
    for text in [
        "[source]\nurl = 'hunter2\n",
        "[source]\nurl = 'hunter2'\nurl = 'hunter2'",
        "[source]\nslot = 'a' hunter2",
        "\nsource = 'postgresql://u:hunter2@h/d'",
        "\nhistory = 'postgresql://u:hunter2@h/d, expected hunter2'",
        "[server]\ntls = 'hunter2'",
        "[server]\ntls = { key = [\"a\\\"hunter2\"] }",
        "[server]\nsessions_max = '\"hunter2`'",
        "[server]\nlisten = 'hunter2'",
        "[server]\ntrusted_proxies = ['`hunter2`']",
        "[server]\nrole = 'hunter2`, expected hunter2'",
        "[history]\nretain = 'hunter2`'",
        "[[rules]]\nclaims = 'hunter2'",
        "[[rules]]\nclaims = { role = { is = 'hunter2' } }",
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains("line 2") || refusal.contains("line 3"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
    assert!(refusal("source = 'postgresql://u:hunter2@h/d'").ends_with("(source): expected a table"));
    let retain = refusal("[history]\nretain = '30 days'");
    assert!(retain.contains("(retain): it does not say") && retain.contains("\"30d\""), "{retain}");
}

#[test]
fn files_are_seen_from_the_folder_of_the_configuration() {
    let text = "[server.tls]\ncertificate = 'chain.pem'\nkey = '/etc/key.pem'";
    let mut config = parse(text, Path::new("x")).unwrap();
    config.relative_to(Path::new("/srv/waldelta"));
    let files = config.server.tls.files();
    assert_eq!(files, Some((Path::new("/srv/waldelta/chain.pem"), Path::new("/etc/key.pem"))));
    let mut none = Config::default();
    none.relative_to(Path::new("/srv/waldelta"));
    assert_eq!(none.server.tls.files(), None);
}

#[test]
fn what_a_running_service_can_take_is_told_from_what_needs_a_restart() {
    let running = Config::default();
    let text = "[source]\nslot = 'x'\n[limits]\nsessions_per_address_max = 1\n[server]\nallowed_hosts = ['a']\n\
        heartbeat_ms = 1\n[history]\nretain = '30d'\n[[rules]]\ntable = '*'";
    let other = parse(text, Path::new("x")).unwrap();
    let (changed, waiting) = running.differences(&other).unwrap();
    assert_eq!(changed, ["rules", "limits", "server.allowed_hosts", "history.retain"]);
    assert_eq!(waiting, ["server.heartbeat_ms", "source.slot"]);
    let mut taken = running.clone();
    taken.take(&other);
    let (changed, waiting) = taken.differences(&other).unwrap();
    assert_eq!((changed.len(), waiting.len()), (0, 2));
    // Other files are taken; that there are some, or none, waits.
    let with = |tls: &str| parse(&format!("[server.tls]\n{tls}"), Path::new("x")).unwrap();
    let (first, second) = (with("certificate = 'a'\nkey = 'b'"), with("certificate = 'a'\nkey = 'c'"));
    let none = Config::default();
    for (before, after, changed, waiting) in [
        (&first, &second, &["server.tls"][..], &[][..]),
        (&first, &first, &[], &[]),
        (&none, &first, &[], &["server.tls.certificate", "server.tls.key"]),
        (&first, &none, &[], &["server.tls.certificate", "server.tls.key"]),
    ] {
        let found = before.differences(after).unwrap();
        assert_eq!(
            (&found.0[..], &found.1.iter().map(String::as_str).collect::<Vec<_>>()[..]),
            (changed, waiting)
        );
        let mut taken = before.clone();
        taken.take(after);
        assert_eq!(taken.differences(after).unwrap().0, [] as [&str; 0]);
        assert_eq!(taken.server.tls.files() == after.server.tls.files(), waiting.is_empty());
    }
    // What is taken is all that `changed` can name.
    let (changed, _) = running.differences(&taken).unwrap();
    assert_eq!(changed, ["rules", "limits", "server.allowed_hosts", "history.retain"]);
}
