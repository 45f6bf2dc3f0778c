//! Automatic checkpoints: one timer per shard.

use std::time::Duration;

use tokio::time::Instant;

use super::Checkpointer;
use crate::{error::ErrorKind, random::Randomness};

/// Writes what is acknowledged, at most once per `interval`, and only when there is progress. Runs beside processing,
/// which never waits for it. The first write comes after half to a whole interval, so that shards do not write in
/// step. Ends when the lease is lost; a write that fails otherwise is tried again an interval later.
pub(crate) async fn write_at_interval(checkpointer: Checkpointer, interval: Duration, random: Randomness) {
    let mut due = Instant::now() + random.jittered(interval);
    let mut failing = false;
    loop {
        checkpointer.progress_made().await;
        tokio::time::sleep_until(due).await;
        let started = Instant::now();
        match checkpointer.write_acknowledged().await {
            Ok(true) => {
                if failing {
                    tracing::info!("checkpoints are written again");
                }
                failing = false;
            }
            // A two-phase checkpoint has begun meanwhile, or user code was faster.
            Ok(false) => continue,
            Err(error) if error.kind() == ErrorKind::LeaseLost => return,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot write a checkpoint, trying again at the next interval");
                }
                failing = true;
            }
        }
        due = started + interval;
    }
}
