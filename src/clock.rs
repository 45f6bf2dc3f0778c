//! Wall time. Waits, deadlines and expiry use tokio's clock, which tests pause; this is for stamps and display.

use std::{fmt::Debug, sync::Arc};

use crate::types::Timestamp;

/// Waits until the moment, or for ever when there is none.
pub(crate) async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Source of wall time. Never consulted to decide who owns a lease.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A clock shared by the parts of a worker.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }
}

/// A clock that follows tokio's, so that it stands still and jumps with the paused time of a test.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    base: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `base` now.
    ///
    /// # Panics
    /// Outside a tokio runtime whose time is paused, on platforms where tokio needs one to read its clock.
    #[must_use]
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.started.elapsed())
    }
}
