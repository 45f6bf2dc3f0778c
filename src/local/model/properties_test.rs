//! What holds after any sequence of puts, splits, merges, new shard counts and waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{routing::hash_key, *};
use crate::{
    stream::{ShardFilter, ShardPosition},
    types::{HashKeyRange, Record, SequenceNumber, Shard, ShardId},
};

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8 },
    PutAt { hash_key: u128 },
    Split { pick: usize, at: u8 },
    Merge { pick: usize, swap: bool },
    Scale { percent: u32 },
    Wait { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(|key| Step::Put { key: key % 8 }),
        3 => any::<u128>().prop_map(|hash_key| Step::PutAt { hash_key }),
        1 => (any::<usize>(), 1u8..=255).prop_map(|(pick, at)| Step::Split { pick, at }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(pick, swap)| Step::Merge { pick, swap }),
        1 => (50u32..=200).prop_map(|percent| Step::Scale { percent }),
        3 => (0u64..3000).prop_map(|millis| Step::Wait { millis }),
    ];
    prop::collection::vec(step, 1..80)
}

struct Run {
    model: Model,
    stream: StreamReference,
    now: Timestamp,
    /// Every record put, in order: its shard, number, arrival and key.
    put: Vec<(ShardId, SequenceNumber, Timestamp, String)>,
    /// Moments in which nothing was resharded.
    quiet: Vec<Timestamp>,
}

impl Run {
    fn new(shards: u32) -> Self {
        let now = Timestamp::from_millis(1_795_262_400_000);
        let limits = Limits::off();
        let mut model = Model::new(Config { limits, ..Config::default() }, Randomness::seeded(0));
        model.create_stream(now, &CreateStream::provisioned("s".parse().expect("valid"), shards)).expect("create");
        let later = now.plus(Duration::from_millis(1));
        Self { model, stream: "s".parse().expect("valid"), now: later, put: Vec::new(), quiet: vec![now] }
    }

    fn list(&mut self, filter: ShardFilter) -> Vec<Shard> {
        let input = ListShards { stream: Some(self.stream.clone()), filter: Some(filter), max_results: Some(10_000), ..Default::default() };
        self.model.list_shards(self.now, &input).expect("list").shards
    }

    fn open_by_key(&mut self) -> Vec<Shard> {
        let mut open = self.list(ShardFilter::AtLatest);
        open.sort_unstable_by_key(|shard| shard.hash_key_range);
        open
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis));
    }

    fn put(&mut self, entry: PutEntry) {
        let key = entry.partition_key.as_str().to_owned();
        let expected = entry.explicit_hash_key.unwrap_or_else(|| hash_key(&key));
        let receipt = self.model.put_record(self.now, &self.stream, entry, None).expect("put");
        let shard = self.open_by_key().into_iter().find(|shard| shard.id == receipt.shard_id).expect("records go to open shards");
        assert!(shard.hash_key_range.contains(expected));
        self.put.push((receipt.shard_id, receipt.sequence_number, self.now, key));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put { key } => {
                let n = self.put.len().to_string();
                self.put(PutEntry::new(format!("key-{key}").as_str(), n));
            }
            Step::PutAt { hash_key } => {
                let n = self.put.len().to_string();
                self.put(PutEntry::new("explicit", n).with_explicit_hash_key(*hash_key));
            }
            Step::Split { pick, at } => {
                let open = self.open_by_key();
                let shard = &open[pick % open.len()];
                let range = shard.hash_key_range;
                let key = range.start() + (range.end() - range.start()) / 256 * u128::from(*at);
                // Refused only where the shard is too narrow.
                let _ = self.model.split_shard(self.now, &self.stream, &shard.id, key);
            }
            Step::Merge { pick, swap } => {
                let open = self.open_by_key();
                if open.len() > 1 {
                    let first = pick % (open.len() - 1);
                    let (a, b) = if *swap { (first + 1, first) } else { (first, first + 1) };
                    self.model.merge_shards(self.now, &self.stream, &open[a].id, &open[b].id).expect("neighbours merge");
                }
            }
            Step::Scale { percent } => {
                let open = self.open_by_key().len() as u32;
                if open < 64 {
                    let target = (open * percent).div_ceil(100).min(open * 2);
                    self.model.update_shard_count(self.now, &self.stream, target).expect("within half and double");
                    assert_eq!(self.open_by_key().len() as u32, target);
                }
            }
            Step::Wait { millis } => {
                // Something may have been resharded at either end of the wait, not inside it.
                self.wait(millis + 1);
                self.quiet.push(self.now);
                self.wait(1);
            }
        }
    }

    fn read(&mut self, shard: &ShardId, position: ShardPosition, limit: u32) -> (Vec<Record>, Vec<crate::types::ChildShard>) {
        let mut iterator = self.model.get_shard_iterator(self.now, &self.stream, shard, position).expect("iterator");
        let mut records = Vec::new();
        loop {
            let page = self.model.get_records(self.now, &iterator, Some(limit)).expect("records");
            records.extend(page.records);
            match page.next_iterator {
                Some(next) if page.millis_behind_latest > 0 => iterator = next,
                Some(_) | None => return (records, page.child_shards),
            }
        }
    }
}

fn assert_cover(shards: &[Shard]) {
    let mut ranges: Vec<HashKeyRange> = shards.iter().map(|shard| shard.hash_key_range).collect();
    ranges.sort_unstable();
    assert_eq!((ranges[0].start(), ranges[ranges.len() - 1].end()), (0, u128::MAX));
    assert!(ranges.windows(2).all(|w| w[0].end() + 1 == w[1].start()), "{ranges:?}");
}

