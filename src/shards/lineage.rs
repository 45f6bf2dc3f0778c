//! From the shards of a stream and the leases of its readers to the leases that are missing. Pure.
//!
//! # What a lease says about others
//! A shard without a lease is *done* when a descendant's lease vouches for it ([`Lease::vouches_for_ancestors`]): that
//! lease has begun, which it could only once its parents were finished, or it was made with a moment to start at, before
//! which nothing is to be read.
//! It is *pending* when an ancestor's lease is unfinished: the last owner of that shard makes its children. What is
//! neither lacks a lease, since this is the first start, or since a row was lost:
//!
//! | the shard's parents | its lease |
//! |---|---|
//! | one is finished, none is pending | `TRIM_HORIZON`: everything in it came after its parent |
//! | all are done, or past retention | the stream's [`Start`] |
//! | one gets a lease now | none yet; but at a moment in mid-retention it starts there too |
//!
//! So a lost row is repaired from the place before which everything is certainly done. Records may be read again, and
//! none is left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    lease::Lease,
    types::{Checkpoint, HashKeyRange, InitialPosition, Shard, ShardId, StreamIdentifier, Timestamp},
};

/// Where reading begins in shards that no lease precedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// All that is kept. The leases get the earliest moment there is, as a sign that no ancestor is to be waited for.
    Everything,
    /// From this moment on.
    From {
        /// `Latest` or `AtTimestamp`.
        checkpoint: Checkpoint,
        /// The frozen moment.
        moment: Timestamp,
        /// Whether some kept records are older. Then a child of a shard may have to skip records too, and each shard
        /// gets its lease at once instead of at the end of its parents.
        mid_retention: bool,
    },
}

/// Moment in leases that read everything. No record arrived before the epoch.
pub(super) const BEGINNING: Timestamp = Timestamp::from_millis(0);

impl Start {
    /// Where the readers of a stream began, or begin now. `leases` are all of the stream; `kept_since` is the later of
    /// the stream's creation and its trim horizon.
    ///
    /// The first start freezes the moment of `LATEST` in the leases it makes. Later repairs find it there; when no such
    /// lease is left, everything is read, so that nothing is lost.
    pub(super) fn of(initial: InitialPosition, leases: &[&Lease], now: Timestamp, kept_since: Timestamp) -> Self {
        let frozen = first_start(leases);
        let (checkpoint, moment) = match initial {
            InitialPosition::TrimHorizon => return Self::Everything,
            InitialPosition::Latest if leases.is_empty() => (Checkpoint::Latest, now),
            InitialPosition::Latest => match frozen {
                Some(moment) => (Checkpoint::Latest, moment),
                None => return Self::Everything,
            },
            InitialPosition::AtTimestamp(moment) => (Checkpoint::AtTimestamp, frozen.unwrap_or(moment)),
        };
        Self::From { checkpoint, moment, mid_retention: moment > kept_since }
    }

    /// A lease that starts here.
    pub(super) fn lease(self, stream: &StreamIdentifier, shard: &Shard) -> Lease {
        let (checkpoint, moment) = match self {
            Self::Everything => (Checkpoint::TrimHorizon, BEGINNING),
            Self::From { checkpoint, moment, .. } => (checkpoint, moment),
        };
        Lease { start_at: Some(moment), ..lease_of(stream, shard.id.clone(), checkpoint, &shard.parents, shard.hash_key_range) }
    }

    fn is_mid_retention(self) -> bool {
        matches!(self, Self::From { mid_retention: true, .. })
    }
}

/// The earliest moment that was frozen when the first leases were made.
fn first_start(leases: &[&Lease]) -> Option<Timestamp> {
    leases.iter().filter_map(|lease| lease.start_at).filter(|moment| *moment > BEGINNING).min()
}

fn lease_of(stream: &StreamIdentifier, shard: ShardId, checkpoint: Checkpoint, parents: &[ShardId], range: HashKeyRange) -> Lease {
    let mut lease = Lease::new(stream, shard, checkpoint);
    lease.parents = parents.iter().cloned().collect();
    lease.hash_key_range = Some(range);
    lease
}

/// Leases that are not taken and not begun, but whose frozen moment is later than another's: two workers made the
/// first leases at the same time, and the earlier start is the one that was promised.
pub(super) fn late_starts<'a>(leases: &[&'a Lease]) -> Vec<(&'a Lease, Timestamp)> {
    let Some(first) = first_start(leases) else { return Vec::new() };
    let late = leases.iter().filter(|lease| {
        let waiting = matches!(lease.checkpoint, Checkpoint::Latest | Checkpoint::AtTimestamp) && lease.owner.is_none();
        waiting && lease.start_at.is_some_and(|moment| moment > first)
    });
    late.map(|lease| (*lease, first)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Has a lease, finished or not.
    Leased { ended: bool },
    /// Finished and cleaned up, or never to be read.
    Done,
    /// An ancestor's last owner will make its lease.
    Pending,
    /// Lacks a lease, and gets it as the child of a finished shard, or where the kept records begin.
    MissingAll,
    /// Lacks a lease, and gets it at a moment in mid-retention.
    MissingFrom,
}

/// What a comparison of the shards with the leases asks for.
#[derive(Debug, Default)]
pub(super) struct Findings<'a> {
    /// Leases to make, parents before children.
    pub(super) missing: Vec<Lease>,
    /// Children that need not wait for parents without a row: to be confirmed by [`BEGINNING`] as their moment.
    pub(super) confirmed: Vec<&'a Lease>,
}

