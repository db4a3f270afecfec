//! Pages that are made from the code: `make docs` writes them, this test fails when they are stale.

use std::fmt::Write;

use waldelta_testkit::generated;
use waldelta_wal::Code;

#[test]
fn the_page_of_error_codes_is_what_the_code_says() {
    generated("docs/reference/errors.md", &error_codes());
}

#[test]
fn codes_are_distinct_and_well_formed() {
    let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for text in &texts {
        let well_formed = text.starts_with("WD-")
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        assert!(well_formed, "{text}");
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len(), "two codes have the same text");
}

fn error_codes() -> String {
    let mut page = String::from(
        "# Error codes\n\n<!-- Made from crates/wal/src/code.rs by `make docs`. -->\n\n\
         Every failure that Waldelta shows has one of these codes: on the command line, in HTTP bodies, in close reasons\n\
         and in logs. A code's meaning never changes.\n",
    );
    for code in Code::ALL {
        let explanation = code.explanation();
        write!(
            page,
            "\n## {}\n\n{}\n\n- **Why**: {}\n- **Fix**: {}\n",
            code.as_str(),
            explanation.title,
            explanation.cause,
            explanation.fix
        )
        .expect("a string takes everything");
    }
    page
}