fn ran(shards: u32, steps: &[Step]) -> Run {
    let mut run = Run::new(shards);
    for step in steps {
        run.take(step);
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn shards_open_at_any_moment_cover_every_hash_key(shards in 1u32..6, steps in steps()) {
        let mut run = ran(shards, &steps);
        assert_cover(&run.list(ShardFilter::AtLatest));
        for moment in run.quiet.clone() {
            assert_cover(&run.list(ShardFilter::AtTimestamp(moment)));
        }
    }

    #[test]
    fn sequence_numbers_grow_and_are_never_used_again(shards in 1u32..6, steps in steps()) {
        let mut run = ran(shards, &steps);
        let numbers: BTreeSet<_> = run.put.iter().map(|(_, number, ..)| *number).collect();
        prop_assert_eq!(numbers.len(), run.put.len());
        let listed: BTreeMap<ShardId, Shard> = run.list(ShardFilter::All).into_iter().map(|shard| (shard.id.clone(), shard)).collect();
        let mut last: BTreeMap<&ShardId, SequenceNumber> = BTreeMap::new();
        for (shard, number, ..) in &run.put {
            prop_assert!(last.insert(shard, *number).is_none_or(|before| before < *number));
            let facts = &listed[shard];
            prop_assert!(facts.starting_sequence_number < *number);
            prop_assert!(facts.ending_sequence_number.is_none_or(|ending| *number <= ending));
        }
        for shard in listed.values() {
            for parent in &shard.parents {
                let ending = listed[parent].ending_sequence_number.expect("parents are closed");
                prop_assert!(shard.starting_sequence_number > ending);
                prop_assert!(listed[parent].hash_key_range.overlaps(shard.hash_key_range));
            }
        }
    }

    #[test]
    fn reading_from_any_position_returns_exactly_the_tail(
        shards in 1u32..4, steps in steps(), pick: prop::sample::Index, limit in 1u32..5,
    ) {
        let mut run = ran(shards, &steps);
        prop_assume!(!run.put.is_empty());
        let (shard, number, arrival, _) = run.put[pick.index(run.put.len())].clone();
        let of_shard: Vec<_> = run.put.iter().filter(|(s, ..)| *s == shard).cloned().collect();
        let tail = |keep: &dyn Fn(SequenceNumber, Timestamp) -> bool| -> Vec<SequenceNumber> {
            of_shard.iter().filter(|(_, n, at, _)| keep(*n, *at)).map(|(_, n, ..)| *n).collect()
        };
        let after = Timestamp::from_millis(arrival.as_millis() + 1);
        run.wait(1);
        for (position, expected) in [
            (ShardPosition::TrimHorizon, tail(&|_, _| true)),
            (ShardPosition::AtSequenceNumber(number), tail(&|n, _| n >= number)),
            (ShardPosition::AfterSequenceNumber(number), tail(&|n, _| n > number)),
            (ShardPosition::AtTimestamp(arrival), tail(&|_, at| at >= arrival)),
            (ShardPosition::AtTimestamp(after), tail(&|_, at| at > arrival)),
            (ShardPosition::Latest, Vec::new()),
        ] {
            let read: Vec<_> = run.read(&shard, position, limit).0.iter().map(Record::sequence_number).collect();
            prop_assert_eq!(read, expected, "{:?}", position);
        }
    }

    #[test]
    fn parents_before_children_read_everything_once_and_each_key_in_order(shards in 1u32..6, steps in steps(), limit in 1u32..20) {
        let mut run = ran(shards, &steps);
        let mut read: BTreeMap<ShardId, Vec<Record>> = BTreeMap::new();
        let mut known: BTreeMap<ShardId, Vec<ShardId>> =
            (0..shards).map(|index| (ShardId::from_index(u64::from(index)), Vec::new())).collect();
        let mut in_order: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        while let Some((shard, _)) = known.iter().find(|(id, parents)| !read.contains_key(*id) && parents.iter().all(|p| read.contains_key(p))) {
            let shard = shard.clone();
            let (records, children) = run.read(&shard, ShardPosition::TrimHorizon, limit);
            for child in children {
                known.insert(child.id, child.parents);
            }
            for record in &records {
                let n = std::str::from_utf8(record.data()).expect("text").parse().expect("a number");
                in_order.entry(record.partition_key().to_owned()).or_default().push(n);
            }
            read.insert(shard, records);
        }
        let all: BTreeSet<ShardId> = run.list(ShardFilter::All).into_iter().map(|shard| shard.id).collect();
        prop_assert_eq!(read.keys().cloned().collect::<BTreeSet<_>>(), all);
        let mut numbers: Vec<usize> = in_order.values().flatten().copied().collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..run.put.len()).collect::<Vec<_>>());
        for (key, numbers) in in_order.iter().filter(|(key, _)| *key != "explicit") {
            prop_assert!(numbers.is_sorted(), "{}: {:?}", key, numbers);
        }
    }

    #[test]
    fn pages_of_shards_join_to_the_whole(shards in 1u32..6, steps in steps(), max_results in 1u32..7) {
        let mut run = ran(shards, &steps);
        for filter in [ShardFilter::All, ShardFilter::AtLatest, ShardFilter::AfterShardId(ShardId::from_index(2)), ShardFilter::FromTimestamp(run.now)] {
            let whole = run.list(filter.clone());
            let mut joined = Vec::new();
            let mut input = ListShards { stream: Some(run.stream.clone()), filter: Some(filter), ..Default::default() };
            loop {
                input.max_results = Some(max_results);
                let page = run.model.list_shards(run.now, &input).expect("page");
                prop_assert!(page.shards.len() <= max_results as usize);
                joined.extend(page.shards);
                let Some(next) = page.next else { break };
                input = ListShards { next_token: Some(next), ..Default::default() };
            }
            prop_assert_eq!(joined, whole);
        }
    }
}
