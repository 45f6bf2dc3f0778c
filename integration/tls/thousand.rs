//! A worker that reads a thousand shards by enhanced fan-out, one of which has a handler that does not return.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use shardkeeper::{
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    retrieval::{Consumer, Retrieval},
    stream::aws::{self, AwsStreamClient},
    types::{InitialPosition, ShardId},
    worker::Worker,
};
use tokio::sync::Notify;

use super::cases::{NEVER, Setup, check, sdk};
use crate::rig::{GENEROUS, Result, until_async};

const SHARDS: u32 = 1000;
const PER_CONNECTION: usize = 50;
/// Records of each shard before a handler blocks, and as many meanwhile.
const ROUNDS: u32 = 8;
/// What the blocked shard gets in each round: in all several times what windows and buffers of a subscription hold.
const BACKLOG: (u32, usize) = (12, 128 * 1024);
/// Bytes of other records.
const SMALL: usize = 64;
/// A shard somewhere in the middle of its connection.
const BLOCKED: u32 = 525;

/// What handlers got, by shard: the numbers of the records, in order.
#[derive(Debug, Clone, Default)]
struct Tally(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    got: Mutex<BTreeMap<ShardId, Vec<u32>>>,
    blocked: Mutex<bool>,
    released: Notify,
}

impl Tally {
    fn got(&self) -> MutexGuard<'_, BTreeMap<ShardId, Vec<u32>>> {
        self.0.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blocked(&self) -> MutexGuard<'_, bool> {
        self.0.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        *self.blocked() = false;
        self.0.released.notify_one();
    }

    /// How many shards have fewer records than that.
    fn behind(&self, records: usize) -> usize {
        (0..SHARDS).filter(|n| self.got().get(&id(*n)).is_none_or(|got| got.len() < records)).count()
    }
}

#[async_trait]
impl RecordProcessor for Tally {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let is_blocked = || *input.shard_id == id(BLOCKED) && *self.blocked();
        while is_blocked() {
            self.0.released.notified().await;
        }
        let mut got = self.got();
        let of_shard = got.entry(input.shard_id.clone()).or_default();
        for record in input.records {
            of_shard.push(u32::from_le_bytes(record.data()[..4].try_into()?));
        }
        Ok(())
    }
}

/// The others keep the rate at which records are put, however long the handler blocks: each gets its share while the
/// blocked one gets nothing. No time is measured, so that a slow machine is only slow; what would make room for the others
/// again after a while is switched off.
pub(super) async fn a_blocked_handler(authority: PathBuf) -> Result {
    let setup = Setup::new("127.0.0.1", &authority, SHARDS).await?;
    let config = aws::Config { subscriptions_per_connection: PER_CONNECTION, ping_interval: NEVER, ..aws::Config::default() };
    let client = AwsStreamClient::from_builder(sdk(&setup.front.endpoint()), config);
    let tally = Tally::default();
    let factory = {
        let tally = tally.clone();
        move || tally.clone()
    };
    let worker = Worker::builder("reader", "clicks", factory)
        .local(&setup.kinesis)
        .stream_client(Arc::new(client))
        .lease_table(Arc::new(setup.kinesis.lease_table("reader")))
        .initial_position(InitialPosition::TrimHorizon)
        .retrieval(Retrieval::FanOut(Consumer::OfApplication))
        .configure(|config| {
            config.fan_out.park_after = NEVER;
            config.fan_out.silence_timeout = NEVER;
        })
        .stop_on_signals(false)
        .build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());

    let mut put = vec![0; SHARDS as usize];
    let of_blocked = id(BLOCKED);
    // Each round is put when all shards have processed the one before.
    for round in 1..=ROUNDS {
        (0..SHARDS).try_for_each(|shard| put_next(&setup, &mut put, shard, SMALL))?;
        processed(&tally, round, 0).await?;
    }
    *tally.blocked() = true;
    for round in ROUNDS + 1..=2 * ROUNDS {
        (0..SHARDS).try_for_each(|shard| put_next(&setup, &mut put, shard, SMALL))?;
        (0..BACKLOG.0).try_for_each(|_| put_next(&setup, &mut put, BLOCKED, BACKLOG.1))?;
        processed(&tally, round, 1).await?;
    }
    let got = tally.got()[&of_blocked].len();
    check(got == ROUNDS as usize, &format!("{of_blocked} is blocked and got {got} records"))?;
    let connections = setup.front.protocols();
    let most = SHARDS as usize / PER_CONNECTION + 1;
    check(connections.len() <= most, &format!("{} connections were made, {most} are enough", connections.len()))?;

    tally.release();
    let all = put[BLOCKED as usize] as usize;
    let what = format!("{of_blocked} catches up");
    until_async(&what, GENEROUS, async || Ok((tally.got()[&of_blocked].len() >= all).then_some(()))).await?;
    handle.shutdown();
    running.await??.check()?;
    for (shard, numbers) in tally.got().iter() {
        let all = put[(0..SHARDS).position(|n| id(n) == *shard).ok_or("an unknown shard")?];
        check(numbers.iter().copied().eq(0..all), &format!("{shard} was read as {numbers:?}"))?;
    }
    Ok(())
}

fn id(shard: u32) -> ShardId {
    ShardId::from_index(shard.into())
}

/// Puts the next record of a shard, of about so many bytes.
fn put_next(setup: &Setup, put: &mut [u32], shard: u32, bytes: usize) -> Result {
    let next = &mut put[shard as usize];
    let mut data = next.to_le_bytes().to_vec();
    data.resize(bytes, 0);
    *next += 1;
    setup.put_to(shard, data)
}

/// Waits until all shards but so many have processed that many records.
async fn processed(tally: &Tally, records: u32, but: usize) -> Result {
    let what = format!("all shards but {but} have processed {records} records");
    until_async(&what, GENEROUS, async || Ok((tally.behind(records as usize) <= but).then_some(()))).await
}
