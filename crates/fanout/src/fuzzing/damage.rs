//! Filters that were damaged, or put together of pieces: refused, or what they print.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{TARGETS, filter, filter_seeds};
use crate::wire::damage::{cases, damaged, damages};

#[test]
fn what_there_is_to_begin_with_passes() {
    for target in &TARGETS {
        (target.seeds)().iter().for_each(|seed| (target.check)(seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2_000), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_filter_is_refused_or_what_it_prints(which: Index, damages in damages()) {
        let seeds = filter_seeds();
        let text = String::from_utf8_lossy(&seeds[which.index(seeds.len())]);
        filter(damaged(&text, &damages).as_bytes());
    }

    #[test]
    fn filters_that_are_joined_are_what_they_print(
        which in prop::collection::vec(any::<Index>(), 1..4),
        words in prop::collection::vec(prop::sample::select(vec![" and ", " or ", " and not ", ") or (", " "]), 3),
        damages in prop::option::weighted(0.3, damages()),
    ) {
        let seeds = filter_seeds();
        let texts = which.iter().zip(&words).map(|(which, word)| {
            format!("{}{word}", String::from_utf8_lossy(&seeds[which.index(seeds.len())]))
        });
        let text = format!("({}true = c)", texts.collect::<String>());
        filter(damaged(&text, &damages.unwrap_or_default()).as_bytes());
    }
}
