//! The events of all workers, put together by tenure: one owner of one shard, from `init` to its end.

use std::collections::BTreeMap;

use shardkeeper::types::{Checkpoint, SequenceNumber, ShardId};

use super::{Event, PutRecord, Result, What};

/// A batch that was handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) t: i64,
    pub(crate) first: SequenceNumber,
    pub(crate) last: SequenceNumber,
    pub(crate) records: usize,
}

impl Batch {
    pub(crate) fn contains(&self, number: SequenceNumber) -> bool {
        self.first <= number && number <= self.last
    }
}

/// One worker's time with one shard.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    pub(crate) shard: ShardId,
    /// Tells the tenures of a shard apart, in their order.
    pub(crate) token: u64,
    pub(crate) worker: String,
    /// When it began, in milliseconds since the epoch.
    pub(crate) began: i64,
    /// The checkpoint it began from.
    pub(crate) from: Checkpoint,
    /// In the order they were handed over.
    pub(crate) batches: Vec<Batch>,
    /// Checkpoints known to be durable to the worker.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// When the end of the shard was told.
    pub(crate) shard_ended: Option<i64>,
    /// When it was asked to stop, and had finished what was in hand.
    pub(crate) shutdown_requested: Option<i64>,
    /// The worker was told that the lease is gone.
    pub(crate) lost: bool,
}

impl Tenure {
    /// The last record handed over.
    pub(crate) fn last_delivered(&self) -> Option<SequenceNumber> {
        self.batches.iter().map(|batch| batch.last).max()
    }
}

/// All tenures, by shard in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) shards: BTreeMap<ShardId, Vec<Tenure>>,
}

impl History {
    /// Adds the events of one worker.
    pub(crate) fn add(&mut self, worker: &str, events: &[Event]) -> Result {
        for event in events {
            self.event(worker, event)?;
        }
        for tenures in self.shards.values_mut() {
            tenures.sort_by_key(|tenure| tenure.token);
        }
        Ok(())
    }

    fn event(&mut self, worker: &str, event: &Event) -> Result {
        match &event.what {
            What::Init { shard, token, from } => {
                let shard = ShardId::new(shard.as_str())?;
                let tenure = Tenure {
                    shard: shard.clone(),
                    token: *token,
                    worker: worker.to_owned(),
                    began: event.t,
                    from: Checkpoint::parse(from, 0)?,
                    batches: Vec::new(),
                    checkpoints: Vec::new(),
                    shard_ended: None,
                    shutdown_requested: None,
                    lost: false,
                };
                self.shards.entry(shard).or_default().push(tenure);
            }
            What::Batch { shard, token, first, last, n } => {
                let batch = Batch { t: event.t, first: SequenceNumber::parse(first)?, last: SequenceNumber::parse(last)?, records: *n };
                self.tenure(shard, *token)?.batches.push(batch);
            }
            What::Checkpoint { shard, token, at } => {
                let at = Checkpoint::parse(at, 0)?;
                self.tenure(shard, *token)?.checkpoints.push(at);
            }
            What::Fenced { shard, token } | What::LeaseLost { shard, token } => self.tenure(shard, *token)?.lost = true,
            What::ShardEnded { shard, token } => self.tenure(shard, *token)?.shard_ended = Some(event.t),
            What::ShutdownRequested { shard, token } => self.tenure(shard, *token)?.shutdown_requested = Some(event.t),
            What::Start | What::Running | What::Calls { .. } | What::Other => {}
        }
        Ok(())
    }

    fn tenure(&mut self, shard: &str, token: u64) -> Result<&mut Tenure> {
        let tenures = self.shards.get_mut(&ShardId::new(shard)?);
        let tenure = tenures.and_then(|tenures| tenures.iter_mut().find(|tenure| tenure.token == token));
        tenure.ok_or_else(|| format!("an event of shard {shard} at {token} without an init before it").into())
    }

    /// All tenures.
    pub(crate) fn tenures(&self) -> impl Iterator<Item = &Tenure> {
        self.shards.values().flatten()
    }

    /// Who has each shard that has not ended.
    pub(crate) fn owners(&self) -> BTreeMap<&ShardId, &Tenure> {
        let newest = self.shards.iter().filter_map(|(shard, tenures)| Some((shard, tenures.last()?)));
        newest.filter(|(_, tenure)| tenure.shard_ended.is_none()).collect()
    }

    /// The shards that a worker has now.
    pub(crate) fn owned_by(&self, worker: &str) -> Vec<ShardId> {
        self.owners().into_iter().filter(|(_, tenure)| tenure.worker == worker).map(|(shard, _)| shard.clone()).collect()
    }

    /// Whether the record was handed over.
    pub(crate) fn delivered(&self, record: &PutRecord) -> bool {
        let tenures = self.shards.get(&record.shard).map_or(&[][..], Vec::as_slice);
        tenures.iter().flat_map(|tenure| &tenure.batches).any(|batch| batch.contains(record.sequence_number))
    }
}
