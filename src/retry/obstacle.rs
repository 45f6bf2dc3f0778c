//! What stands in the way of something that is tried again and again.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// Time between two lines of the log about the same thing.
const SPACING: Duration = Duration::from_secs(30);

/// Why a worker does not get to work: for its status, and as a line in the log, at once and then now and then. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Obstacle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    current: Option<String>,
    warned: Option<(String, Instant)>,
}

impl Obstacle {
    /// An attempt at `what`, such as `join the fleet`, has failed and is repeated.
    pub(crate) fn met(&self, what: impl Display, error: &Error) {
        let what = what.to_string();
        // Silence says nothing of its cause, and errors of other kinds say what to check.
        let fix = if error.kind() == ErrorKind::Timeout { ": check the endpoint, the region and the network" } else { "" };
        let error = format!("{error:#}{fix}");
        let mut state = self.state();
        state.current = Some(format!("cannot {what}: {error}"));
        let now = Instant::now();
        let recently = state.warned.as_ref().is_some_and(|(last, at)| *last == what && now.duration_since(*at) < SPACING);
        if !recently {
            tracing::warn!(what, error, "the worker cannot get to work yet, trying again");
            state.warned = Some((what, now));
        }
    }

    /// There is nothing wrong, but it has to wait for something.
    pub(crate) fn waits(&self, why: impl Display) {
        let why = why.to_string();
        let mut state = self.state();
        if state.current.as_deref() != Some(why.as_str()) {
            tracing::info!(why, "the worker has to wait");
            state.current = Some(why);
        }
    }

    /// It is out of the way.
    pub(crate) fn passed(&self) {
        let mut state = self.state();
        if state.warned.take().is_some() {
            tracing::info!("the worker gets on");
        }
        state.current = None;
    }

    /// What it is now, with the fix if there is one.
    pub(crate) fn current(&self) -> Option<String> {
        self.state().current.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_in_the_status_at_once_and_in_the_log_now_and_then() {
        let obstacle = Obstacle::default();
        let error = Error::new(ErrorKind::Unavailable, "no route: check the network");
        let warned = || obstacle.state().warned.as_ref().map(|(_, at)| *at);
        obstacle.met("join the fleet", &error);
        assert_eq!(obstacle.current().as_deref(), Some("cannot join the fleet: no route: check the network"));
        let first = warned();
        tokio::time::advance(SPACING / 2).await;
        obstacle.met("join the fleet", &error);
        assert_eq!(warned(), first, "said a moment ago");
        tokio::time::advance(SPACING).await;
        obstacle.met("join the fleet", &error);
        assert!(warned() > first);
        obstacle.passed();
        assert_eq!((obstacle.current(), warned()), (None, None));
    }
}
