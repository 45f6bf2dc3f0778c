//! What is known of a run so far: the facts that invariants are checked against, kept up by events alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shardkeeper::{
    lease::{Lease, LeaseKey, WorkerVersion},
    types::{Checkpoint, ExtendedSequenceNumber, InstanceId, Timestamp, WorkerId},
};

use crate::event::{Callback, Ending, Event, NodeId, ShardKey};

/// Numbers of the plan that invariants need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) lease_duration: Duration,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) drain_timeout: Duration,
    /// No fault of the network or the services happens in this run.
    pub(crate) calm_network: bool,
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) worker: WorkerId,
    /// Its lives in the table.
    pub(crate) instances: BTreeSet<InstanceId>,
    pub(crate) running: bool,
    pub(crate) frozen: bool,
    /// When it was frozen last.
    pub(crate) last_frozen: Option<Duration>,
    pub(crate) stop_asked: Option<Duration>,
    /// It ended by itself and in order.
    pub(crate) left: bool,
    /// When the last heartbeat of each life that took effect had been sent: from then on it may believe in its leases.
    pub(crate) believes_since: BTreeMap<InstanceId, Duration>,
    /// When heartbeats were sent that may still take effect.
    sent: BTreeMap<(WorkerVersion, Timestamp), Duration>,
}

impl Node {
    /// Until when this life may process, at most.
    pub(crate) fn believes_until(&self, instance: InstanceId, lease_duration: Duration) -> Option<Duration> {
        self.believes_since.get(&instance).map(|since| *since + lease_duration)
    }

    fn beat_applied(&mut self, version: WorkerVersion, stamp: Timestamp) {
        if let Some(sent) = self.sent.get(&(version, stamp)).copied() {
            let since = self.believes_since.entry(version.instance).or_default();
            *since = sent.max(*since);
            self.sent.retain(|(other, _), _| other.instance != version.instance || other.heartbeat > version.heartbeat);
        }
    }
}

/// A record as put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put {
    pub(crate) position: ExtendedSequenceNumber,
    pub(crate) arrival: Timestamp,
    /// When it was first processed successfully.
    pub(crate) done: Option<Duration>,
    /// User code has said by hand that it is done, in the midst of its batch.
    by_hand: bool,
    /// How often.
    pub(crate) times: u32,
}

/// A shard and all that was put into it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardFacts {
    pub(crate) parents: BTreeSet<ShardKey>,
    pub(crate) closed: bool,
    /// Whether a worker can know of it.
    pub(crate) shown: bool,
    pub(crate) records: Vec<Put>,
    /// All records before this index are done, or came before the application.
    pub(crate) done_until: usize,
    /// Whether its lease has been at its end.
    pub(crate) ended: Option<Duration>,
    /// Moment before which its records need not be delivered.
    pub(crate) start_at: Option<Timestamp>,
    /// The shard is past retention.
    pub(crate) gone: bool,
    /// Moment before which its records are past retention.
    trimmed_before: Option<Timestamp>,
}

impl ShardFacts {
    /// Index of the first record after this position.
    pub(crate) fn index_after(&self, checkpoint: Checkpoint, start_at: Option<Timestamp>) -> usize {
        match checkpoint {
            Checkpoint::TrimHorizon => 0,
            Checkpoint::Latest | Checkpoint::AtTimestamp => {
                start_at.map_or(0, |start| self.records.partition_point(|record| record.arrival < start))
            }
            Checkpoint::Sequence(n) => self.records.partition_point(|record| record.position <= n),
            Checkpoint::ShardEnd => self.records.len(),
        }
    }

    /// Index of this record.
    pub(crate) fn index_of(&self, position: ExtendedSequenceNumber) -> Option<usize> {
        self.records.binary_search_by_key(&position, |record| record.position).ok()
    }

    fn advance(&mut self) {
        let passed = |r: &Put| {
            let early = self.start_at.is_some_and(|start| r.arrival < start);
            r.done.is_some() || r.by_hand || early || self.is_trimmed(r)
        };
        self.done_until += self.records[self.done_until..].iter().take_while(|r| passed(r)).count();
    }

    /// How many records after this position are in retention.
    pub(crate) fn left_after(&self, checkpoint: Checkpoint, start_at: Option<Timestamp>) -> usize {
        let from = self.index_after(checkpoint, start_at);
        self.records[from..].iter().filter(|record| !self.is_trimmed(record)).count()
    }

