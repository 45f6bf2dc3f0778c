use std::{
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use super::*;
use crate::{
    error::Result,
    retrieval::ByteBudget,
    stream::{
        ShardPosition, StreamClient,
        aws::dribbling::{self, Dribbling},
    },
    types::{EncryptionType, Record, RecordParts, SequenceNumber, ShardId},
};

const MIB: u64 = 1024 * 1024;
const SHARDS: u64 = 200;
/// What payloads are made of.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
const PATIENCE: Patience = Patience { silence: Duration::from_secs(15), full: Duration::from_secs(120) };

/// Sends an event of one record of about this size at each of the moments, and idle events every five seconds until then.
#[derive(Debug)]
struct Scripted {
    idle_until: Instant,
    last: Instant,
    bytes: usize,
    sent: u128,
    behind: u64,
    /// Events that were asked for.
    asked: Arc<AtomicU64>,
}

impl Scripted {
    fn start(idle: Duration, bytes: usize, behind: u64, asked: &Arc<AtomicU64>) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self { idle_until: now + idle, last: now, bytes, sent: 0, behind, asked: Arc::clone(asked) })
    }
}

#[async_trait]
impl Subscription for Scripted {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        let idle_event = self.last + Duration::from_secs(5);
        let at = idle_event.min(self.idle_until.max(self.last + Duration::from_millis(10)));
        sleep_until(at).await;
        self.last = Instant::now();
        let records = if self.last < self.idle_until {
            Vec::new()
        } else {
            self.sent += 1;
            self.asked.fetch_add(1, Ordering::Relaxed);
            vec![record(self.sent, self.bytes)]
        };
        let behind = if records.is_empty() { 0 } else { self.behind };
        let continuation = Some(SequenceNumber::from_parts(0, self.sent));
        Ok(Some(SubscriptionEvent { records, continuation, millis_behind_latest: behind, child_shards: Vec::new() }))
    }

    fn heard(&self) -> Heard {
        Heard::default()
    }
}

fn record(sequence: u128, bytes: usize) -> Record {
    Record::from_parts(RecordParts {
        sequence_number: SequenceNumber::from_parts(0, sequence),
        sub_sequence_number: 0,
        partition_key: "k".into(),
        explicit_hash_key: None,
        data: bytes::Bytes::from_static(&ZEROS).slice(..bytes),
        approximate_arrival: None,
        encryption_type: EncryptionType::None,
        aggregated: false,
    })
}

/// Takes from all links what they have, up to `each` events, and keeps it.
async fn take(links: &mut [Link], each: usize) -> Vec<Reservation> {
    let mut kept = Vec::new();
    for link in links {
        for _ in 0..each {
            match futures::poll!(Pin::new(&mut Box::pin(link.next()))) {
                std::task::Poll::Ready(Pumped::Event(_, reservation)) => kept.push(reservation),
                std::task::Poll::Ready(other) => panic!("{other:?}"),
                std::task::Poll::Pending => break,
            }
        }
    }
    kept
}

fn start(budget: &ByteBudget, subscription: impl Fn(u64) -> Box<Scripted>) -> Vec<Link> {
    (0..SHARDS).map(|n| Link::start(subscription(n), budget.shard(), Gauge::default(), PATIENCE, &Spawner::current())).collect()
}

