//! Everything that is random in a run, from one seed.

/// Numbers that a seed determines. Each part of a run has dice of its own, so that what one of them does does not depend on how
/// far another one is.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice for the part of this name.
    pub(crate) fn of(seed: u64, part: &str) -> Self {
        // FNV-1a: the same on every machine and in every version.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Dice(part.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, step))
    }

    /// A number below `sides`, which is not 0. (splitmix64)
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// A number from `low` up to and including `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    /// Whether something happens that happens once in `sides` times.
    pub(crate) fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let len = u64::try_from(from.len()).unwrap_or(u64::MAX);
        &from[usize::try_from(self.roll(len)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_part_others() {
        let rolls = |seed, part| {
            let mut dice = Dice::of(seed, part);
            (0..20).map(|_| dice.roll(1000)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7, "faults"), rolls(7, "faults"));
        assert_ne!(rolls(7, "faults"), rolls(7, "writer 1"));
        assert_ne!(rolls(7, "faults"), rolls(8, "faults"));
    }
}
