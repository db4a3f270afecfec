//! What connection strings and variables become.

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment { variables, home: None }
}

fn parse(text: &str) -> Target {
    Target::parse(text, &Environment::default()).unwrap()
}

#[test]
fn a_url_says_it_all() {
    let target = parse(
        "postgres://web:s%20t@db.example:5433/app?sslmode=require&connect_timeout=3&application_name=x",
    );
    assert_eq!(target.address(), Address::Tcp("db.example".into(), 5433));
    assert_eq!((target.user(), target.database(), target.password()), ("web", "app", Some("s t")));
    assert_eq!((target.ssl_mode(), target.application_name()), (SslMode::Require, Some("x")));
    assert_eq!(target.connect_timeout(), Duration::from_secs(3));
    assert_eq!(target.with_database("other").database(), "other");
}

#[test]
fn the_environment_fills_in_what_the_string_leaves_out() {
    let environment = environment(&[
        ("PGHOST", "/run/pg"),
        ("PGPORT", "5999"),
        ("PGUSER", "web"),
        ("PGPASSWORD", "secret"),
        ("PGDATABASE", "app"),
        ("PGHOSTADDR", ""),
        ("PGOPTIONS", "-c a=b"),
    ]);
    let target = Target::parse("", &environment).unwrap();
    assert_eq!(target.address(), Address::Unix("/run/pg/.s.PGSQL.5999".into()));
    assert_eq!((target.user(), target.database(), target.password()), ("web", "app", Some("secret")));
    let target = Target::parse("postgres://root:@h/d", &environment).unwrap();
    assert_eq!((target.user(), target.database()), ("root", "d"));
    assert_eq!(target.address(), Address::Tcp("h".into(), 5999));
    assert_eq!(target.startup_options(&[("DateStyle", "ISO, YMD")]), "-c a=b -c DateStyle=ISO,\\ YMD");
}

#[test]
fn the_database_is_named_like_the_user_unless_it_is_named() {
    assert_eq!(parse("postgres://web@h").database(), "web");
    assert!(!parse("postgres://h").user().is_empty(), "the user of the operating system");
}

#[test]
fn tls_is_verified_unless_nothing_leaves_the_machine() {
    for (text, expected) in [
        ("host=localhost", SslMode::Prefer),
        ("host=127.0.0.1", SslMode::Prefer),
        ("host=::1", SslMode::Prefer),
        ("host=/tmp", SslMode::Prefer),
        ("host=db.example", SslMode::VerifyFull),
        ("host=10.0.0.1", SslMode::VerifyFull),
        ("host=localhost hostaddr=10.0.0.1", SslMode::VerifyFull),
        ("host=db.example sslmode=allow", SslMode::Prefer),
        ("host=db.example sslmode=verify-ca", SslMode::VerifyCa),
        ("host=db.example sslmode=require sslrootcert=/ca.crt", SslMode::VerifyCa),
        ("host=db.example sslmode=require sslrootcert=system", SslMode::Require),
    ] {
        assert_eq!(parse(text).ssl_mode(), expected, "{text}");
    }
    assert_eq!(parse("host=db.example hostaddr=10.0.0.1").server_name(), "db.example");
}

#[test]
fn passwords_are_found_in_the_password_file_for_each_database() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("waldelta-passfile-{}", std::process::id()));
    std::fs::write(&path, "h:*:app:web:one\nh:*:other:web:two\nlocalhost:5432:*:web:three\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let environment = environment(&[("PGPASSFILE", path.to_str().unwrap())]);
    let password = |text: &str| {
        let target = Target::parse(text, &environment).unwrap();
        (target.password().map(str::to_owned), target.with_database("other").password().map(str::to_owned))
    };
    assert_eq!(password("postgres://web@h/app"), (Some("one".into()), Some("two".into())));
    assert_eq!(password("postgres://web:own@h/app"), (Some("own".into()), Some("own".into())));
    assert_eq!(password("host=/tmp user=web"), (Some("three".into()), Some("three".into())));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn poolers_are_recognised() {
    for (text, expected) in [
        ("host=h port=6432", true),
        ("host=h port=6543", true),
        ("host=ep-x-pooler.example", true),
        ("host=aws-0-eu-central-1.pooler.supabase.com", true),
        ("host=app.proxy-abc123.eu-central-1.rds.amazonaws.com", true),
        ("host=app.abc123.eu-central-1.rds.amazonaws.com", false),
        ("host=reverse.proxy-1.example", false),
        ("host=/tmp port=6432", true),
        ("host=h", false),
    ] {
        assert_eq!(parse(text).looks_pooled(), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_used_is_named_and_secrets_are_not() {
    for (text, part) in [
        ("postgres://u:secret@h:x/d", "port"),
        ("postgres://u:secret@h:0/d", "port"),
        ("postgres://u:secret@h/d?sslmode=secret", "sslmode"),
        ("postgres://u:secret@h/d?connect_timeout=secret", "connect_timeout"),
        ("postgres://u:secret@h/d?channel_binding=secret", "channel_binding"),
        ("postgres://u:secret@h/d?sslcert=secret", "sslkey"),
        ("postgres://u:secret@h/d?sslpassword=secret", "sslpassword"),
        ("postgres://u:secret@h1,h2/d", "several hosts"),
        ("host=h hostaddr=secret", "hostaddr"),
        ("p%secret!=1", "unreadable name"),
    ] {
        let error = Target::parse(text, &Environment::default()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(part) && !shown.contains("secret"), "{shown}");
        assert_eq!(error.code(), waldelta_wal::Code::ConfigInvalid);
    }
}

#[test]
fn nothing_printed_has_the_password() {
    let environment = environment(&[("PGPASSWORD", "secret")]);
    let target = Target::parse("postgres://a%40b:secret@db.example/my%20db", &environment).unwrap();
    assert_eq!(target.redacted(), "postgresql://a%40b@db.example:5432/my%20db?sslmode=verify-full");
    assert!(!format!("{target:?} {environment:?}").contains("secret"));
    assert_eq!(
        parse("host=/tmp user=u dbname=d port=5433").redacted(),
        "postgresql://u@/d?host=/tmp&port=5433"
    );
}

#[test]
fn trusted_certificates_are_needed_where_they_are_checked() {
    let error = parse("host=h sslmode=verify-ca").tls().unwrap_err();
    assert!(error.to_string().contains("sslrootcert"), "{error}");
    let error = parse("host=h sslrootcert=/does/not/exist").tls().unwrap_err();
    assert_eq!(error.code(), waldelta_wal::Code::TlsFailed);
    assert!(parse("host=h sslmode=disable").tls().unwrap().is_none());
    assert!(parse("host=/tmp").tls().unwrap().is_none());
    assert!(parse("host=h sslmode=require").tls().unwrap().is_some());
}
