//! Random histories of a stream and of the readers of its leases: whatever happens, and from whatever state of the
//! table, every record is read, parents before children, and without accidents each is read once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    audit::{audit, uncovered},
    cleanup::deletable,
    lineage::{BEGINNING, Start, compare, late_starts},
};
use crate::{
    lease::{Lease, WriteId},
    types::{
        Checkpoint, ChildShard, ExtendedSequenceNumber, HashKeyRange, InitialPosition, SequenceNumber, Shard, ShardId, StreamIdentifier,
        StreamName, Timestamp,
    },
};

/// One thing that happens. Indexes are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Event {
    Tick,
    Split(usize),
    Merge(usize),
    /// Retention passes for what closed before now.
    Trim,
    Sync,
    /// The reader of a lease that may be read goes on, up to this share of what there is.
    Read(usize, u8),
    CleanUp,
}

/// When the stream was created.
const BIRTH: i64 = 1000;

/// A shard takes one record per unit of time from `born` until `closed`.
#[derive(Debug, Clone)]
struct Facts {
    shard: Shard,
    born: i64,
    closed: Option<i64>,
    trimmed: bool,
}

#[derive(Debug)]
struct World {
    stream: StreamIdentifier,
    now: i64,
    first_start: i64,
    shards: Vec<Facts>,
    leases: BTreeMap<ShardId, Lease>,
    /// Times of the records read, with how often.
    reads: BTreeMap<ShardId, BTreeMap<i64, u32>>,
    initial: InitialPosition,
    violations: Vec<String>,
}

fn position(time: i64) -> Checkpoint {
    Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, u128::from(time.unsigned_abs())), 0))
}

impl World {
    fn new(initial: InitialPosition, shards: u64) -> Self {
        let stream = StreamIdentifier::Single(StreamName::new("clicks").expect("valid"));
        let mut world = Self {
            stream,
            now: BIRTH,
            first_start: BIRTH,
            shards: Vec::new(),
            leases: BTreeMap::new(),
            reads: BTreeMap::new(),
            initial,
            violations: Vec::new(),
        };
        let width = u128::MAX / u128::from(shards);
        for i in 0..shards {
            let start = width * u128::from(i);
            let end = if i + 1 == shards { u128::MAX } else { start + (width - 1) };
            world.add(HashKeyRange::new(start, end).expect("valid"), Vec::new());
        }
        world
    }

    fn add(&mut self, hash_key_range: HashKeyRange, parents: Vec<ShardId>) {
        let shard = Shard {
            id: ShardId::from_index(self.shards.len() as u64),
            parents,
            hash_key_range,
            starting_sequence_number: SequenceNumber::ZERO,
            ending_sequence_number: None,
        };
        self.shards.push(Facts { shard, born: self.now, closed: None, trimmed: false });
    }

    fn close(&mut self, index: usize) {
        self.shards[index].closed = Some(self.now);
        self.shards[index].shard.ending_sequence_number = Some(SequenceNumber::MAX);
    }

    fn open(&self) -> Vec<usize> {
        let mut open: Vec<usize> = (0..self.shards.len()).filter(|&i| self.shards[i].closed.is_none()).collect();
        open.sort_by_key(|&i| self.shards[i].shard.hash_key_range);
        open
    }

    fn listed(&self) -> Vec<Shard> {
        self.shards.iter().filter(|facts| !facts.trimmed).map(|facts| facts.shard.clone()).collect()
    }

