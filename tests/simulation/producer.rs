//! Puts records at moments and with keys that depend on the seed alone, whatever else happens.

use std::{sync::Arc, time::Duration};

use shardkeeper::{
    local::{LocalKinesis, PutEntry},
    stream::StreamReference,
    types::{SequenceNumber, ShardId},
};
use tokio::time::sleep_until;

use crate::{dice::Dice, event::Event, plan::Plan, world::World};

pub(crate) struct Producer {
    pub(crate) plan: Arc<Plan>,
    pub(crate) world: Arc<World>,
    pub(crate) kinesis: LocalKinesis,
    pub(crate) stream: StreamReference,
}

impl Producer {
    /// Puts until the chaos is over, and for `longer`.
    pub(crate) async fn run(self, longer: Duration) {
        let mut dice = Dice::new(self.plan.seed, "producer");
        let until = self.plan.chaos + longer;
        let mut at = Duration::ZERO;
        loop {
            // Bursts of ten on average.
            at += Duration::from_secs_f64(dice.unit() * 20.0 / self.plan.records_per_second);
            let count = dice.number(1..20);
            if at > until {
                return;
            }
            sleep_until(self.world.started() + at).await;
            self.put(&mut dice, count);
        }
    }

    /// Puts some records now.
    pub(crate) fn put(&self, dice: &mut Dice, count: u64) {
        if count == 0 {
            return;
        }
        let entries: Vec<PutEntry> = (0..count)
            .map(|_| {
                let key = dice.key();
                let key = if dice.chance(self.plan.hot) { key >> 4 } else { key };
                PutEntry::new("key", &b"payload"[..]).with_explicit_hash_key(key)
            })
            .collect();
        let arrival = self.kinesis.now();
        let Ok(outcomes) = self.kinesis.put_records(&self.stream, entries) else { return };
        let mut by_shard: std::collections::BTreeMap<ShardId, Vec<SequenceNumber>> = std::collections::BTreeMap::new();
        for receipt in outcomes.into_iter().flatten() {
            by_shard.entry(receipt.shard_id).or_default().push(receipt.sequence_number);
        }
        for (shard, mut records) in by_shard {
            records.sort();
            self.world.record(&Event::Put { shard, records, arrival });
        }
    }
}