#[tokio::test(start_paused = true)]
async fn shards_with_a_backlog_and_a_blocked_sink_stay_within_the_budget_and_a_fifth() {
    let (budget, asked) = (ByteBudget::new(64 * MIB), Arc::default());
    let mut links = start(&budget, |_| Scripted::start(Duration::ZERO, MIB as usize, 60_000, &asked));
    let mut kept = Vec::new();
    let mut most = 0;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        kept.extend(take(&mut links, 10).await);
        most = most.max(budget.used());
    }
    assert!((60 * MIB..=77 * MIB).contains(&most), "{} MiB", most / MIB);
    // The sink returns: all shards are read on, each in its turn.
    let mut read = vec![0; links.len()];
    kept.clear();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        for (link, read) in links.iter_mut().zip(&mut read) {
            *read += take(std::slice::from_mut(link), 10).await.len();
        }
        assert!(budget.used() <= 77 * MIB);
    }
    assert!(read.iter().all(|read| *read > 10), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_all_idle_shards_stays_within_the_budget_and_a_fifth() {
    let (budget, asked) = (ByteBudget::new(64 * MIB), Arc::default());
    let mut links = start(&budget, |_| Scripted::start(Duration::from_secs(60), MIB as usize, 0, &asked));
    for _ in 0..55 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(take(&mut links, 10).await);
    }
    assert_eq!(budget.used(), 0, "idle shards set nothing aside");
    let mut kept = Vec::new();
    let mut most = 0;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        kept.extend(take(&mut links, 10).await);
        most = most.max(budget.used());
    }
    assert!((60 * MIB..=78 * MIB).contains(&most), "{} MiB", most / MIB);
    kept.clear();
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        kept.extend(take(&mut links, 10).await);
        kept.clear();
    }
    assert!(asked.load(Ordering::Relaxed) >= 10 * SHARDS, "all are read on");
}

#[tokio::test(start_paused = true)]
async fn idle_shards_do_not_wait_for_each_other_for_long_when_they_start() {
    let (budget, asked) = (ByteBudget::new(64 * MIB), Arc::default());
    let idle = |n| if n + 1 < SHARDS { Duration::from_secs(1000) } else { Duration::ZERO };
    let mut links = start(&budget, |n| Scripted::start(idle(n), 100, 0, &asked));
    let started = Instant::now();
    let last = links.last_mut().expect("some");
    assert!(matches!(last.next().await, Pumped::Event(..)));
    assert!(started.elapsed() <= FIRST_WAIT * 3, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_silent_only_while_it_is_listened_to() {
    let (budget, asked) = (ByteBudget::new(2 * MIB), Arc::default());
    let neighbour = budget.shard();
    let idle = Scripted::start(Duration::from_secs(14), 100, 0, &asked);
    // Longer than the idle events of this one.
    let mut link = Link::start(idle, budget.shard(), Gauge::default(), PATIENCE, &Spawner::current());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut held = neighbour.reserve(MIB).await;
    held.resize(3 * MIB);
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(held);
    for _ in 0..4 {
        assert!(matches!(link.next().await, Pumped::Event(..)));
    }
}

/// A subscription over the wire: two events of a mebibyte, 20 kB a second.
async fn dribbling(freezes_after: usize) -> Link {
    let event = dribbling::event(&dribbling::page(1, MIB as usize));
    let server = Dribbling { answer: event.repeat(2).into(), piece: 2_000, freezes_after };
    let (client, consumer, shard) = (server.client(), dribbling::consumer(), ShardId::from_index(0));
    let subscription = client.subscribe_to_shard(&consumer, &shard, ShardPosition::TrimHorizon).await.expect("accepted");
    Link::start(subscription, ByteBudget::new(4 * MIB).shard(), Gauge::default(), PATIENCE, &Spawner::current())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_takes_longer_than_a_silence_may_is_delivered_on_the_same_subscription() {
    let mut link = dribbling(usize::MAX).await;
    for _ in 0..2 {
        let begun = Instant::now();
        let Pumped::Event(event, _) = link.next().await else { panic!("it is coming in") };
        assert_eq!(event.records[0].data().len() as u64, MIB);
        assert!(begun.elapsed() > Duration::from_secs(60), "{:?}", begun.elapsed());
    }
    assert!(matches!(link.next().await, Pumped::Over));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_freezes_in_the_midst_of_an_event_is_silent() {
    let mut link = dribbling(600_000).await;
    let begun = Instant::now();
    assert!(matches!(link.next().await, Pumped::Silent));
    assert_eq!(begun.elapsed(), Duration::from_secs(30) + PATIENCE.silence);
}
