//! Puts records at moments and with keys that depend on the seed alone, whatever else happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shardkeeper::{
    local::{LocalKinesis, PutEntry},
    stream::StreamReference,
    testing::Aggregator,
    types::ExtendedSequenceNumber,
};
use tokio::time::sleep_until;

use crate::{
    dice::Dice,
    event::{Event, ShardKey},
    plan::Plan,
    world::World,
};

/// Most user records of an aggregate.
const MOST_IN_AGGREGATE: u64 = 20;

pub(crate) struct Producer {
    pub(crate) plan: Arc<Plan>,
    pub(crate) world: Arc<World>,
    pub(crate) kinesis: LocalKinesis,
    pub(crate) streams: Vec<StreamReference>,
    /// Draws keys and counts.
    dice: Dice,
    /// Draws what came later, so that the others stay as they were.
    breadth: Dice,
}

impl Producer {
    /// One whose draws are those of this concern.
    pub(crate) fn new(plan: &Arc<Plan>, world: &Arc<World>, kinesis: &LocalKinesis, streams: &[StreamReference], concern: &str) -> Self {
        Self {
            plan: Arc::clone(plan),
            world: Arc::clone(world),
            kinesis: kinesis.clone(),
            streams: streams.to_vec(),
            dice: Dice::new(plan.seed, concern),
            breadth: Dice::new(plan.seed, &format!("{concern}, breadth")),
        }
    }

    /// Puts until the chaos is over, and for `longer`.
    pub(crate) async fn run(mut self, longer: Duration) {
        let until = self.plan.chaos + longer;
        let mut at = Duration::ZERO;
        loop {
            // Bursts of ten on average.
            at += Duration::from_secs_f64(self.dice.unit() * 20.0 / self.plan.records_per_second);
            let count = self.dice.number(1..20);
            if at > until {
                return;
            }
            sleep_until(self.world.started() + at).await;
            self.put(count);
        }
    }

    /// Puts some records now, aggregates among them, all into one stream.
    pub(crate) fn put(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        let stream = self.breadth.number(0..self.streams.len() as u64) as u32;
        let (entries, sizes): (Vec<PutEntry>, Vec<u64>) = (0..count).map(|_| self.entry()).unzip();
        let arrival = self.kinesis.now();
        let Ok(outcomes) = self.kinesis.put_records(&self.streams[stream as usize], entries) else { return };
        let mut by_shard: BTreeMap<ShardKey, Vec<ExtendedSequenceNumber>> = BTreeMap::new();
        for (outcome, size) in outcomes.into_iter().zip(sizes) {
            let Ok(receipt) = outcome else { continue };
            let records = by_shard.entry(ShardKey { stream, shard: receipt.shard_id }).or_default();
            records.extend((0..size).map(|sub| ExtendedSequenceNumber::new(receipt.sequence_number, sub)));
        }
        for (shard, mut records) in by_shard {
            records.sort();
            self.world.record(&Event::Put { shard, records, arrival });
        }
    }

    /// A record, or an aggregate of some, and how many.
    fn entry(&mut self) -> (PutEntry, u64) {
        let key = self.dice.key();
        let key = if self.dice.chance(self.plan.hot) { key >> 4 } else { key };
        if !self.breadth.chance(self.plan.aggregated) {
            return (PutEntry::new("key", &b"payload"[..]).with_explicit_hash_key(key), 1);
        }
        // Its first record routes it; the others may well belong to other shards.
        let size = self.breadth.number(1..=MOST_IN_AGGREGATE);
        let mut aggregator = Aggregator::default();
        aggregator.add_with_explicit_hash_key("key", key, "payload");
        (1..size).for_each(|_| aggregator.add_with_explicit_hash_key("other key", self.breadth.key(), "payload"));
        (aggregator.finish().into(), size)
    }
}
