//! Configuration files that somebody has mistyped, cut off or pasted something into: read or refused, and in no refusal is a
//! password of the file.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// It stands in values alone: no name of a setting can have it.
const SECRET: &str = "hunter/2";

/// All settings as the reference has them, and passwords where there may be some.
fn file() -> String {
    format!(
        "[source]\nurl = 'postgresql://u:{SECRET}@h/d'\n\
         [history]\nurl = \"postgresql://u:{SECRET}@h/d\" # {SECRET}\nretain = '30d'\n\
         [auth]\nstatic_tokens = true\nleeway_ms = 5000\nadmin_claims = {{ role = 'operator' }}\n\
         [[auth.issuers]]\nissuer = 'https://id.example'\naudiences = ['waldelta']\n\
         algorithms = ['HS256']\nsecret_file = '{SECRET}'\n\
         [[rules]]\ntable = 'public.orders'\nwhere = \"tenant = :claims.tenant and v = '{SECRET}'\"\ncolumns = ['a', 'b']\n\
         [server]\nlisten = '127.0.0.1:7654'\nsessions_max = 5\nallowed_hosts = ['{SECRET}']\n"
    )
}

#[derive(Clone, Debug)]
enum Damage {
    Put { at: Index, over: usize, text: String },
    Cut { at: Index },
    Swap { one: Index, other: Index },
    Again { line: Index },
}

fn damage() -> impl Strategy<Value = Damage> {
    let text = prop_oneof![
        "[\\[\\]{}'\"#,._0-9a-z \\n-]{0,3}",
        prop::sample::select(vec![
            "'''",
            "\"\"\"",
            "\\u0000",
            "\\",
            "1e999",
            "1979-05-27",
            "é",
            "\0",
            "\r",
            "inf",
            "[[",
            "99999999999999999999"
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        (any::<Index>(), 0..6usize, text).prop_map(|(at, over, text)| Damage::Put { at, over, text }),
        any::<Index>().prop_map(|at| Damage::Cut { at }),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Damage::Swap { one, other }),
        any::<Index>().prop_map(|line| Damage::Again { line }),
    ]
}

impl Damage {
    fn befalls(&self, text: &str) -> String {
        let place = |at: &Index| text.floor_char_boundary(at.index(text.len() + 1));
        let mut lines: Vec<&str> = text.lines().collect();
        match self {
            Damage::Put { at, over, text: new } => {
                let begin = place(at);
                let end = text.floor_char_boundary((begin + over).min(text.len())).max(begin);
                format!("{}{new}{}", &text[..begin], &text[end..])
            }
            Damage::Cut { at } => text[..place(at)].to_owned(),
            Damage::Swap { one, other } if !lines.is_empty() => {
                let count = lines.len();
                lines.swap(one.index(count), other.index(count));
                lines.join("\n")
            }
            Damage::Again { line } if !lines.is_empty() => {
                lines.insert(line.index(lines.len()), lines[line.index(lines.len())]);
                lines.join("\n")
            }
            Damage::Swap { .. } | Damage::Again { .. } => text.to_owned(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_read_or_refused_without_its_secrets(damages in prop::collection::vec(damage(), 1..4)) {
        let text = damages.iter().fold(file(), |text, damage| damage.befalls(&text));
        let read = parse(&text, Path::new("waldelta.toml")).and_then(|config| {
            config.check()?;
            Ok(config)
        });
        match read {
            Ok(config) => reads_back(&config),
            Err(error) => {
                let told = format!("{error:#} {error:?}");
                prop_assert!(!told.contains(SECRET), "{}", told);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = parse(&text, Path::new("waldelta.toml"));
    }
}

/// What is read of a file, written as one, is read as the same.
fn reads_back(config: &Config) {
    let written = toml::to_string(config).unwrap();
    let read =
        parse(&written, Path::new("waldelta.toml")).unwrap_or_else(|error| panic!("{error:#}: {written}"));
    let table = |config: &Config| toml::Table::try_from(config).unwrap();
    assert_eq!(table(&read), table(config), "{written}");
}

#[test]
fn what_is_read_of_a_file_reads_back() {
    let config = parse(&file(), Path::new("waldelta.toml")).unwrap();
    config.check().unwrap();
    reads_back(&config);
    reads_back(&Config::default());
}

/// So many, and as many times more as `PROPTEST_CASES` is above what it is where nobody sets it.
fn cases(usual: u32) -> u32 {
    (usual * ProptestConfig::default().cases / 256).max(1)
}

/// What is nested or repeated without end is refused, in time.
#[test]
fn a_file_that_nests_without_end_is_refused() {
    for text in [
        format!("[rules]\nx = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("[{}]", "a.".repeat(20_000)),
    ] {
        assert!(parse(&text, Path::new("waldelta.toml")).is_err());
    }
}
