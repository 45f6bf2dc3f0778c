use std::collections::BTreeSet;

use super::*;
use crate::{
    lease::{ForeignWorker, LeaderLock, WorkerState},
    types::{Checkpoint, ShardId, StreamIdentifier, StreamName, Timestamp},
};

const DURATION: Duration = Duration::from_secs(10);

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("valid")
}

fn row(name: &str, instance: u64, heartbeat: u64) -> WorkerRow {
    WorkerRow {
        id: worker(name),
        version: WorkerVersion { instance: InstanceId(instance), heartbeat },
        state: WorkerState::Active,
        leading: false,
        roster: Vec::new(),
        max_leases: None,
        updated: Timestamp::from_millis(0),
        signals: BTreeSet::new(),
    }
}

fn free(index: u64) -> Lease {
    let stream = StreamIdentifier::Single(StreamName::new("clicks").expect("valid"));
    Lease::new(&stream, ShardId::from_index(index), Checkpoint::TrimHorizon)
}

fn owned(index: u64, owner: &str, instance: u64) -> Lease {
    free(index).taken(WriteId(1), &worker(owner), InstanceId(instance))
}

fn scan(leases: &[Lease], workers: &[WorkerRow]) -> TableScan {
    TableScan { leases: leases.to_vec(), workers: workers.to_vec(), ..TableScan::default() }
}

/// Seconds after the start; the observer never reads a clock itself.
struct Time(Instant);

impl Time {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn stale(observer: &Observer, now: Instant) -> Vec<(String, u64)> {
    observer.stale_workers(now).into_iter().map(|(id, version)| (id.to_string(), version.heartbeat)).collect()
}

#[test]
fn a_frozen_heartbeat_is_stale_after_the_lease_duration_and_not_before() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(&[], &[row("a", 1, 5), row("b", 2, 5)]), t.at(0));
    observer.observe_workers(&[worker("a"), worker("b")], &[row("a", 1, 5), row("b", 2, 6)], t.at(4));
    assert_eq!(stale(&observer, t.at(9)), []);
    assert_eq!(stale(&observer, t.at(10)), [("a".to_owned(), 5)]);
    assert_eq!(stale(&observer, t.at(14)), [("a".to_owned(), 5), ("b".to_owned(), 6)]);
    // A late heartbeat refutes it.
    observer.observe_workers(&[worker("a")], &[row("a", 1, 6)], t.at(15));
    assert_eq!(stale(&observer, t.at(15)), [("b".to_owned(), 6)]);
}

#[test]
fn a_row_that_was_made_again_with_a_lower_counter_is_dated_anew() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    let handed = |counter| Lease { counter, ..free(0).handed_over(WriteId(counter), &worker("b"), Checkpoint::TrimHorizon) };
    observer.observe_scan(&scan(&[handed(40)], &[row("b", 2, 1)]), t.at(0));
    for seconds in [5, 7, 9] {
        observer.observe_scan(&scan(&[handed(3)], &[row("b", 2, 1)]), t.at(seconds));
        assert_eq!(observer.lease_status(&handed(3), t.at(seconds)), LeaseStatus::Alive);
    }
    assert_eq!(observer.lease_status(&handed(3), t.at(16)), LeaseStatus::Alive, "it is dated from the second scan that shows it");
    assert_eq!(observer.lease_status(&handed(3), t.at(17)), LeaseStatus::Expired);
    // A single scan that was overtaken proves nothing.
    observer.observe_scan(&scan(&[handed(2)], &[row("b", 2, 1)]), t.at(18));
    observer.observe_scan(&scan(&[handed(3)], &[row("b", 2, 1)]), t.at(19));
    assert_eq!(observer.lease_status(&handed(3), t.at(19)), LeaseStatus::Expired);
}

#[test]
fn a_worker_whose_row_cannot_be_read_is_alive() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    let lease = owned(0, "a", 1);
    let obscure = WorkerRow::unreadable(worker("a"), None);
    for seconds in [0, 5, 60] {
        observer.observe_scan(&scan(std::slice::from_ref(&lease), std::slice::from_ref(&obscure)), t.at(seconds));
        observer.observe_workers(&[worker("a")], std::slice::from_ref(&obscure), t.at(seconds));
        assert_eq!(observer.lease_status(&lease, t.at(seconds)), LeaseStatus::Alive);
        assert_eq!(stale(&observer, t.at(seconds)), [], "there is no version on which to declare it dead");
    }
    // With a version that can be read it is dated as any other.
    let obscure = WorkerRow::unreadable(worker("a"), Some(WorkerVersion { instance: InstanceId(1), heartbeat: 9 }));
    observer.observe_scan(&scan(std::slice::from_ref(&lease), std::slice::from_ref(&obscure)), t.at(70));
    assert_eq!((stale(&observer, t.at(79)), stale(&observer, t.at(80))), (vec![], vec![("a".to_owned(), 9)]));
    observer.observe_scan(&scan(std::slice::from_ref(&lease), &[]), t.at(81));
    observer.observe_scan(&scan(std::slice::from_ref(&lease), &[]), t.at(82));
    assert_eq!(observer.lease_status(&lease, t.at(82)), LeaseStatus::Orphaned);
}

