//! Trouble that passes by itself is no failure. When it does not pass, it is said: once a minute has gone by without an
//! answer, then ever less often.

use std::time::Duration;

use tokio::time::Instant;

/// Without an answer for so long, trouble is logged for the first time.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// The longest time between two lines.
const AT_LEAST_EVERY: Duration = Duration::from_secs(3600);

/// How long something has not worked.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
    /// Lines so far.
    told: u32,
}

impl Stall {
    /// Notes trouble. Says since when there is some, if that is to be told now.
    pub(super) fn met(&mut self) -> Option<Duration> {
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed();
        // After one minute, two, four and so on.
        let due = if self.told < 6 { FIRST_AFTER * (1 << self.told) } else { AT_LEAST_EVERY * (self.told - 5) };
        (lasts >= due).then(|| {
            self.told += 1;
            lasts
        })
    }

    /// Notes that it lasts, and so long that it was told.
    pub(super) const fn lasts(&self) -> bool {
        self.told > 0
    }

    /// Notes that it works. Says how long it did not, if that was told.
    pub(super) fn over(&mut self) -> Option<Duration> {
        let Self { since, told } = std::mem::take(self);
        since.filter(|_| told > 0).map(|since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_told_after_a_minute_and_then_ever_less_often() {
        let mut stall = Stall::default();
        let start = Instant::now();
        let mut told = Vec::new();
        while start.elapsed() < Duration::from_secs(4 * 3600) {
            if stall.met().is_some() {
                told.push(start.elapsed().as_secs() / 60);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 60, 120, 180]);
        assert!(stall.lasts());
        assert_eq!(stall.over(), Some(Duration::from_secs(4 * 3600)));
        assert_eq!(stall.over(), None, "it is over already");
        assert_eq!(stall.met(), None, "it is another trouble");
        assert_eq!(stall.over(), None, "nobody was told of it");
    }
}
