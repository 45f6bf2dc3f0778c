//! Which shards of a worker are paused. Pure.

use std::{collections::BTreeMap, fmt};

use tokio::time::Instant;

use crate::types::{ShardId, StreamName};

/// The shards of a worker that [`pause`](crate::WorkerHandle::pause) and [`resume`](crate::WorkerHandle::resume) are about:
/// those that it holds, and those that it will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shards {
    /// All.
    All,
    /// Those of the streams with this name.
    Stream(StreamName),
    /// One.
    Shard(StreamName, ShardId),
}

impl Shards {
    /// Whether this shard is one of them.
    pub(crate) fn contain(&self, stream: &StreamName, shard: &ShardId) -> bool {
        match self {
            Self::All => true,
            Self::Stream(of) => of == stream,
            Self::Shard(of, one) => of == stream && one == shard,
        }
    }
}

impl fmt::Display for Shards {
    /// `all shards`, `all shards of clicks`, `shardId-000000000003 of clicks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all shards"),
            Self::Stream(stream) => write!(f, "all shards of {stream}"),
            Self::Shard(stream, shard) => write!(f, "{shard} of {stream}"),
        }
    }
}

/// Since when something is paused; `None` when it is not.
type Since = Option<Instant>;

/// What is paused: for each shard the last word that was about it. Kept as exceptions from what holds for its stream,
/// and for all, so that nothing is left of a shard that was paused and resumed.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    all: Since,
    streams: BTreeMap<StreamName, OfStream>,
}

#[derive(Debug, Default)]
struct OfStream {
    /// `None` where what holds for all holds.
    stream: Option<Since>,
    shards: BTreeMap<ShardId, Since>,
}

impl Pauses {
    /// Pauses shards from `now` on, where they are not paused already, or resumes them.
    pub(super) fn set(&mut self, which: &Shards, paused: bool, now: Instant) {
        let change = |before: Since| paused.then(|| before.unwrap_or(now));
        match which {
            Shards::All => {
                self.all = change(self.all);
                self.streams.clear();
            }
            Shards::Stream(name) => {
                let before = self.of_stream(name);
                let stream = (paused != self.all.is_some()).then(|| change(before));
                self.streams.insert(name.clone(), OfStream { stream, shards: BTreeMap::new() });
            }
            Shards::Shard(name, shard) => {
                let (before, inherited) = (self.of(name, shard), self.of_stream(name));
                let shards = &mut self.streams.entry(name.clone()).or_default().shards;
                if paused == inherited.is_some() {
                    shards.remove(shard);
                } else {
                    shards.insert(shard.clone(), change(before));
                }
            }
        }
        self.streams.retain(|_, of| of.stream.is_some() || !of.shards.is_empty());
    }

    /// Since when a shard is paused.
    pub(super) fn of(&self, stream: &StreamName, shard: &ShardId) -> Since {
        let exception = self.streams.get(stream).and_then(|of| of.shards.get(shard));
        exception.copied().unwrap_or_else(|| self.of_stream(stream))
    }

    fn of_stream(&self, stream: &StreamName) -> Since {
        self.streams.get(stream).and_then(|of| of.stream).unwrap_or(self.all)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn stream(name: &str) -> StreamName {
        name.parse().expect("valid")
    }

    fn all() -> Vec<(StreamName, ShardId)> {
        let of = |name| (0..3).map(move |n| (stream(name), ShardId::from_index(n)));
        of("clicks").chain(of("orders")).collect()
    }

    #[test]
    fn the_last_word_about_a_shard_counts() {
        let (clicks, shard) = (stream("clicks"), ShardId::from_index(1));
        let one = Shards::Shard(clicks.clone(), shard.clone());
        type Steps<'a> = &'a [(&'a Shards, bool)];
        let table: [(Steps<'_>, [usize; 2]); 8] = [
            (&[(&Shards::All, true)], [3, 3]),
            (&[(&Shards::All, true), (&one, false)], [2, 3]),
            (&[(&one, true)], [1, 0]),
            (&[(&one, true), (&Shards::All, false)], [0, 0]),
            (&[(&Shards::Stream(clicks.clone()), true)], [3, 0]),
            (&[(&Shards::All, true), (&Shards::Stream(clicks.clone()), false)], [0, 3]),
            (&[(&Shards::All, true), (&Shards::Stream(clicks.clone()), false), (&one, true)], [1, 3]),
            (&[(&one, true), (&Shards::Stream(clicks.clone()), true), (&one, false), (&Shards::All, true)], [3, 3]),
        ];
        for (steps, paused) in table {
            let mut pauses = Pauses::default();
            steps.iter().for_each(|(which, paused)| pauses.set(which, *paused, Instant::now()));
            let of = |name| all().iter().filter(|(s, shard)| *s == name && pauses.of(s, shard).is_some()).count();
            assert_eq!([of(clicks.clone()), of(stream("orders"))], paused, "{steps:?}");
        }
    }

    #[test]
    fn a_pause_begins_with_the_first_call_and_leaves_nothing_behind() {
        let (start, clicks, shard) = (Instant::now(), stream("clicks"), ShardId::from_index(1));
        let one = Shards::Shard(clicks.clone(), shard.clone());
        let mut pauses = Pauses::default();
        pauses.set(&one, true, start);
        pauses.set(&one, true, start + Duration::from_secs(5));
        assert_eq!(pauses.of(&clicks, &shard), Some(start));
        pauses.set(&one, false, start);
        assert!(pauses.streams.is_empty());
        assert_eq!(one.to_string(), "shardId-000000000001 of clicks");
    }

    fn some_shards() -> impl Strategy<Value = Shards> {
        let name = prop_oneof![Just("clicks"), Just("orders")].prop_map(stream);
        prop_oneof![
            Just(Shards::All),
            name.clone().prop_map(Shards::Stream),
            (name, 0u64..3).prop_map(|(name, n)| Shards::Shard(name, ShardId::from_index(n))),
        ]
    }

    proptest! {
        #[test]
        fn it_is_as_if_each_shard_had_a_switch(steps in prop::collection::vec((some_shards(), any::<bool>()), 0..40)) {
            let mut pauses = Pauses::default();
            let mut switches: Vec<_> = all().into_iter().map(|shard| (shard, false)).collect();
            for (which, paused) in steps {
                pauses.set(&which, paused, Instant::now());
                switches.iter_mut().filter(|((s, shard), _)| which.contain(s, shard)).for_each(|(_, switch)| *switch = paused);
                for ((stream, shard), paused) in &switches {
                    prop_assert_eq!(pauses.of(stream, shard).is_some(), *paused);
                }
            }
            prop_assert!(pauses.streams.values().map(|of| of.shards.len()).sum::<usize>() <= 6);
        }
    }
}
