//! Chance: one generator per concern, and draws that depend on nothing but their coordinates, so that leaving one
//! fault out of a run leaves all others as they were.

use std::ops::RangeBounds;

/// Mixes numbers into one; the same in every version and on every machine.
pub(crate) fn hash(seed: u64, coordinates: &[u64]) -> u64 {
    coordinates.iter().fold(mix(seed), |h, c| mix(h ^ c))
}

/// Mixes a text into a number.
pub(crate) fn hash_text(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mix(seed), |h, byte| mix(h ^ u64::from(byte)))
}

/// The hash as a number from 0 to 1.
pub(crate) fn unit(seed: u64, coordinates: &[u64]) -> f64 {
    (hash(seed, coordinates) >> 11) as f64 / (1u64 << 53) as f64
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A sequence of draws for one concern of one seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64, concern: &str) -> Self {
        Self(fastrand::Rng::with_seed(hash_text(seed, concern)))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    pub(crate) fn number(&mut self, range: impl RangeBounds<u64>) -> u64 {
        self.0.u64(range)
    }

    pub(crate) fn any(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn key(&mut self) -> u128 {
        self.0.u128(..)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.0.usize(..from.len())]
    }
}
