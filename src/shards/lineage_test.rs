use super::*;
use crate::types::{ExtendedSequenceNumber, SequenceNumber, StreamName};

const NOW: Timestamp = Timestamp::from_millis(50_000);
const CREATED: Timestamp = Timestamp::from_millis(10_000);

fn stream() -> StreamIdentifier {
    StreamIdentifier::Single(StreamName::new("clicks").expect("valid"))
}

fn id(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn shard(index: u64, parents: &[u64], open: bool) -> Shard {
    Shard {
        id: id(index),
        parents: parents.iter().copied().map(id).collect(),
        hash_key_range: HashKeyRange::FULL,
        starting_sequence_number: SequenceNumber::ZERO,
        ending_sequence_number: (!open).then_some(SequenceNumber::MAX),
    }
}

/// Three generations, as in KCL's docs/lease-lifecycle.md: 0-3 split and merged into 4-7, these into 8-10.
fn family() -> Vec<Shard> {
    let closed: [(u64, &[u64]); 8] = [(0, &[]), (1, &[]), (2, &[]), (3, &[]), (4, &[0]), (5, &[0]), (6, &[1, 2]), (7, &[3])];
    let open: [(u64, &[u64]); 3] = [(8, &[4]), (9, &[5, 6]), (10, &[7])];
    closed.iter().map(|(i, p)| shard(*i, p, false)).chain(open.iter().map(|(i, p)| shard(*i, p, true))).collect()
}

fn begun() -> Checkpoint {
    Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 7), 0))
}

fn lease(index: u64, checkpoint: Checkpoint, parents: &[u64]) -> Lease {
    let mut lease = Lease::new(&stream(), id(index), checkpoint);
    lease.parents = parents.iter().copied().map(id).collect();
    lease
}

fn since(moment: i64) -> Start {
    Start::From { checkpoint: Checkpoint::Latest, moment: Timestamp::from_millis(moment), mid_retention: moment > 10_000 }
}

fn made(listed: &[Shard], leases: &[Lease], start: Start) -> Vec<(u64, Checkpoint, Option<i64>)> {
    let leases: Vec<&Lease> = leases.iter().collect();
    let index = |lease: &Lease| lease.shard_id.as_str().trim_start_matches("shardId-").parse().expect("a number");
    let mut made: Vec<_> = compare(&stream(), listed, &leases, start)
        .missing
        .iter()
        .map(|lease| (index(lease), lease.checkpoint, lease.start_at.map(Timestamp::as_millis)))
        .collect();
    made.sort_by_key(|m| m.0);
    made
}

const ALL: Checkpoint = Checkpoint::TrimHorizon;

#[test]
fn everything_begins_with_the_oldest() {
    assert_eq!(made(&family(), &[], Start::Everything), [0, 1, 2, 3].map(|i| (i, ALL, Some(0))));
    // The first generation is past retention.
    assert_eq!(made(&family()[4..], &[], Start::Everything), [4, 5, 6, 7].map(|i| (i, ALL, Some(0))));
    // A moment before all that is kept is no different.
    assert_eq!(made(&family()[4..], &[], since(9_000)), [4, 5, 6, 7].map(|i| (i, Checkpoint::Latest, Some(9_000))));
}

#[test]
fn a_moment_in_between_goes_to_every_shard() {
    assert_eq!(made(&family(), &[], since(20_000)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|i| (i, Checkpoint::Latest, Some(20_000))));
}

#[test]
fn a_table_of_kcl_is_completed() {
    // Leases for 4, 5 and 7 as in KCL's example. KCL would make 0 and 1 (or 6 at LATEST). The parents of 6 left no
    // trace, so that its branch begins with them; the rest follows at shard end.
    let rows = [lease(4, begun(), &[0]), lease(5, begun(), &[0]), lease(7, begun(), &[3])];
    assert_eq!(made(&family(), &rows, Start::Everything), [(1, ALL, Some(0)), (2, ALL, Some(0))]);
    assert_eq!(made(&family(), &rows, since(20_000)), [1, 2, 6].map(|i| (i, Checkpoint::Latest, Some(20_000))));
}

#[test]
fn the_child_of_a_finished_shard_starts_at_its_oldest_record() {
    let rows = [lease(4, Checkpoint::ShardEnd, &[0]), lease(5, begun(), &[0]), lease(6, begun(), &[1, 2]), lease(7, begun(), &[3])];
    for start in [Start::Everything, since(20_000)] {
        assert_eq!(made(&family(), &rows, start), [(8, ALL, None)]);
    }
}