    fn is_trimmed(&self, record: &Put) -> bool {
        self.trimmed_before.is_some_and(|before| record.arrival < before)
    }
}

/// From the acquisition of a lease to its end.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    pub(crate) node: NodeId,
    pub(crate) instance: InstanceId,
    /// The position at acquisition.
    pub(crate) start: (Checkpoint, Option<Timestamp>),
    /// Index after the last record processed.
    done_until: usize,
    pub(crate) initialized: bool,
    pub(crate) processor: Option<u64>,
    /// The call that runs now, and since when.
    pub(crate) running: Option<(Callback, Duration)>,
    /// The last callback.
    pub(crate) finished: Option<&'static str>,
    /// That was a `shard_ended` that failed, which may be repeated, and followed by the loss of the lease.
    pub(crate) end_failed: bool,
    /// When the first write was sent that would end it.
    pub(crate) surrendered: Option<Duration>,
    /// When another write took the lease away, or the end was applied.
    pub(crate) over: Option<Duration>,
}

impl Tenure {
    /// Index of its first record.
    pub(crate) fn first(&self, facts: &ShardFacts) -> usize {
        facts.index_after(self.start.0, self.start.1)
    }

    /// Index after the last record that this tenure has processed.
    pub(crate) fn done(&self, facts: &ShardFacts) -> usize {
        self.first(facts).max(self.done_until).min(facts.records.len())
    }

    /// Index of the record to come next: what is past retention will not come.
    pub(crate) fn next(&self, facts: &ShardFacts) -> usize {
        let next = self.done(facts);
        next + facts.records[next..].iter().take_while(|record| facts.is_trimmed(record)).count()
    }
}

/// Everything known.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) settings: Settings,
    /// Virtual time since the start.
    pub(crate) now: Duration,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) shards: BTreeMap<ShardKey, ShardFacts>,
    pub(crate) rows: BTreeMap<LeaseKey, Lease>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerVersion>,
    pub(crate) tenures: BTreeMap<(ShardKey, u64), Tenure>,
    /// The tenure that each row is in.
    pub(crate) current: BTreeMap<ShardKey, u64>,
    pub(crate) healed: Option<Duration>,
    /// Records put; deliveries that succeeded; of those, of records that had been delivered before.
    pub(crate) put: u64,
    pub(crate) delivered: u64,
    pub(crate) repeated: u64,
    pub(crate) takes: u64,
    pub(crate) last_take: Duration,
}

