//! The fence: until when this worker may believe in its leases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Shared by all leases of one worker life. A worker stops processing when its fence lapses, which is before others
/// may declare it dead: the fence counts from the moment a heartbeat was *sent*, others from when they saw it.
#[derive(Debug, Clone)]
pub(crate) struct Fence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    until: Mutex<Option<Instant>>,
    /// Heartbeats sent before this moment prove nothing any more.
    distrusted: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Fence {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { until: Mutex::new(None), distrusted: Mutex::new(None), changed: Notify::new() }))
    }

    fn until(&self) -> Option<Instant> {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the fence out to `until`, after a heartbeat sent at `sent` was acknowledged.
    pub(crate) fn extend(&self, sent: Instant, until: Instant) {
        let distrusted = *self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        if distrusted.is_some_and(|since| sent < since) {
            return;
        }
        {
            let mut current = self.0.until.lock().unwrap_or_else(PoisonError::into_inner);
            *current = Some(current.map_or(until, |c| c.max(until)));
        }
        self.0.changed.notify_waiters();
    }

    /// Lets it lapse now, when the monotonic clock cannot be trusted to have counted all time passed.
    pub(crate) fn distrust(&self) {
        *self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.changed.notify_waiters();
    }

    /// Whether processing may start now.
    pub(crate) fn holds(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Time left.
    pub(crate) fn remaining(&self) -> Duration {
        self.until().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits until it holds.
    pub(crate) async fn held(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.holds() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until it has lapsed.
    pub(crate) async fn lapsed(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Some(until) = self.until().filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                biased;
                () = &mut changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fence_lapses_by_itself_and_comes_back_with_the_next_heartbeat() {
        let fence = Fence::new();
        assert!(!fence.holds());
        let start = Instant::now();
        fence.extend(start, start + Duration::from_secs(9));
        assert!(fence.holds());
        fence.extend(start, start + Duration::from_secs(3));
        assert_eq!(fence.remaining(), Duration::from_secs(9), "a late acknowledgement never shortens it");
        fence.lapsed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        assert!(!fence.holds());
        let sent = Instant::now();
        fence.extend(sent, sent + Duration::from_secs(5));
        fence.held().await;
        tokio::time::advance(Duration::from_millis(10)).await;
        fence.distrust();
        assert!(!fence.holds());
        fence.extend(sent, sent + Duration::from_secs(5));
        assert!(!fence.holds(), "a heartbeat sent before the doubt does not end it");
        fence.extend(Instant::now(), Instant::now() + Duration::from_secs(5));
        assert!(fence.holds());
    }
}
