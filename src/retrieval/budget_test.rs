use std::pin::Pin;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::random::Randomness;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

#[tokio::test(start_paused = true)]
async fn busy_shards_share_evenly_and_an_empty_one_has_its_turn() {
    let budget = ByteBudget::new(64 * MIB);
    let (a, b, c) = (budget.shard(), budget.shard(), budget.shard());
    let held = |shard: &ShardBudget| shard.0.held.load(Ordering::Relaxed);
    let fill = |shard: &ShardBudget| {
        let mut held = Vec::new();
        while let Some(r) = shard.reserve(MIB, KIB).now_or_never() {
            held.push(r);
        }
        held
    };
    let of_a = fill(&a);
    assert_eq!(held(&a), 32 * MIB, "one busy shard gets half");
    let of_b = fill(&b);
    assert!(held(&b) >= 15 * MIB);
    drop(of_a);
    let _again = fill(&a);
    assert!(held(&a) >= 20 * MIB);
    let large = c.reserve(200 * MIB, KIB).now_or_never().expect("a shard with nothing buffered has its turn");
    assert!((MIB..=64 * MIB).contains(&large.bytes()));
    let one_more = budget.shard();
    let large = one_more.reserve(100 * MIB, 100 * MIB);
    assert!(large.now_or_never().is_none(), "a record larger than what is left waits");
    drop(of_b);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_bytes_come_back_and_leaves_nothing_behind() {
    let budget = ByteBudget::new(2 * MIB);
    let shard = budget.shard();
    let first = shard.reserve(MIB, KIB).await;
    let mut second = Box::pin(shard.reserve(MIB, KIB));
    assert!(futures::poll!(&mut second).is_pending());
    let third = Box::pin(shard.reserve(MIB, KIB));
    drop(third);
    drop(first);
    let second = second.await;
    assert_eq!(budget.used(), second.bytes());
    let mut given_up = Box::pin(shard.reserve(2 * MIB, KIB));
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(second);
    drop(given_up);
    assert_eq!(budget.used(), 0, "a grant that nobody took comes back");
}

#[tokio::test(start_paused = true)]
async fn little_is_there_for_every_shard_when_nothing_moves() {
    let budget = ByteBudget::new(64 * MIB);
    let shards: Vec<_> = (0..200).map(|_| budget.shard()).collect();
    let started = Instant::now();
    let mut blocked = Vec::new();
    for shard in &shards {
        blocked.push(shard.reserve(2 * MIB, KIB).await);
    }
    assert!(budget.used() <= 64 * MIB * 6 / 5, "{}", budget.used());
    assert!(started.elapsed() <= STALLED, "the first of them finds that nothing moves: {:?}", started.elapsed());
    // Prefetching has to wait, and so have, but for a few, shards with large records, until something is processed.
    assert!(shards[0].reserve(64 * KIB, KIB).now_or_never().is_none());
    let large: Vec<_> = (0..5).map(|_| budget.shard()).collect();
    let mut few = Vec::new();
    for shard in &large[..4] {
        few.extend(tokio::time::timeout(Duration::from_secs(60), shard.reserve(2 * MIB, MIB)).await);
    }
    assert!(!few.is_empty() && budget.used() <= 64 * MIB * 6 / 5, "{} of {}", few.len(), budget.used());
    let mut turn = Box::pin(large[4].reserve(2 * MIB, MIB));
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut turn).await.is_err());
    blocked.truncate(180);
    blocked.drain(..2);
    assert!(turn.await.bytes() >= MIB);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_empties_while_it_waits_gets_little_when_nothing_moves() {
    let budget = ByteBudget::new(64 * MIB);
    let (hog, shard) = (budget.shard(), budget.shard());
    let own = shard.reserve(MIB, KIB).await;
    let mut all = hog.reserve(MIB, KIB).await;
    all.resize(80 * MIB);
    let mut more = Box::pin(shard.reserve(MIB, KIB));
    assert!(tokio::time::timeout(Duration::from_secs(10), &mut more).await.is_err(), "it holds something");
    drop(own);
    let little = tokio::time::timeout(Duration::from_secs(2), more).await.expect("it holds nothing");
    assert!(little.bytes() <= MOST_LITTLE);
}

/// How long a run takes.
const RUN: Duration = Duration::from_secs(20);

/// What the shards of a run got.
struct Run {
    grants: Vec<Vec<u64>>,
    most: u64,
}