impl History {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            shards: BTreeMap::new(),
            rows: BTreeMap::new(),
            workers: BTreeMap::new(),
            tenures: BTreeMap::new(),
            current: BTreeMap::new(),
            healed: None,
            put: 0,
            delivered: 0,
            repeated: 0,
            takes: 0,
            last_take: Duration::ZERO,
        }
    }

    /// The tenure of this token. An owner whose take was not answered takes once more, and counts from then.
    pub(crate) fn tenure(&self, shard: &ShardKey, token: u64) -> Option<&Tenure> {
        let (found, tenure) = self.tenures.range(..=(shard.clone(), token)).next_back()?;
        (found.0 == *shard).then_some(tenure)
    }

    fn tenure_mut(&mut self, shard: &ShardKey, token: u64) -> Option<&mut Tenure> {
        let (found, tenure) = self.tenures.range_mut(..=(shard.clone(), token)).next_back()?;
        (found.0 == *shard).then_some(tenure)
    }

    /// The tenure that the row is in, if a worker has accepted it.
    pub(crate) fn current_tenure(&self, shard: &ShardKey) -> Option<(u64, &Tenure)> {
        let token = *self.current.get(shard)?;
        Some((token, self.tenure(shard, token)?))
    }

    /// Whether this life of this worker is one of the node's.
    pub(crate) fn is_own(&self, node: NodeId, lease: &Lease) -> bool {
        self.nodes.get(&node).is_some_and(|node| {
            lease.owner.as_ref() == Some(&node.worker) && lease.owner_instance.is_some_and(|instance| node.instances.contains(&instance))
        })
    }

    /// The running node that this life belongs to.
    pub(crate) fn running_node(&self, worker: &WorkerId, instance: InstanceId) -> Option<(NodeId, &Node)> {
        let found = self.nodes.iter().find(|(_, node)| node.running && node.worker == *worker && node.instances.contains(&instance));
        found.map(|(id, node)| (*id, node))
    }

    /// Whether all parents of the shard are at their end, as far as a lease row tells.
    pub(crate) fn parents_ended(&self, shard: &ShardKey) -> Result<(), ShardKey> {
        let Some(facts) = self.shards.get(shard) else { return Ok(()) };
        let leased = |shard: &ShardKey| self.rows.values().any(|row| ShardKey::of(row) == *shard);
        // What closed before the application began to read is not waited for.
        let before = |shard: &ShardKey, facts: &ShardFacts| facts.done_until == facts.records.len() && !leased(shard);
        let waits = |shard: &ShardKey| self.shards.get(shard).is_none_or(|p| p.ended.is_none() && !p.gone && !before(shard, p));
        match facts.parents.iter().find(|parent| waits(parent)) {
            Some(parent) => Err(parent.clone()),
            None => Ok(()),
        }
    }

    /// Shards with records that are not processed, and how many.
    pub(crate) fn unfinished(&self) -> Vec<(ShardKey, usize)> {
        let left = self.shards.iter().map(|(id, facts)| (id.clone(), facts.records.len() - facts.done_until));
        left.filter(|(_, left)| *left > 0).collect()
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Booted { node, worker, .. } => {
                let facts = Node {
                    worker: worker.clone(),
                    instances: BTreeSet::new(),
                    running: true,
                    frozen: false,
                    last_frozen: None,
                    stop_asked: None,
                    left: false,
                    believes_since: BTreeMap::new(),
                    sent: BTreeMap::new(),
                };
                self.nodes.insert(*node, facts);
            }
            Event::Killed { node } => self.node(*node, |n, _| n.running = false),
            Event::Exited { node, result } => self.node(*node, |n, _| (n.running, n.left) = (false, result.is_ok())),
            Event::Frozen { node } => self.node(*node, |n, now| (n.frozen, n.last_frozen) = (true, Some(now))),
            Event::Resumed { node } => self.node(*node, |n, now| (n.frozen, n.last_frozen) = (false, Some(now))),
            Event::StopAsked { node } => self.node(*node, |n, now| n.stop_asked = Some(now)),
            Event::HeartbeatSent { node, version, stamp } => self.node(*node, |n, now| {
                n.sent.insert((*version, *stamp), now);
            }),
            Event::Healed => self.healed = Some(self.now),
            Event::Fault(_) | Event::Signalled { .. } | Event::Paused { .. } => {}
            Event::Put { shard, records, arrival } => self.put(shard, records, *arrival),
            Event::ShardSeen(stream, shard) => {
                let key = ShardKey { stream: *stream, shard: shard.id.clone() };
                let facts = self.shards.entry(key.clone()).or_default();
                facts.parents.extend(shard.parents.iter().map(|parent| key.sibling(parent)));
                facts.closed |= !shard.is_open();
                facts.shown = true;
            }
            Event::Subscribes { .. } => {}
            Event::EndSeen { shard } => self.shards.entry(shard.clone()).or_default().closed = true,
            Event::WorkerPut { node, row } => {
                self.node(*node, |n, _| {
                    n.instances.insert(row.version.instance);
                    n.beat_applied(row.version, row.updated);
                });
                self.workers.insert(row.id.clone(), row.version);
            }
            Event::WorkerRenewed { node, worker, version, stamp } => {
                self.node(*node, |n, _| n.beat_applied(*version, *stamp));
                self.workers.insert(worker.clone(), *version);
            }
            Event::WorkerDeleted { node, worker, version } => {
                self.workers.remove(worker);
                // Who signs off believes in nothing any more.
                self.node(*node, |n, _| {
                    n.believes_since.remove(&version.instance);
                });
            }
            Event::LeaseSent { node, from, to } => self.lease_sent(*node, from, to),
            Event::LeaseCreated { node, lease } => self.lease_created(*node, lease),
            Event::LeaseUpdated { node, to, .. } => self.lease_updated(*node, to),
            Event::LeaseDeleted { from, .. } => drop(self.rows.remove(&from.key)),
            Event::CallStarted { by, call } => {
                let now = self.now;
                if let Some(tenure) = self.tenure_mut(&by.shard, by.token) {
                    tenure.running = Some((call.clone(), now));
                    tenure.processor = Some(by.processor);
                    if call.is_last() {
                        tenure.finished = Some(call.name());
                    }
                }
            }
            Event::Trimmed { before, gone } => {
                for shard in gone {
                    let facts = self.shards.entry(shard.clone()).or_default();
                    (facts.gone, facts.closed) = (true, true);
                }
                for facts in self.shards.values_mut() {
                    facts.trimmed_before = Some(*before);
                    facts.advance();
                }
            }
            Event::DoneByHand { by, records } => {
                let Some(facts) = self.shards.get_mut(&by.shard) else { return };
                for position in records {
                    if let Some(index) = facts.index_of(*position) {
                        facts.records[index].by_hand = true;
                    }
                }
                facts.advance();
            }
            Event::CallEnded { by, call, ending } => self.call_ended(&by.shard, by.token, call, *ending),
        }
    }

    fn node(&mut self, id: NodeId, change: impl FnOnce(&mut Node, Duration)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            change(node, self.now);
        }
    }

    fn put(&mut self, shard: &ShardKey, records: &[ExtendedSequenceNumber], arrival: Timestamp) {
        let facts = self.shards.entry(shard.clone()).or_default();
        facts.records.extend(records.iter().map(|position| Put { position: *position, arrival, done: None, by_hand: false, times: 0 }));
        facts.advance();
        self.put += records.len() as u64;
    }

    fn lease_created(&mut self, node: NodeId, lease: &Lease) {
        if matches!(lease.checkpoint, Checkpoint::Latest | Checkpoint::AtTimestamp) {
            let shard = ShardKey::of(lease);
            self.shards.entry(shard.clone()).or_default().start_at = lease.start_at;
            // Shards that were closed by then get no lease.
            for (_, facts) in self.shards.iter_mut().filter(|(key, _)| key.stream == shard.stream) {
                facts.start_at = facts.start_at.or(lease.start_at);
                facts.advance();
            }
        }
        // The owner of a parent makes the leases of its children its own.
        self.lease_updated(node, lease);
    }

    fn lease_sent(&mut self, node: NodeId, from: &Lease, to: &Lease) {
        if !self.is_own(node, from) || (to.owner == from.owner && to.owner_instance.is_some()) {
            return;
        }
        let now = self.now;
        let shard = ShardKey::of(from);
        if let Some(token) = self.current.get(&shard).copied()
            && let Some(tenure) = self.tenures.get_mut(&(shard, token))
            && tenure.node == node
        {
            tenure.surrendered.get_or_insert(now);
        }
    }

    fn lease_updated(&mut self, node: NodeId, to: &Lease) {
        let before = self.rows.insert(to.key.clone(), to.clone());
        let now = self.now;
        let shard = ShardKey::of(to);
        let facts = self.shards.entry(shard.clone()).or_default();
        if to.checkpoint.is_shard_end() {
            facts.ended.get_or_insert(now);
        }
        let held = |lease: &Lease| lease.owner.clone().zip(lease.owner_instance);
        let same = before.as_ref().and_then(held) == held(to);
        if same {
            return;
        }
        if let Some(token) = self.current.remove(&shard)
            && let Some(tenure) = self.tenures.get_mut(&(shard.clone(), token))
        {
            tenure.over = Some(now);
        }
        if let Some((_, instance)) = held(to) {
            let tenure = Tenure {
                node,
                instance,
                start: (to.checkpoint, to.start_at),
                done_until: 0,
                initialized: false,
                processor: None,
                running: None,
                finished: None,
                end_failed: false,
                surrendered: None,
                over: None,
            };
            self.tenures.insert((shard.clone(), to.counter), tenure);
            self.current.insert(shard, to.counter);
            self.takes += 1;
            self.last_take = now;
        }
    }

    fn call_ended(&mut self, shard: &ShardKey, token: u64, call: &Callback, ending: Ending) {
        let now = self.now;
        let Some((_, tenure)) = self.tenures.range_mut(..=(shard.clone(), token)).next_back().filter(|(found, _)| found.0 == *shard) else {
            return;
        };
        tenure.running = None;
        tenure.end_failed = matches!(call, Callback::ShardEnded) && ending != Ending::Done;
        if ending != Ending::Done {
            return;
        }
        match call {
            Callback::Initialize(_) => tenure.initialized = true,
            Callback::LeaseLost | Callback::ShardEnded | Callback::ShutdownRequested => {}
            Callback::Process(records) => {
                let Some(facts) = self.shards.get_mut(shard) else { return };
                for position in records {
                    let Some(index) = facts.index_of(*position) else { continue };
                    let record = &mut facts.records[index];
                    self.delivered += 1;
                    self.repeated += u64::from(record.times > 0);
                    record.times += 1;
                    record.done.get_or_insert(now);
                    tenure.done_until = tenure.done_until.max(index + 1);
                }
                facts.advance();
            }
        }
    }
}