#[test]
fn a_merge_waits_for_the_parent_that_has_no_lease_yet() {
    // 2 is unfinished, so that 6 has no row. 5 is finished: 9 must not be made, lest it starts before 6.
    let listed = family();
    let rows = [
        lease(5, Checkpoint::ShardEnd, &[0]),
        lease(4, begun(), &[0]),
        lease(1, begun(), &[]),
        lease(2, begun(), &[]),
        lease(7, begun(), &[3]),
    ];
    assert_eq!(made(&listed, &rows, Start::Everything), []);
    // 5's last owner makes it nevertheless; nothing confirms that it may start.
    let early = lease(9, ALL, &[5, 6]);
    let with_child: Vec<&Lease> = rows.iter().chain([&early]).collect();
    assert!(compare(&stream(), &listed, &with_child, Start::Everything).confirmed.is_empty());
}

#[test]
fn a_merge_does_not_wait_for_a_parent_past_retention() {
    // S17: one parent's row was cleaned up and the parent trimmed; the other has ended.
    let listed: Vec<Shard> = family().into_iter().filter(|s| [5, 9].contains(&s.index())).collect();
    let rows = [lease(5, Checkpoint::ShardEnd, &[0])];
    assert_eq!(made(&listed, &rows, Start::Everything), [(9, ALL, Some(0))]);
    // Or its last owner made the child: then the child is told that it need not wait.
    let child = lease(9, ALL, &[5, 6]);
    let confirmed = compare(&stream(), &listed, &[&rows[0], &child], Start::Everything).confirmed;
    assert_eq!(confirmed, [&child]);
}

trait Index {
    fn index(&self) -> u64;
}

impl Index for Shard {
    fn index(&self) -> u64 {
        self.id.as_str().trim_start_matches("shardId-").parse().expect("a number")
    }
}

#[test]
fn the_lost_row_of_a_parent_is_found_by_its_waiting_child() {
    let listed = vec![shard(0, &[], false), shard(1, &[], false), shard(2, &[0, 1], true)];
    let rows = [lease(0, Checkpoint::ShardEnd, &[]), lease(2, ALL, &[0, 1])];
    assert_eq!(made(&listed, &rows, Start::Everything), [(1, ALL, Some(0))]);
    // Once the child has begun, the parent was finished.
    let rows = [lease(0, Checkpoint::ShardEnd, &[]), lease(2, begun(), &[0, 1])];
    assert_eq!(made(&listed, &rows, Start::Everything), []);
}

#[test]
fn a_listing_that_lags_behind_the_rows_repeats_nothing() {
    // The split of 0 is not listed yet, 0 was cleaned up already.
    let listed = vec![shard(0, &[], true)];
    let rows = [lease(1, begun(), &[0]), lease(2, begun(), &[0])];
    assert_eq!(made(&listed, &rows, Start::Everything), []);
}

#[test]
fn a_circle_of_parents_is_survived() {
    assert_eq!(
        made(&[shard(0, &[1], true), shard(1, &[0], true), shard(2, &[2], true), shard(3, &[], true)], &[], Start::Everything),
        [(3, ALL, Some(0))]
    );
}

#[test]
fn the_first_start_is_remembered_by_the_rows() {
    let t = Timestamp::from_millis(20_000);
    let mut first = lease(0, begun(), &[]);
    first.start_at = Some(t);
    let mut later = lease(1, Checkpoint::Latest, &[]);
    later.start_at = Some(Timestamp::from_millis(30_000));
    let mut all = lease(2, ALL, &[]);
    all.start_at = Some(BEGINNING);
    let rows = [&first, &later, &all];
    let of = |initial, rows: &[&Lease]| Start::of(initial, rows, NOW, CREATED);
    assert_eq!(of(InitialPosition::Latest, &[]), since(50_000));
    assert_eq!(of(InitialPosition::Latest, &rows), since(20_000));
    // No trace of the first start is left: everything, so that nothing is lost.
    assert_eq!(of(InitialPosition::Latest, &[&all]), Start::Everything);
    assert_eq!(of(InitialPosition::TrimHorizon, &rows), Start::Everything);
    let at = |moment: i64| Start::From {
        checkpoint: Checkpoint::AtTimestamp,
        moment: Timestamp::from_millis(moment),
        mid_retention: moment > 10_000,
    };
    assert_eq!(of(InitialPosition::AtTimestamp(Timestamp::from_millis(5_000)), &[]), at(5_000));
    assert_eq!(of(InitialPosition::AtTimestamp(Timestamp::from_millis(5_000)), &rows), at(20_000));
    // Of two first starts at once the earlier counts, as long as nobody reads by the later one.
    assert_eq!(late_starts(&rows), [(&later, t)]);
    later.owner = Some("worker-1".parse().expect("valid"));
    assert_eq!(late_starts(&[&first, &later]), []);
}