#[test]
fn an_overtaken_read_does_not_turn_time_back() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(&[], &[row("a", 1, 7)]), t.at(0));
    observer.observe_scan(&scan(&[], &[row("a", 1, 6)]), t.at(5));
    assert_eq!(stale(&observer, t.at(10)), [("a".to_owned(), 7)]);
}

#[test]
fn rows_that_vanish_are_forgotten() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(&[free(1)], &[row("a", 1, 1), row("b", 1, 1), row("c", 1, 1)]), t.at(0));
    observer.observe_scan(&scan(&[], &[row("a", 1, 1), row("c", 1, 1)]), t.at(1));
    observer.observe_workers(&[worker("c")], &[], t.at(2));
    assert_eq!(stale(&observer, t.at(30)), [("a".to_owned(), 1)]);
    assert!(observer.leases.is_empty());
    // Seen again, the same token counts from now.
    observer.observe_scan(&scan(&[], &[row("b", 1, 1)]), t.at(31));
    assert_eq!(stale(&observer, t.at(40)), []);
    assert_eq!(stale(&observer, t.at(41)), [("b".to_owned(), 1)]);
}

#[test]
fn a_lease_lives_as_long_as_its_owners_row() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    let lease = owned(1, "a", 1);
    observer.observe_scan(&scan(&[free(0), lease.clone()], &[row("a", 1, 1)]), t.at(0));
    assert_eq!(observer.lease_status(&free(0), t.at(0)), LeaseStatus::Unowned);
    // Neither the unmoved counter nor the stale heartbeat frees it: the row must be deleted first.
    assert_eq!(observer.lease_status(&lease, t.at(60)), LeaseStatus::Alive);
    let (id, version) = observer.stale_workers(t.at(60)).remove(0);
    observer.forget_worker(&id, version);
    assert_eq!(observer.lease_status(&lease, t.at(60)), LeaseStatus::Orphaned);
    assert_eq!(observer.stale_workers(t.at(60)), []);
}

#[test]
fn a_missing_row_is_believed_only_by_a_second_read() {
    let t = Time::start();
    let lease = owned(1, "newcomer", 1);
    // The scan passed the newcomer's row before it was written, and the lease after it was taken.
    let torn = scan(std::slice::from_ref(&lease), &[]);

    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&torn, t.at(0));
    assert_eq!(observer.lease_status(&lease, t.at(0)), LeaseStatus::Alive);
    assert_eq!(observer.unconfirmed(), [worker("newcomer")]);
    observer.observe_workers(&[worker("newcomer")], &[row("newcomer", 1, 1)], t.at(0));
    assert_eq!(observer.lease_status(&lease, t.at(0)), LeaseStatus::Alive);
    assert_eq!(observer.unconfirmed(), []);

    for second in [0, 1] {
        let mut observer = Observer::new(DURATION);
        observer.observe_scan(&torn, t.at(0));
        match second {
            0 => observer.observe_workers(&[worker("newcomer")], &[], t.at(0)),
            _ => observer.observe_scan(&torn, t.at(1)),
        }
        assert_eq!(observer.lease_status(&lease, t.at(1)), LeaseStatus::Orphaned);
        assert_eq!(observer.unconfirmed(), []);
    }
}

#[test]
fn reading_other_workers_confirms_nothing() {
    let t = Time::start();
    let lease = owned(1, "a", 1);
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(std::slice::from_ref(&lease), &[row("b", 2, 1)]), t.at(0));
    observer.observe_workers(&[worker("b")], &[row("b", 2, 2)], t.at(1));
    assert_eq!(observer.lease_status(&lease, t.at(1)), LeaseStatus::Alive);
}

#[test]
fn a_restart_under_the_same_id_orphans_what_the_old_life_owned() {
    let t = Time::start();
    let (old, new) = (owned(1, "a", 1), owned(2, "a", 2));
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(&[old.clone(), new.clone()], &[row("a", 1, 90)]), t.at(0));
    assert_eq!(observer.lease_status(&old, t.at(0)), LeaseStatus::Alive);
    observer.observe_scan(&scan(&[old.clone(), new.clone()], &[row("a", 2, 1)]), t.at(1));
    observer.observe_workers(&[worker("a")], &[row("a", 2, 1)], t.at(1));
    assert_eq!(observer.lease_status(&old, t.at(1)), LeaseStatus::Orphaned);
    assert_eq!(observer.lease_status(&new, t.at(1)), LeaseStatus::Alive);
    // The new life is dated from its own first heartbeat.
    assert_eq!(stale(&observer, t.at(10)), []);
    assert_eq!(stale(&observer, t.at(11)), [("a".to_owned(), 1)]);
}

