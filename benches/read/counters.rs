//! What a reader counts, and how its parent asks for it: a line to stdin, a line of JSON from stdout.

use std::{
    io::BufRead as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::job::announce;

/// Of all shards together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    shards: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    delays: Mutex<Vec<u32>>,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Shards that have delivered something.
    pub(crate) shards: u64,
    pub(crate) batches: u64,
    /// User records.
    pub(crate) records: u64,
    /// Of their payloads.
    pub(crate) bytes: u64,
}

impl Counters {
    /// Counts a shard that delivers for the first time.
    pub(crate) fn shard(&self) {
        self.shards.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn batch(&self, records: u64, bytes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts the time since a payload was stamped.
    pub(crate) fn delay_of(&self, payload: &[u8]) {
        if let Some(stamp) = payload.first_chunk() {
            let micros = micros_now().saturating_sub(u64::from_be_bytes(*stamp));
            self.delays.lock().unwrap_or_else(PoisonError::into_inner).push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { shards: read(&self.shards), batches: read(&self.batches), records: read(&self.records), bytes: read(&self.bytes) }
    }

    fn take_delays(&self) -> Vec<u32> {
        std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The clock that all processes of a machine share.
pub(crate) fn micros_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Asks for [`Counts`].
pub(crate) const COUNTS: &str = "counts";
/// Asks for the delays in microseconds that came since it was asked last.
pub(crate) const DELAYS: &str = "delays";

/// Answers on a thread of its own, and ends the process when its parent has.
pub(crate) fn answer_parent(counters: Arc<Counters>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let answer = match line.as_str() {
                COUNTS => serde_json::to_string(&counters.counts()),
                _ => serde_json::to_string(&counters.take_delays()),
            };
            if announce(&answer.expect("numbers are JSON")).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
}
