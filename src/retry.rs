//! Back-off between attempts: exponential, jittered, from the worker's own randomness; and why attempts go on.

use std::time::Duration;

use backon::BackoffBuilder;

use crate::random::Randomness;

mod obstacle;

pub(crate) use obstacle::Obstacle;

/// How often and how patiently something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RetryConfig {
    /// Attempts in all, the first included; `None` for no limit.
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt.
    pub min_delay: Duration,
    /// Longest wait; each is twice the one before until then.
    pub max_delay: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { max_attempts: None, min_delay: Duration::from_millis(100), max_delay: Duration::from_secs(5) }
    }
}

impl RetryConfig {
    /// The waits between attempts, each up to twice as long by jitter.
    #[must_use]
    pub fn backoff(&self, random: &Randomness) -> Backoff {
        let mut builder = backon::ExponentialBuilder::default()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_jitter()
            .with_jitter_seed(random.next_u64());
        builder = match self.max_attempts {
            Some(n) => builder.with_max_times(n.saturating_sub(1) as usize),
            None => builder.without_max_times(),
        };
        Backoff(builder.build())
    }
}

/// The waits of one operation.
#[derive(Debug)]
pub struct Backoff(backon::ExponentialBackoff);

impl Backoff {
    /// Waits before the next attempt. Returns false, without waiting, when the attempts are used up.
    ///
    /// # Cancel safety
    /// Dropping the future skips the rest of this wait.
    pub async fn wait(&mut self) -> bool {
        match self.0.next() {
            Some(delay) => {
                tokio::time::sleep(delay).await;
                true
            }
            None => false,
        }
    }

    /// The next wait, for callers that wait for other things meanwhile.
    pub fn next_delay(&mut self) -> Option<Duration> {
        self.0.next()
    }
}
