//! Whether other readers subscribe to the shard as the same stream consumer.
//!
//! Each takes the place of the other as soon as the service lets it, five seconds later, so that both read now and then.
//! Once is a hand-over gone wrong, on and on are two applications, or two stages of one, with the same stream consumer.

use std::time::Duration;

use tokio::time::Instant;

use crate::{limits, retrieval::Stall};

/// A subscription that is read for so long is left alone. Readers that are in each other's way meet every few seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What was seen of other readers.
#[derive(Debug)]
pub(super) struct Contention {
    stall: Stall,
    /// When the last subscription was opened, while nobody has taken its place.
    opened_at: Option<Instant>,
}

/// The place of a subscription was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Since when that goes on, if it is to be told now.
    pub(super) told: Option<Duration>,
}

impl Contention {
    pub(super) fn new() -> Self {
        Self { stall: Stall::default(), opened_at: None }
    }

    /// Notes a subscription of this reader.
    pub(super) fn opened(&mut self) {
        self.opened_at = Some(Instant::now());
    }

    /// Notes `ResourceInUse`: of a subscription that has no successor of ours, or of the call for one. The service says it
    /// within five seconds of any reader's subscription, so that earlier it speaks of our own.
    pub(super) fn in_use(&mut self) -> Option<Taken> {
        self.opened_at.take_if(|opened| opened.elapsed() >= limits::SUBSCRIBE_MIN_INTERVAL)?;
        Some(Taken { told: self.stall.met() })
    }

    /// Whether it goes on, and so long that it was told.
    pub(super) const fn lasts(&self) -> bool {
        self.stall.lasts()
    }

    /// Notes an event of the last subscription. Says how long others were in the way, if they were, were told of, and are
    /// no longer.
    pub(super) fn delivered(&mut self) -> Option<Duration> {
        let settled = self.opened_at.is_some_and(|opened| opened.elapsed() >= SETTLED_AFTER);
        if settled { self.stall.over() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    async fn after(seconds: u64) {
        tokio::time::sleep(secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_hand_over_is_no_contention() {
        let mut contention = Contention::new();
        assert_eq!(contention.in_use(), None, "the last owner's");
        after(4).await;
        assert_eq!(contention.in_use(), None);
        after(2).await;
        contention.opened();
        after(3600).await;
        assert_eq!(contention.in_use(), Some(Taken { told: None }), "once");
        assert_eq!(contention.in_use(), None, "of the same subscription");
        contention.opened();
        after(61).await;
        assert_eq!(contention.delivered(), None, "nobody was told");
        after(3600).await;
        assert_eq!(contention.in_use(), Some(Taken { told: None }), "it is another one");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_the_way_on_and_on_is_told_of_until_a_subscription_stays() {
        let mut contention = Contention::new();
        let mut told = 0;
        for _ in 0..60 {
            contention.opened();
            after(6).await;
            assert_eq!(contention.delivered(), None);
            told += u32::from(contention.in_use().is_some_and(|taken| taken.told.is_some()));
            after(5).await;
        }
        assert_eq!(told, 4, "after one minute, two, four and eight");
        assert!(contention.lasts());
        contention.opened();
        after(60).await;
        assert!(contention.delivered().is_some_and(|lasted| lasted > secs(600)));
        assert!(!contention.lasts());
    }
}