/// `healthy` shards that are behind, with a backlog, take `work` for each MiB; `blocked` ones never give back.
fn run(capacity: u64, healthy: usize, blocked: usize, wanted: u64, work: Duration) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let budget = ByteBudget::new(capacity);
        let random = Randomness::seeded(1);
        let mut tasks = JoinSet::new();
        for n in 0..healthy + blocked {
            let (shard, random) = (budget.shard(), random.clone());
            tasks.spawn(async move {
                let mut grants = Vec::new();
                let until = Instant::now() + RUN;
                tokio::time::sleep(Duration::from_millis(random.in_range(0..200))).await;
                while Instant::now() < until
                    && let Ok(grant) = tokio::time::timeout_at(until, shard.reserve(wanted, 2 * KIB)).await
                {
                    grants.push(grant.bytes());
                    if n >= healthy {
                        tokio::time::sleep_until(until).await;
                        break;
                    }
                    let share = grant.bytes() as f64 / MIB as f64;
                    tokio::time::sleep(random.jittered(Duration::from_millis(10) + work.mul_f64(share))).await;
                    drop(grant);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                (n, grants)
            });
        }
        let (mut grants, mut most) = (vec![Vec::new(); healthy + blocked], 0);
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => most = most.max(budget.used()),
                ended = tasks.join_next() => match ended {
                    Some(ended) => { let (n, of_shard) = ended.expect("no panic"); grants[n] = of_shard; }
                    None => break,
                },
            }
        }
        grants.truncate(healthy);
        assert_eq!(budget.used(), 0);
        Run { grants, most }
    })
}

#[test]
fn very_many_busy_shards_take_turns_that_are_worth_a_call() {
    let Run { grants, most } = run(64 * MIB, 1000, 0, 2 * MIB, Duration::from_millis(40));
    assert!(most <= 64 * MIB * 6 / 5, "{most}");
    let (calls, bytes) = (grants.iter().flatten().count() as u64, grants.iter().flatten().sum::<u64>());
    assert!(bytes / calls >= 768 * KIB, "{} KiB a call", bytes / calls / KIB);
    let of_shards: Vec<u64> = grants.iter().map(|grants| grants.iter().sum()).collect();
    let (least, most) = (of_shards.iter().min().expect("some"), of_shards.iter().max().expect("some"));
    assert!(*least * 2 >= *most, "{least} to {most} bytes");
}

#[test]
fn neighbours_of_blocked_shards_go_on() {
    for blocked in [10, 60, 900] {
        let Run { grants, most } = run(64 * MIB, 100, blocked, 2 * MIB, Duration::from_millis(40));
        assert!(most <= 64 * MIB * 6 / 5 + 1000 * LEAST_LITTLE, "{blocked} blocked: {most}");
        let fewest = grants.iter().map(Vec::len).min().expect("some");
        assert!(fewest >= 20, "{blocked} blocked: {fewest} calls in {RUN:?}");
    }
}

/// As with shards that are paused, or whose handlers hang.
#[test]
fn shards_that_were_never_read_go_on_beside_any_number_that_are_blocked() {
    for blocked in [40, 200, 1000] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let budget = ByteBudget::new(64 * MIB);
            let shards: Vec<_> = (0..blocked).map(|_| budget.shard()).collect();
            // They take what they can get, and keep it.
            let mut held = Vec::new();
            for shard in shards.iter().cycle().take(3 * blocked) {
                held.extend(tokio::time::timeout(STALLED, shard.reserve(2 * MIB, 2 * KIB)).await);
            }
            assert!(budget.used() > 64 * MIB, "{blocked}");
            let (polled, subscribed): (Vec<_>, Vec<_>) =
                ((0..20).map(|_| budget.shard()).collect(), (0..20).map(|_| budget.shard()).collect());
            // Of records that nobody has seen, one may have a MiB; an event may, too.
            let first = polled.iter().map(|shard| shard.reserve(2 * MIB, MIB).boxed());
            let events = subscribed.iter().map(|shard| shard.reserve_event(MIB).boxed());
            let mut waiting: FuturesUnordered<_> = first.chain(events).collect();
            let mut small = Vec::new();
            let all = async {
                while let Some(mut reservation) = waiting.next().await {
                    assert!(budget.used() <= 64 * MIB * 6 / 5 + 1000 * LEAST_LITTLE, "{blocked}: {}", budget.used());
                    reservation.resize(2 * KIB);
                    small.push(reservation);
                }
            };
            tokio::time::timeout(Duration::from_secs(60), all).await.expect("everybody is served");
            assert_eq!(small.len(), 40);
        });
    }
}

#[test]
fn shards_at_the_tip_do_not_wait_for_those_that_are_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let budget = ByteBudget::new(64 * MIB);
        let busy: Vec<_> = (0..500).map(|_| budget.shard()).collect();
        let mut waiting: Vec<_> = busy.iter().map(|shard| Box::pin(shard.reserve(2 * MIB, 2 * KIB))).collect();
        let held: Vec<_> = waiting.iter_mut().filter_map(|waiting| Pin::new(waiting).now_or_never()).collect();
        assert!(held.len() < 100);
        let tip = budget.shard();
        assert!(tip.reserve(64 * KIB, 2 * KIB).now_or_never().is_some_and(|little| little.bytes() >= LEAST_LITTLE));
    });
}

