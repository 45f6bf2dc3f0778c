//! The lease table as anyone may see it, read again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shardkeeper::{
    lease::LeaseTable,
    task::{Spawner, Task},
    types::{Checkpoint, ShardId},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::rig::{History, Result};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A lease row at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    counter: u64,
    checkpoint: Checkpoint,
}

type Sightings = Arc<Mutex<BTreeMap<ShardId, Vec<Seen>>>>;

/// Every state of every lease row that was seen, in order.
#[derive(Debug)]
pub(crate) struct TableWatch {
    seen: Sightings,
    _task: Option<Task<()>>,
}

impl TableWatch {
    /// Looks at the table until dropped.
    pub(crate) fn start(table: Arc<dyn LeaseTable>) -> Self {
        let seen = Sightings::default();
        let task = Spawner::current().spawn("table watch", watch(table, Arc::clone(&seen)));
        Self { seen, _task: Some(task) }
    }

    /// States as if they had been seen.
    pub(crate) fn of(states: impl Iterator<Item = (ShardId, u64, Checkpoint)>) -> Self {
        let mut seen = BTreeMap::<ShardId, Vec<Seen>>::new();
        for (shard, counter, checkpoint) in states {
            seen.entry(shard).or_default().push(Seen { counter, checkpoint });
        }
        Self { seen: Arc::new(Mutex::new(seen)), _task: None }
    }

    /// Leases seen so far.
    pub(crate) fn leases(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What must not be: a counter or checkpoint that went back, or one that a later owner did not begin from.
    pub(super) fn violations(&self, history: &History) -> Vec<String> {
        let mut found = Vec::new();
        for (shard, states) in &*self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            for pair in states.windows(2) {
                let [before, after]: &[Seen; 2] = pair.try_into().expect("windows of two");
                if after.counter <= before.counter || after.checkpoint < before.checkpoint {
                    found.push(format!(
                        "P4: lease {shard} went from {} at counter {} back to {} at {}",
                        before.checkpoint, before.counter, after.checkpoint, after.counter
                    ));
                }
            }
            for tenure in history.shards.get(shard).map_or(&[][..], Vec::as_slice) {
                let durable = states.iter().filter(|s| s.counter < tenure.token).map(|s| s.checkpoint).max();
                if let Some(durable) = durable.filter(|durable| *durable > tenure.from) {
                    found.push(format!("P3: {} began {shard} after {}, but the table said {durable} before", tenure.worker, tenure.from));
                }
            }
        }
        found
    }
}

async fn watch(table: Arc<dyn LeaseTable>, seen: Sightings) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        // Until the first worker has made the table there is nothing to see.
        let Ok(scan) = table.scan().await else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in scan.leases {
            let state = Seen { counter: lease.counter, checkpoint: lease.checkpoint };
            let states = seen.entry(lease.shard_id).or_default();
            if states.last() != Some(&state) {
                states.push(state);
            }
        }
    }
}

/// For a check that must have seen something to be worth anything.
pub(crate) fn saw_enough(watch: &TableWatch, shards: usize) -> Result {
    if watch.leases() < shards {
        return Err(format!("the table watch saw {} leases of {shards}", watch.leases()).into());
    }
    Ok(())
}
