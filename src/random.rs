//! Randomness from one seed per worker, so that a simulated fleet can be replayed.

use std::{
    ops::RangeBounds,
    sync::{Arc, Mutex, PoisonError},
};

use crate::types::InstanceId;

/// A shared, seeded source of random numbers for jitter, ids and shuffles; not for secrets.
#[derive(Debug, Clone)]
pub struct Randomness(Arc<Mutex<fastrand::Rng>>);

impl Randomness {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Seeded from the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that draws an unseeded number")]
    pub fn from_system() -> Self {
        Self::seeded(fastrand::u64(..))
    }

    fn draw<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Any 64-bit number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.draw(|rng| rng.u64(..))
    }

    /// A number from the range.
    #[must_use]
    pub fn in_range(&self, range: impl RangeBounds<u64>) -> u64 {
        self.draw(|rng| rng.u64(range))
    }

    /// Whether an event of this probability (0 to 1) happens; draws nothing for 0.
    #[must_use]
    pub fn chance(&self, probability: f64) -> bool {
        probability > 0.0 && self.draw(fastrand::Rng::f64) < probability
    }

    /// A new life of a worker.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        InstanceId(self.next_u64())
    }

    /// `span` times a factor from 0.5 to 1, so that a fleet does not act in step.
    #[must_use]
    pub fn jittered(&self, span: std::time::Duration) -> std::time::Duration {
        span.mul_f64(0.5 + 0.5 * self.draw(fastrand::Rng::f64))
    }
}
