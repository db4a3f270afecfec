//! Everything that is random in a test, from one seed.

use std::time::Duration;

/// Numbers that a seed determines. Whoever draws has dice of its own, so that what one draws does not depend on how far another
/// one is.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice for what has this name.
    pub fn of(seed: u64, part: &str) -> Self {
        // FNV-1a: the same on every machine and in every version.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Dice(part.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, step))
    }

    /// A number below `sides`, which is not 0. (splitmix64)
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// A number from `low` up to and including `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    /// Whether something happens that happens once in `sides` times.
    pub fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// A place below `length`, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap()
    }

    /// A time from `low` up to and including `high` milliseconds.
    pub fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
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