/// Compares a listing of all shards with all leases of the stream.
pub(super) fn compare<'a>(stream: &StreamIdentifier, listed: &[Shard], leases: &[&'a Lease], start: Start) -> Findings<'a> {
    let rows: BTreeMap<&ShardId, &'a Lease> = leases.iter().map(|lease| (&lease.shard_id, *lease)).collect();
    let done = vouched(listed, &rows);
    let mut standings: BTreeMap<&ShardId, Standing> = BTreeMap::new();
    let mut findings = Findings::default();
    for shard in parents_first(listed) {
        // A parent that is neither listed nor leased is past retention: it is older than this shard, which is listed.
        let parents: Vec<Standing> = shard
            .parents
            .iter()
            .map(|parent| match (standings.get(parent), rows.get(parent)) {
                (Some(standing), _) => *standing,
                (None, Some(lease)) => Standing::Leased { ended: lease.checkpoint.is_shard_end() },
                (None, None) => Standing::Done,
            })
            .collect();
        let any = |standing| parents.contains(&standing);
        let all_finished = parents.iter().all(|p| matches!(p, Standing::Done | Standing::Leased { ended: true }));
        let standing = if let Some(lease) = rows.get(&shard.id) {
            // Also when the rows are still there, so that they can be cleaned up however long the child stays idle.
            let past_retention = shard.parents.iter().any(|parent| !standings.contains_key(parent));
            if all_finished && (any(Standing::Done) || past_retention) && !lease.vouches_for_ancestors() {
                findings.confirmed.push(lease);
            }
            Standing::Leased { ended: lease.checkpoint.is_shard_end() }
        } else if done.contains(&shard.id) {
            Standing::Done
        } else if any(Standing::Pending) {
            Standing::Pending
        } else if any(Standing::Leased { ended: true }) {
            let mut lease = lease_of(stream, shard.id.clone(), Checkpoint::TrimHorizon, &shard.parents, shard.hash_key_range);
            lease.start_at = (all_finished && any(Standing::Done)).then_some(BEGINNING);
            findings.missing.push(lease);
            Standing::MissingAll
        } else if any(Standing::Leased { ended: false }) || any(Standing::MissingAll) {
            Standing::Pending
        } else {
            findings.missing.push(start.lease(stream, shard));
            if start.is_mid_retention() { Standing::MissingFrom } else { Standing::MissingAll }
        };
        standings.insert(&shard.id, standing);
    }
    findings
}

/// Shards for which the lease of a descendant vouches. Rows know their parents too: a listing may lag behind.
fn vouched<'a>(listed: &'a [Shard], rows: &BTreeMap<&'a ShardId, &'a Lease>) -> BTreeSet<&'a ShardId> {
    let mut parents: BTreeMap<&ShardId, BTreeSet<&ShardId>> = BTreeMap::new();
    for shard in listed {
        parents.entry(&shard.id).or_default().extend(&shard.parents);
    }
    for (id, lease) in rows {
        parents.entry(id).or_default().extend(&lease.parents);
    }
    let mut open: Vec<&ShardId> = rows.values().filter(|lease| lease.vouches_for_ancestors()).map(|lease| &lease.shard_id).collect();
    let mut done = BTreeSet::new();
    while let Some(id) = open.pop() {
        for &parent in parents.get(id).into_iter().flatten() {
            if done.insert(parent) {
                open.push(parent);
            }
        }
    }
    done
}

/// The shards in an order in which each comes after its listed parents.
fn parents_first(listed: &[Shard]) -> Vec<&Shard> {
    let known: BTreeSet<&ShardId> = listed.iter().map(|shard| &shard.id).collect();
    let mut waiting: BTreeMap<&ShardId, usize> = BTreeMap::new();
    let mut children: BTreeMap<&ShardId, Vec<&Shard>> = BTreeMap::new();
    let mut ready = Vec::new();
    for shard in listed.iter().rev() {
        let parents: BTreeSet<&ShardId> = shard.parents.iter().filter(|parent| known.contains(parent)).collect();
        if parents.is_empty() {
            ready.push(shard);
        }
        waiting.insert(&shard.id, parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(shard);
        }
    }
    let mut order = Vec::with_capacity(listed.len());
    while let Some(shard) = ready.pop() {
        order.push(shard);
        for child in children.get(&shard.id).into_iter().flatten() {
            let left = waiting.get_mut(&child.id).expect("every listed shard is counted");
            *left -= 1;
            if *left == 0 {
                ready.push(child);
            }
        }
    }
    order
}

#[cfg(test)]
#[path = "lineage_test.rs"]
mod tests;