#[derive(Debug, Clone)]
enum Step {
    Page {
        shard: usize,
        wanted: u64,
        least: u64,
    },
    Event {
        shard: usize,
        bytes: u64,
    },
    /// What came is smaller than what was set aside.
    Shrink {
        which: usize,
        to: f64,
    },
    Release {
        which: usize,
    },
    GiveUp {
        which: usize,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..40, 1u64..4 * MIB, prop_oneof![1u64..4 * KIB, 1u64..2 * MIB])
            .prop_map(|(shard, wanted, least)| Step::Page { shard, wanted, least }),
        2 => (0usize..40, 64 * KIB..2 * MIB).prop_map(|(shard, bytes)| Step::Event { shard, bytes }),
        1 => (any::<usize>(), 0.0..1.0f64).prop_map(|(which, to)| Step::Shrink { which, to }),
        2 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => any::<usize>().prop_map(|which| Step::GiveUp { which }),
        1 => (0u64..1000).prop_map(|millis| Step::Pass { millis }),
    ]
}

type Waiting = Pin<Box<dyn Future<Output = Reservation>>>;

proptest! {
    /// Whatever is asked for, in whatever order: what is set aside stays within the budget and its turns, and one record, and all of it
    /// comes back; and when everything held is given back, nobody waits on.
    #[test]
    fn the_budget_is_kept_and_everybody_is_served(steps in prop::collection::vec(step(), 1..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let capacity = 8 * MIB;
            let budget = ByteBudget::new(capacity);
            let shards: Vec<_> = (0..40).map(|_| budget.shard()).collect();
            let (mut held, mut waiting): (Vec<Reservation>, Vec<Waiting>) = (Vec::new(), Vec::new());
            let start = |future: Waiting, waiting: &mut Vec<Waiting>| waiting.push(future);
            for step in steps {
                match step {
                    Step::Page { shard, wanted, least } => {
                        let shard = shards[shard].clone();
                        start(Box::pin(async move { shard.reserve(wanted, least).await }), &mut waiting);
                    }
                    Step::Event { shard, bytes } => {
                        let shard = shards[shard].clone();
                        start(Box::pin(async move { shard.reserve_event(bytes).await }), &mut waiting);
                    }
                    Step::Shrink { which, to } if !held.is_empty() => {
                        let which = which % held.len();
                        let bytes = held[which].bytes() as f64 * to;
                        held[which].resize(bytes as u64);
                    }
                    Step::Release { which } if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                    Step::GiveUp { which } if !waiting.is_empty() => drop(waiting.swap_remove(which % waiting.len())),
                    Step::Pass { millis } => tokio::time::advance(Duration::from_millis(millis)).await,
                    Step::Shrink { .. } | Step::Release { .. } | Step::GiveUp { .. } => {}
                }
                let mut at = 0;
                while at < waiting.len() {
                    match futures::poll!(&mut waiting[at]) {
                        std::task::Poll::Ready(reservation) => {
                            drop(waiting.swap_remove(at));
                            held.push(reservation);
                        }
                        std::task::Poll::Pending => at += 1,
                    }
                }
                let sum: u64 = held.iter().map(Reservation::bytes).sum();
                prop_assert_eq!(budget.used(), sum);
                // A record or event has up to 2 MiB here, which is more than a twentieth.
                prop_assert!(sum <= capacity + capacity / 5 + 2 * MIB, "{} KiB", sum / KIB);
            }
            drop(held);
            // Whoever is served gives back at once, for the next.
            let mut waiting: FuturesUnordered<_> = waiting.into_iter().collect();
            let served = async { while waiting.next().await.is_some() {} };
            prop_assert!(tokio::time::timeout(Duration::from_secs(600), served).await.is_ok(), "somebody waits on");
            prop_assert_eq!(budget.used(), 0);
            Ok(())
        })?;
    }

    /// Answers larger than expected are counted as they are, and nothing goes beyond until they are processed.
    #[test]
    fn what_comes_beyond_what_was_expected_stops_the_others(sizes in prop::collection::vec(1u64..10 * MIB, 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let budget = ByteBudget::new(8 * MIB);
            let shards: Vec<_> = (0..40).map(|_| budget.shard()).collect();
            let (mut held, mut sum) = (Vec::new(), 0);
            for (shard, size) in shards.iter().zip(sizes) {
                let Some(mut reservation) = shard.reserve(2 * MIB, MIB).now_or_never() else {
                    prop_assert!(sum + MIB > 8 * MIB, "there was room");
                    continue;
                };
                prop_assert!(sum + MIB <= 8 * MIB * 6 / 5, "{} MiB were taken", sum / MIB);
                reservation.resize(size);
                sum += size;
                held.push(reservation);
            }
            prop_assert_eq!(budget.used(), sum);
            drop(held);
            prop_assert_eq!(budget.used(), 0);
            Ok(())
        })?;
    }
}
