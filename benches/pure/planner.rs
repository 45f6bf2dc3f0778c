//! Who should own what, in a large fleet.

use divan::Bencher;

#[path = "../../src/lease/coordinator/balance.rs"]
#[allow(dead_code, unused_imports, reason = "the library uses the rest, and its tests stay out")]
mod balance;

use balance::{PlannedLease, PlannedWorker, Settings, plan};

use crate::{lease::LeaseKey, types::WorkerId};

const WORKERS: usize = 500;
const LEASES: usize = 4000;

struct Fleet {
    keys: Vec<LeaseKey>,
    ids: Vec<WorkerId>,
}

impl Fleet {
    fn new() -> Self {
        Self {
            keys: (0..LEASES).map(|i| LeaseKey::new(format!("shardId-{i:012}")).expect("a key")).collect(),
            ids: (0..WORKERS).map(|i| WorkerId::new(format!("worker-{i:04}")).expect("an id")).collect(),
        }
    }

    fn workers(&self) -> Vec<PlannedWorker<'_>> {
        self.ids.iter().map(|id| PlannedWorker { id, max_leases: None, leaving: false }).collect()
    }

    fn leases(&self, owner: impl Fn(usize) -> Option<usize>) -> Vec<PlannedLease<'_>> {
        let leases = self.keys.iter().enumerate();
        // Loads from 0 to 99 KiB/s in no order.
        leases
            .map(|(i, key)| PlannedLease { key, owner: owner(i), load: Some((i * 37 % 100) as f64), moving_to: None, movable: true })
            .collect()
    }
}

/// Nobody owns anything: the first plan of a fleet.
#[divan::bench]
fn first_of_500_workers_and_4000_leases(bencher: Bencher<'_, '_>) {
    let fleet = Fleet::new();
    let (leases, workers) = (fleet.leases(|_| None), fleet.workers());
    bencher.bench(|| plan(&leases, &workers, &Settings::default()));
}

/// All is as it should be, which is nearly always.
#[divan::bench]
fn settled_500_workers_and_4000_leases(bencher: Bencher<'_, '_>) {
    let fleet = Fleet::new();
    let workers = fleet.workers();
    let mut owners = vec![None; LEASES];
    for assignment in plan(&fleet.leases(|_| None), &workers, &Settings::default()) {
        owners[assignment.lease] = Some(assignment.to);
    }
    let leases = fleet.leases(|i| owners[i]);
    bencher.bench(|| plan(&leases, &workers, &Settings::default()));
}

/// One worker has everything and 499 join.
#[divan::bench]
fn joined_by_499_workers_with_4000_leases(bencher: Bencher<'_, '_>) {
    let fleet = Fleet::new();
    let (leases, workers) = (fleet.leases(|_| Some(0)), fleet.workers());
    bencher.bench(|| plan(&leases, &workers, &Settings::default()));
}