#[test]
fn a_handed_over_lease_expires_when_nobody_accepts_it() {
    let t = Time::start();
    let handed = owned(1, "a", 1).handed_over(WriteId(2), &worker("b"), Checkpoint::TrimHorizon);
    let mut observer = Observer::new(DURATION);
    let rows = [row("a", 1, 1), row("b", 2, 1)];
    observer.observe_scan(&scan(std::slice::from_ref(&handed), &rows), t.at(0));
    assert_eq!(observer.lease_status(&handed, t.at(9)), LeaseStatus::Alive);
    assert_eq!(observer.lease_status(&handed, t.at(10)), LeaseStatus::Expired);
    // A row newer than what was dated is not judged by the old date.
    let again = handed.taken(WriteId(3), &worker("b"), InstanceId(2)).handed_over(WriteId(4), &worker("a"), Checkpoint::TrimHorizon);
    assert_eq!(observer.lease_status(&again, t.at(10)), LeaseStatus::Alive);
    observer.observe_scan(&scan(std::slice::from_ref(&again), &rows), t.at(11));
    assert_eq!(observer.lease_status(&again, t.at(20)), LeaseStatus::Alive);
    assert_eq!(observer.lease_status(&again, t.at(21)), LeaseStatus::Expired);
    assert_eq!(observer.foreign_activity(t.at(21)), []);
}

#[test]
fn a_counter_raised_by_another_library_is_reported() {
    let t = Time::start();
    let mut java = Lease { owner: Some(worker("java-1")), counter: 40, ..free(1) };
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&scan(std::slice::from_ref(&java), &[]), t.at(0));
    assert_eq!(observer.foreign_activity(t.at(0)), [], "one look tells nothing");
    java.counter += 1;
    observer.observe_scan(&scan(std::slice::from_ref(&java), &[]), t.at(3));
    assert_eq!(observer.foreign_activity(t.at(3)), [ForeignSign::Lease(java.key.clone())]);
    assert_eq!(observer.lease_status(&java, t.at(12)), LeaseStatus::Alive);
    assert_eq!(observer.lease_status(&java, t.at(13)), LeaseStatus::Expired);
    // Long silence: the Java worker is gone.
    assert_eq!(observer.foreign_activity(t.at(93)), []);
    // A Java leader that assigns a lease of ours keeps our marks as they were.
    let ours = owned(2, "a", 1);
    observer.observe_scan(&scan(std::slice::from_ref(&ours), &[row("a", 1, 1)]), t.at(100));
    let assigned = Lease { owner: Some(worker("java-1")), counter: ours.counter + 1, ..ours.clone() };
    observer.observe_scan(&scan(std::slice::from_ref(&assigned), &[row("a", 1, 2)]), t.at(101));
    assert_eq!(observer.foreign_activity(t.at(101)), [ForeignSign::Lease(ours.key)]);
}

#[test]
fn renewed_rows_of_another_library_are_reported() {
    let t = Time::start();
    let with = |seconds: i64, version: &str| TableScan {
        foreign_workers: vec![
            ForeignWorker { id: "java-1".to_owned(), last_update: Some(Timestamp::from_millis(seconds * 1000)) },
            ForeignWorker { id: "long-dead".to_owned(), last_update: Some(Timestamp::from_millis(1)) },
        ],
        leader_lock: Some(LeaderLock { owner: "java-1".to_owned(), version: version.to_owned() }),
        ..TableScan::default()
    };
    let mut observer = Observer::new(DURATION);
    observer.observe_scan(&with(100, "x"), t.at(0));
    assert_eq!(observer.foreign_activity(t.at(0)), []);
    observer.observe_scan(&with(130, "x"), t.at(30));
    assert_eq!(observer.foreign_activity(t.at(30)), [ForeignSign::Worker("java-1".to_owned())]);
    observer.observe_scan(&with(130, "y"), t.at(31));
    assert_eq!(
        observer.foreign_activity(t.at(31)),
        [ForeignSign::Worker("java-1".to_owned()), ForeignSign::LeaderLock("java-1".to_owned())]
    );
    assert_eq!(observer.foreign_activity(t.at(121)), []);
}

#[test]
fn our_own_writes_are_no_foreign_signs() {
    let t = Time::start();
    let mut observer = Observer::new(DURATION);
    let mut lease = owned(1, "a", 1);
    for second in 0..5 {
        observer.observe_scan(&scan(std::slice::from_ref(&lease), &[row("a", 1, second)]), t.at(second));
        lease = lease.checkpointed(WriteId(100 + second), Checkpoint::Latest);
    }
    assert_eq!(observer.foreign_activity(t.at(5)), []);
}
