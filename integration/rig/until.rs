//! Waiting for conditions. Nothing here depends on the speed of the machine but how long a failure takes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Result;

/// Longest wait for anything: many times what a busy machine needs, as only failures take that long.
pub(crate) const GENEROUS: Duration = Duration::from_secs(120);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `look` finds something.
///
/// # Errors
/// That of `look`, or after [`GENEROUS`] one that names `what`.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_async(what, GENEROUS, async || look()).await
}

/// As [`until`], for looks that wait themselves.
pub(crate) async fn until_async<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain until {what}").into());
        }
        sleep(LOOK_EVERY).await;
    }
}