    /// What a listing with the filter `AtTimestamp` returns.
    fn listed_at(&self, moment: i64) -> Vec<Shard> {
        let open_then = |facts: &&Facts| facts.born <= moment && facts.closed.is_none_or(|closed| closed >= moment);
        self.shards.iter().filter(|facts| !facts.trimmed).filter(open_then).map(|facts| facts.shard.clone()).collect()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => self.now += 1,
            Event::Split(n) => {
                let open = self.open();
                let parent = open[n % open.len()];
                let range = self.shards[parent].shard.hash_key_range;
                if range.start() == range.end() || open.len() > 12 {
                    return;
                }
                self.now += 1;
                self.close(parent);
                let id = self.shards[parent].shard.id.clone();
                let middle = range.start() + (range.end() - range.start()) / 2;
                self.add(HashKeyRange::new(range.start(), middle).expect("valid"), vec![id.clone()]);
                self.add(HashKeyRange::new(middle + 1, range.end()).expect("valid"), vec![id]);
                self.now += 1;
            }
            Event::Merge(n) => {
                let open = self.open();
                if open.len() < 2 {
                    return;
                }
                let (left, right) = (open[n % (open.len() - 1)], open[n % (open.len() - 1) + 1]);
                self.now += 1;
                self.close(left);
                self.close(right);
                let range =
                    HashKeyRange::new(self.shards[left].shard.hash_key_range.start(), self.shards[right].shard.hash_key_range.end());
                self.add(range.expect("adjacent"), vec![self.shards[left].shard.id.clone(), self.shards[right].shard.id.clone()]);
                self.now += 1;
            }
            Event::Trim => {
                // Oldest first, and only what nobody has to read any more: loss by retention is another matter.
                let mut closed: Vec<usize> =
                    (0..self.shards.len()).filter(|&i| self.shards[i].closed.is_some() && !self.shards[i].trimmed).collect();
                closed.sort_by_key(|&i| self.shards[i].closed);
                let Some(&oldest) = closed.first() else { return };
                let facts = &self.shards[oldest];
                let unfinished = self.leases.get(&facts.shard.id).is_some_and(|lease| !lease.checkpoint.is_shard_end());
                self.shards[oldest].trimmed = !unfinished && self.unread(facts).is_empty();
            }
            Event::Sync => self.sync(),
            Event::Read(n, share) => self.read(n, share),
            Event::CleanUp => {
                let listed: BTreeSet<ShardId> = self.listed().into_iter().map(|s| s.id).collect();
                let trimmed = self.leases.keys().filter(|id| !listed.contains(id)).cloned().collect();
                let mut children: BTreeMap<ShardId, BTreeSet<ShardId>> = BTreeMap::new();
                for shard in self.listed() {
                    for parent in shard.parents {
                        children.entry(parent).or_default().insert(shard.id.clone());
                    }
                }
                let rows: Vec<&Lease> = self.leases.values().collect();
                let gone: Vec<ShardId> = deletable(&rows, &children, &trimmed).iter().map(|l| l.shard_id.clone()).collect();
                for id in gone {
                    self.leases.remove(&id);
                }
            }
        }
    }

    /// As `ShardSync::sync` does it.
    fn sync(&mut self) {
        let rows: Vec<Lease> = self.leases.values().cloned().collect();
        let rows: Vec<&Lease> = rows.iter().collect();
        for (lease, moment) in late_starts(&rows) {
            self.leases.get_mut(&lease.shard_id).expect("present").start_at = Some(moment);
        }
        for lease in compare(&self.stream, &self.listed(), &rows, self.start(&rows)).confirmed {
            self.leases.get_mut(&lease.shard_id).expect("present").start_at = Some(BEGINNING);
        }
        for lease in self.wanted_leases(&rows) {
            self.leases.entry(lease.shard_id.clone()).or_insert(lease);
        }
    }

    fn start(&self, rows: &[&Lease]) -> Start {
        Start::of(self.initial, rows, Timestamp::from_millis(self.now), Timestamp::from_millis(BIRTH))
    }

    fn wanted_leases(&self, rows: &[&Lease]) -> Vec<Lease> {
        let start = self.start(rows);
        if let Start::From { moment, mid_retention: true, .. } = start
            && rows.is_empty()
        {
            let open = self.listed_at(moment.as_millis());
            if uncovered(&open.iter().map(|s| s.hash_key_range).collect::<Vec<_>>()).is_empty() {
                return open.iter().map(|shard| start.lease(&self.stream, shard)).collect();
            }
        }
        compare(&self.stream, &self.listed(), rows, start).missing
    }

    /// Leases whose shards may be read: parents ended, or without a row and known not to matter.
    fn readable(&self) -> Vec<ShardId> {
        let ready = |lease: &&Lease| {
            !lease.checkpoint.is_shard_end()
                && lease.parents.iter().all(|parent| match self.leases.get(parent) {
                    Some(parent) => parent.checkpoint.is_shard_end(),
                    None => lease.vouches_for_ancestors(),
                })
        };
        self.leases.values().filter(ready).map(|lease| lease.shard_id.clone()).collect()
    }

    fn facts(&self, id: &ShardId) -> &Facts {
        self.shards.iter().find(|facts| facts.shard.id == *id).expect("leases are of real shards")
    }

    fn read(&mut self, n: usize, share: u8) {
        let readable = self.readable();
        if readable.is_empty() {
            return;
        }
        let id = readable[n % readable.len()].clone();
        let facts = self.facts(&id).clone();
        let lease = self.leases[&id].clone();
        let from = match lease.checkpoint {
            Checkpoint::Sequence(n) => i64::try_from(n.sequence_number.parts().1).expect("a time"),
            Checkpoint::TrimHorizon => facts.born,
            Checkpoint::Latest | Checkpoint::AtTimestamp => lease.start_at.expect("frozen").as_millis().max(facts.born),
            Checkpoint::ShardEnd => unreachable!("not readable"),
        };
        for parent in &facts.shard.parents {
            let parent = self.facts(parent);
            let wanted = self.wanted(parent);
            let read = self.reads.get(&parent.shard.id);
            if !parent.trimmed && wanted.clone().any(|t| !read.is_some_and(|r| r.contains_key(&t))) {
                self.violations.push(format!("{id} is read before its parent {}", parent.shard.id));
            }
        }
        let end = facts.closed.unwrap_or(self.now);
        let to = if share > 200 { end } else { from + (end - from).max(0) * i64::from(share) / 200 };
        let reads = self.reads.entry(id.clone()).or_default();
        for time in from..to {
            *reads.entry(time).or_default() += 1;
        }
        let write = WriteId(u64::try_from(self.now).expect("positive"));
        if facts.closed.is_some() && to >= end {
            let children: Vec<ChildShard> = self
                .shards
                .iter()
                .filter(|f| f.shard.parents.contains(&id))
                .map(|f| ChildShard { id: f.shard.id.clone(), parents: f.shard.parents.clone(), hash_key_range: f.shard.hash_key_range })
                .collect();
            for child in &children {
                self.leases.entry(child.id.clone()).or_insert_with(|| lease.for_child(child));
            }
            self.leases.insert(id, lease.ended(write, children.into_iter().map(|c| c.id)));
        } else if to > from {
            self.leases.insert(id, lease.checkpointed(write, position(to)));
        }
    }

    /// Times of the records of a shard that have to be read.
    fn wanted(&self, facts: &Facts) -> std::ops::Range<i64> {
        let from = match self.initial {
            InitialPosition::TrimHorizon => facts.born,
            InitialPosition::AtTimestamp(t) => facts.born.max(t.as_millis()),
            InitialPosition::Latest => facts.born.max(self.first_start),
        };
        from..facts.closed.unwrap_or(self.now).max(from)
    }

    /// Repairs and reads until nothing moves any more.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.sync();
            for _ in 0..self.leases.len() {
                for n in 0..self.readable().len() {
                    self.read(n, 255);
                }
            }
            if self.complete() {
                return;
            }
        }
    }

    fn complete(&self) -> bool {
        self.shards.iter().all(|facts| self.unread(facts).is_empty())
    }

    fn unread(&self, facts: &Facts) -> Vec<i64> {
        let read = self.reads.get(&facts.shard.id);
        self.wanted(facts).filter(|t| !facts.trimmed && !read.is_some_and(|r| r.contains_key(t))).collect()
    }

    fn check(&self, once: bool) -> Result<(), TestCaseError> {
        prop_assert!(self.violations.is_empty(), "{:?}", self.violations);
        for facts in &self.shards {
            let unread = self.unread(facts);
            prop_assert!(unread.is_empty(), "{} was not read at {unread:?}\n{:#?}", facts.shard.id, self.leases.values());
            let wanted = self.wanted(facts);
            for (time, times) in self.reads.get(&facts.shard.id).into_iter().flatten() {
                prop_assert!(!once || *times == 1, "{} was read {times} times at {time}", facts.shard.id);
                prop_assert!(!once || wanted.contains(time), "{} was read at {time}, before the start", facts.shard.id);
            }
        }
        Ok(())
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Tick),
        3 => (0..20usize).prop_map(Event::Split),
        3 => (0..20usize).prop_map(Event::Merge),
        1 => Just(Event::Trim),
        2 => Just(Event::Sync),
        6 => (0..20usize, any::<u8>()).prop_map(|(n, share)| Event::Read(n, share)),
        2 => Just(Event::CleanUp),
    ]
}

