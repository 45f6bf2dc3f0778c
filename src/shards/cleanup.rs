//! Which leases of finished shards may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    lease::Lease,
    types::{Checkpoint, ShardId},
};

/// The ended leases of one stream that nobody needs any more, oldest generation first come.
///
/// A row may go when no row of a parent is left and all of its children have rows that are past their first
/// checkpoint: from then on the children's rows prove that it was processed. Or when the shard is past retention
/// (`trimmed`) and the rows of all of its known children do without it, since then there is nothing left to read.
///
/// `children` are the children that a listing has named, beside those in the row; a split has two, so that one
/// row written by a child's name alone is not taken for the whole family.
pub(super) fn deletable<'a>(
    leases: &[&'a Lease],
    children: &BTreeMap<ShardId, BTreeSet<ShardId>>,
    trimmed: &BTreeSet<ShardId>,
) -> Vec<&'a Lease> {
    let rows: BTreeMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard_id, *lease)).collect();
    let none = BTreeSet::new();
    let may_go = |lease: &Lease| {
        if !lease.checkpoint.is_shard_end() || lease.owner.is_some() {
            return false;
        }
        let mut family = lease.children.iter().chain(children.get(&lease.shard_id).unwrap_or(&none)).peekable();
        if trimmed.contains(&lease.shard_id) {
            return family.all(|child| rows.get(child).is_some_and(|row| row.vouches_for_ancestors()));
        }
        family.peek().is_some()
            && family.all(|child| rows.get(child).is_some_and(|row| has_begun(row)))
            && !lease.parents.iter().any(|parent| rows.contains_key(parent))
    };
    leases.iter().copied().filter(|lease| may_go(lease)).collect()
}

fn has_begun(lease: &Lease) -> bool {
    matches!(lease.checkpoint, Checkpoint::Sequence(_) | Checkpoint::ShardEnd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ExtendedSequenceNumber, SequenceNumber, StreamIdentifier, StreamName};

    fn shard(index: u64) -> ShardId {
        ShardId::from_index(index)
    }

    fn lease(index: u64, checkpoint: Checkpoint, parents: &[u64], children: &[u64]) -> Lease {
        let stream = StreamIdentifier::Single(StreamName::new("clicks").expect("valid"));
        let mut lease = Lease::new(&stream, shard(index), checkpoint);
        lease.parents = parents.iter().copied().map(shard).collect();
        lease.children = children.iter().copied().map(shard).collect();
        lease
    }

    #[test]
    fn a_row_goes_only_when_its_children_are_under_way() {
        let end = Checkpoint::ShardEnd;
        let new = Checkpoint::TrimHorizon;
        let begun = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 9), 0));
        // (rows, what may go)
        let cases: Vec<(Vec<Lease>, Vec<u64>)> = vec![
            (vec![lease(0, begun, &[], &[1, 2]), lease(1, begun, &[0], &[]), lease(2, begun, &[0], &[])], vec![]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, begun, &[0], &[]), lease(2, begun, &[0], &[])], vec![0]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, end, &[0], &[]), lease(2, begun, &[0], &[])], vec![0]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, begun, &[0], &[]), lease(2, new, &[0], &[])], vec![]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, begun, &[0], &[]), lease(2, Checkpoint::AtTimestamp, &[0], &[])], vec![]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, begun, &[0], &[]), lease(2, Checkpoint::Latest, &[0], &[])], vec![]),
            (vec![lease(0, end, &[], &[1, 2]), lease(1, begun, &[0], &[])], vec![]),
            // Children unknown.
            (vec![lease(0, end, &[], &[])], vec![]),
            // A merge: both parents may go at once.
            (vec![lease(0, end, &[], &[2]), lease(1, end, &[], &[2]), lease(2, begun, &[0, 1], &[])], vec![0, 1]),
            // Oldest first, one generation at a time.
            (vec![lease(0, end, &[], &[1]), lease(1, end, &[0], &[2]), lease(2, begun, &[1], &[])], vec![0]),
        ];
        for (rows, gone) in cases {
            let found: Vec<ShardId> = deletable(&rows.iter().collect::<Vec<_>>(), &BTreeMap::new(), &BTreeSet::new())
                .iter()
                .map(|l| l.shard_id.clone())
                .collect();
            assert_eq!(found, gone.into_iter().map(shard).collect::<Vec<_>>(), "{rows:#?}");
        }
    }

    #[test]
    fn a_shard_past_retention_goes_without_waiting_for_idle_children() {
        let mut rows = [
            lease(0, Checkpoint::ShardEnd, &[], &[1]),
            lease(1, Checkpoint::TrimHorizon, &[0], &[]),
            lease(2, Checkpoint::Latest, &[], &[]),
        ];
        let waiting = rows.clone();
        rows[1].start_at = Some(crate::types::Timestamp::default());
        let rows: Vec<&Lease> = rows.iter().collect();
        let trimmed = BTreeSet::from([shard(0), shard(2)]);
        assert_eq!(deletable(&rows, &BTreeMap::new(), &trimmed), [rows[0]]);
        // But not before they have rows, and can do without their parent's.
        assert_eq!(deletable(&waiting.iter().collect::<Vec<_>>(), &BTreeMap::new(), &trimmed), Vec::<&Lease>::new());
        assert_eq!(deletable(&rows[..1], &BTreeMap::new(), &trimmed), Vec::<&Lease>::new());
        let listed = BTreeMap::from([(shard(0), BTreeSet::from([shard(3)]))]);
        assert_eq!(deletable(&rows, &listed, &trimmed), Vec::<&Lease>::new());
    }
}
