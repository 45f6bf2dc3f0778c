//! Whether the lease rows of a stream look complete, without asking the service.

use std::collections::BTreeMap;

use crate::{
    lease::{Lease, LeaseKey},
    types::{HashKeyRange, ShardId},
};

/// What is suspicious about the rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Audit {
    /// Hash keys that no unfinished lease covers: their records are read by nobody.
    pub(super) holes: Vec<HashKeyRange>,
    /// Children that wait only because one of their parents has no row: it is still to be made, or was lost, or the parent
    /// is past retention.
    pub(super) doubtful: Vec<LeaseKey>,
}

impl Audit {
    pub(super) fn is_clean(&self) -> bool {
        self.holes.is_empty() && self.doubtful.is_empty()
    }

    /// What both this audit and an earlier one have found. Rows of a scan are read one after the other, so that a
    /// shard that ends meanwhile can look like a hole once.
    pub(super) fn confirmed_by(&self, earlier: &Self) -> Self {
        Self {
            holes: self.holes.iter().filter(|hole| earlier.holes.iter().any(|e| e.overlaps(**hole))).copied().collect(),
            doubtful: self.doubtful.iter().filter(|key| earlier.doubtful.contains(key)).cloned().collect(),
        }
    }

    /// What is in this audit and not in `known`.
    pub(super) fn without(&self, known: &Self) -> Self {
        Self {
            holes: self.holes.iter().filter(|hole| !known.holes.contains(hole)).copied().collect(),
            doubtful: self.doubtful.iter().filter(|key| !known.doubtful.contains(key)).cloned().collect(),
        }
    }
}

/// Looks at the rows of one stream. Without any row all is a hole. Rows of unknown hash-key range, as very old KCL
/// versions wrote them, make holes unknowable.
pub(super) fn audit(leases: &[&Lease]) -> Audit {
    let unfinished = || leases.iter().filter(|lease| !lease.checkpoint.is_shard_end());
    let ranges: Option<Vec<HashKeyRange>> = unfinished().map(|lease| lease.hash_key_range).collect();
    let rows: BTreeMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard_id, *lease)).collect();
    let waits_in_vain = |lease: &Lease| {
        let parents = || lease.parents.iter().map(|parent| rows.get(parent));
        parents().any(|parent| parent.is_none()) && parents().flatten().all(|parent| parent.checkpoint.is_shard_end())
    };
    let doubtful = unfinished().filter(|lease| !lease.vouches_for_ancestors() && waits_in_vain(lease));
    Audit {
        holes: ranges.map(|ranges| uncovered(&ranges)).unwrap_or_default(),
        doubtful: doubtful.map(|lease| lease.key.clone()).collect(),
    }
}

/// The hash keys from 0 to 2^128-1 that none of the ranges contains.
pub(super) fn uncovered(ranges: &[HashKeyRange]) -> Vec<HashKeyRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut holes = Vec::new();
    let mut next = Some(0u128);
    for range in sorted {
        let Some(start) = next else { break };
        if range.start() > start {
            holes.push(HashKeyRange::new(start, range.start() - 1).expect("starts before its end"));
        }
        if range.end() >= start {
            next = range.end().checked_add(1);
        }
    }
    if let Some(start) = next {
        holes.push(HashKeyRange::new(start, u128::MAX).expect("starts at most at the end"));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Checkpoint, StreamIdentifier, StreamName, Timestamp};

    fn range(start: u128, end: u128) -> HashKeyRange {
        HashKeyRange::new(start, end).expect("valid")
    }

    fn lease(index: u64, hash_key_range: HashKeyRange, checkpoint: Checkpoint, parents: &[u64]) -> Lease {
        let stream = StreamIdentifier::Single(StreamName::new("clicks").expect("valid"));
        let mut lease = Lease::new(&stream, ShardId::from_index(index), checkpoint);
        lease.hash_key_range = Some(hash_key_range);
        lease.parents = parents.iter().map(|p| ShardId::from_index(*p)).collect();
        lease
    }

    #[test]
    fn holes_are_found_at_every_place() {
        let max = u128::MAX;
        type Keys = [(u128, u128)];
        let cases: &[(&Keys, &Keys)] = &[
            (&[], &[(0, max)]),
            (&[(0, max)], &[]),
            (&[(0, 4), (5, max)], &[]),
            (&[(5, max), (0, 4)], &[]),
            (&[(1, max)], &[(0, 0)]),
            (&[(0, max - 1)], &[(max, max)]),
            (&[(0, 4), (6, 6), (8, max)], &[(5, 5), (7, 7)]),
            (&[(0, 9), (2, 3), (5, 20), (30, max)], &[(21, 29)]),
            (&[(0, max), (max, max), (3, 4)], &[]),
        ];
        for (ranges, holes) in cases {
            let ranges: Vec<_> = ranges.iter().map(|r| range(r.0, r.1)).collect();
            let holes: Vec<_> = holes.iter().map(|r| range(r.0, r.1)).collect();
            assert_eq!(uncovered(&ranges), holes, "{ranges:?}");
        }
    }

    #[test]
    fn ended_leases_cover_nothing_and_waiting_children_need_their_parents() {
        let rows = [
            lease(0, range(0, 9), Checkpoint::ShardEnd, &[]),
            lease(1, range(10, u128::MAX), Checkpoint::Latest, &[7]),
            lease(2, range(0, 4), Checkpoint::TrimHorizon, &[0]),
            lease(3, range(6, 9), Checkpoint::TrimHorizon, &[8]),
        ];
        let found = audit(&rows.iter().collect::<Vec<_>>());
        assert_eq!(found, Audit { holes: vec![range(5, 5)], doubtful: vec![rows[3].key.clone()] });
        let mut begun = rows[3].clone();
        begun.start_at = Some(Timestamp::default());
        assert!(audit(&[&begun]).doubtful.is_empty());
        assert_eq!(audit(&[]).holes, [HashKeyRange::FULL]);
        let mut unknown = rows[1].clone();
        unknown.hash_key_range = None;
        assert!(audit(&[&unknown]).is_clean());
    }

    #[test]
    fn a_finding_counts_when_seen_twice() {
        let twice = Audit { holes: vec![range(5, 9)], doubtful: Vec::new() };
        let other = Audit { holes: vec![range(20, 29)], doubtful: Vec::new() };
        assert!(twice.confirmed_by(&other).is_clean());
        assert_eq!(twice.confirmed_by(&twice), twice);
        assert!(twice.without(&twice).is_clean());
    }
}
