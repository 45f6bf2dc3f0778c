//! From what one shard's reader has fetched to its batches: aggregates are taken apart, and what is to be held back goes
//! into quarantine first.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;

use super::{
    Batch, Gauge, OpenPage,
    kpl::{Deaggregator, KplCounts, Quarantine, QuarantineInput, Quarantined},
};
use crate::{random::Randomness, retry::RetryConfig, stream::StreamReference, types::ShardId};

/// Waits while the quarantine fails: from a tenth of a second to ten, without end.
const QUARANTINE_RETRY: RetryConfig =
    RetryConfig { max_attempts: None, min_delay: Duration::from_millis(100), max_delay: Duration::from_secs(10) };

/// How the records of one shard are taken apart.
#[derive(Debug, Clone)]
pub(crate) struct UnpackingOfShard {
    pub(crate) deaggregator: Deaggregator,
    pub(crate) quarantine: Option<Arc<dyn Quarantine>>,
}

/// Takes one page after the other apart.
pub(super) struct Unpacker {
    stream: StreamReference,
    shard_id: ShardId,
    how: UnpackingOfShard,
    random: Randomness,
    gauge: Gauge,
    max_records: usize,
    /// Fetched, and not all of it delivered.
    page: Option<OpenPage>,
    /// Whether it was logged that records do not reach the processor as their producer meant them to.
    noted: bool,
}

impl Unpacker {
    /// Batches have about `max_records` records at the most: no more than the last aggregate adds to that.
    pub(super) fn new(
        stream: &StreamReference,
        shard_id: &ShardId,
        how: UnpackingOfShard,
        random: &Randomness,
        gauge: &Gauge,
        max_records: u32,
    ) -> Self {
        Self {
            stream: stream.clone(),
            shard_id: shard_id.clone(),
            how,
            random: random.clone(),
            gauge: gauge.clone(),
            max_records: usize::try_from(max_records).unwrap_or(usize::MAX),
            page: None,
            noted: false,
        }
    }

    /// Takes in a page. The one before must be used up.
    pub(super) fn feed(&mut self, page: OpenPage) {
        self.page = Some(page);
    }

    /// The next batch of what was fetched. What is to be held back is held back before what follows it is delivered.
    ///
    /// # Cancel safety
    /// Not safe: the batch under way is lost.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        while let Some(page) = &mut self.page {
            let Some((output, reservation)) = page.next(&self.how.deaggregator, self.max_records) else {
                self.page = None;
                break;
            };
            let millis_behind_latest = page.millis_behind_latest;
            if !output.quarantined.is_empty() {
                self.hold_back(&output.quarantined).await;
            }
            self.note(&output.counts);
            if let Some(batch) = Batch::new(output.records, millis_behind_latest, reservation) {
                return Some(batch);
            }
        }
        None
    }

    async fn hold_back(&self, records: &[Quarantined]) {
        let Some(quarantine) = &self.how.quarantine else { return };
        let (stream, shard_id) = (&self.stream, &self.shard_id);
        let mut backoff = QUARANTINE_RETRY.backoff(&self.random);
        loop {
            let kept = AssertUnwindSafe(quarantine.keep(QuarantineInput { stream, shard_id, records })).catch_unwind().await;
            let why = match kept {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_panic) => "it panicked".to_owned(),
            };
            tracing::warn!(records = records.len(), why, "the quarantine does not keep records, trying again");
            self.gauge.failed(format!("the quarantine does not keep records: {why}"));
            backoff.wait().await;
        }
    }

    fn note(&mut self, counts: &KplCounts) {
        self.gauge.taken_apart(counts);
        if !self.noted && counts.malformed + counts.filtered + counts.quarantined > 0 {
            self.noted = true;
            let KplCounts { malformed, filtered, quarantined, .. } = *counts;
            tracing::warn!(malformed, filtered, quarantined, "aggregates are not delivered in full; the status of the shard counts on");
        }
    }
}