fn reshard() -> impl Strategy<Value = Event> {
    prop_oneof![Just(Event::Tick), (0..20usize).prop_map(Event::Split), (0..20usize).prop_map(Event::Merge)]
}

/// A stream with a past, at the moment when its readers start for the first time.
fn start(initial: u8, shards: u64, past: &[Event]) -> World {
    let mut world = World::new(InitialPosition::TrimHorizon, shards);
    for event in past {
        world.happen(*event);
    }
    world.now += 1;
    // Half of what is kept, for AT_TIMESTAMP; what was before the start, for LATEST.
    let middle = i64::midpoint(BIRTH, world.now);
    world.initial = match initial % 3 {
        0 => InitialPosition::TrimHorizon,
        1 => InitialPosition::Latest,
        _ => InitialPosition::AtTimestamp(Timestamp::from_millis(middle)),
    };
    world
}

fn first_sync(world: &mut World) {
    world.first_start = world.now;
    world.sync();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_accidents_every_record_is_read_once(
        initial in any::<u8>(), shards in 1..5u64,
        past in proptest::collection::vec(reshard(), 0..12), future in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = start(initial, shards, &past);
        first_sync(&mut world);
        for event in future {
            world.happen(event);
            prop_assert!(audit(&world.leases.values().collect::<Vec<_>>()).holes.is_empty(), "{:#?}", world.leases);
        }
        world.finish();
        world.check(true)?;
    }

    #[test]
    fn a_lost_row_is_repaired_and_no_record_is_left_out(
        initial in any::<u8>(), shards in 1..5u64,
        past in proptest::collection::vec(reshard(), 0..12), before in proptest::collection::vec(event(), 0..40),
        lost in any::<prop::sample::Index>(), after in proptest::collection::vec(event(), 0..20),
    ) {
        let mut world = start(initial, shards, &past);
        first_sync(&mut world);
        for event in before {
            world.happen(event);
        }
        let rows: Vec<ShardId> = world.leases.keys().cloned().collect();
        // Without any row it is a first start, see `sync_test`.
        prop_assume!(rows.len() > 1);
        world.leases.remove(lost.get(&rows));
        // The housekeeper notices within two scans; readers may go on meanwhile, but shards do not expire.
        world.sync();
        for event in after {
            world.happen(event);
        }
        world.finish();
        world.check(false)?;
    }

    #[test]
    fn two_first_starts_at_once_keep_the_earlier(
        initial in any::<u8>(), shards in 1..5u64, past in proptest::collection::vec(reshard(), 0..8),
        between in proptest::collection::vec(reshard(), 0..6), order in any::<u64>(), future in proptest::collection::vec(event(), 0..20),
    ) {
        let mut world = start(initial, shards, &past);
        let mut rows = world.wanted_leases(&[]);
        for event in between {
            world.happen(event);
        }
        rows.extend(world.wanted_leases(&[]));
        fastrand::Rng::with_seed(order).shuffle(&mut rows);
        for row in rows {
            world.leases.entry(row.shard_id.clone()).or_insert(row);
        }
        world.first_start = world.leases.values().filter_map(|l| l.start_at).min().expect("made by a first start").as_millis();
        world.sync();
        for event in future {
            world.happen(event);
        }
        world.finish();
        // A shard that was born and closed between the two starts may be read after its children, and a child again.
        world.violations.clear();
        world.check(false)?;
    }

    #[test]
    fn a_sync_after_a_sync_changes_nothing(
        initial in any::<u8>(), shards in 1..5u64,
        past in proptest::collection::vec(reshard(), 0..12), future in proptest::collection::vec(event(), 0..40),
    ) {
        let mut world = start(initial, shards, &past);
        first_sync(&mut world);
        for event in future {
            world.happen(event);
        }
        world.sync();
        let before = world.leases.clone();
        world.sync();
        prop_assert_eq!(before, world.leases);
    }
}
