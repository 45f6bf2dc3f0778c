//! From the call that puts a record to the call that processes it, against the local server with its limits.
//!
//! Two streams of one server get the same records, one for each reader, so that both are measured at once.

use std::{sync::Arc, time::Duration};

use aws_sdk_kinesis::{Client, primitives::Blob, types::PutRecordsRequestEntry};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    args::Plan,
    child::Child,
    counters::{COUNTS, Counts, DELAYS, micros_now},
    job::{Job, Reader, Reading},
    rig::{Result, Server, until},
};

/// Streams of the two.
const STREAMS: [(Reader, &str); 2] = [(Reader::Shardkeeper, "ours"), (Reader::BareLoop, "loop")];
/// Between rounds of puts; not a divisor of any polling interval, so that puts come at any phase of it.
const PUT_EVERY: Duration = Duration::from_millis(37);
/// Between the polls of the bare loop to one shard: the service allows five a second. Of many shards a thousand a second
/// in all, so that it leaves time to the others.
const POLL_EVERY: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURE: Duration = Duration::from_secs(10);
const SIZE: usize = 100;

/// Of the records of a run.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Delays {
    pub(crate) records: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// Of both.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) shardkeeper: Delays,
    pub(crate) bare_loop: Delays,
}

impl Delays {
    fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            micros.get((micros.len() as f64 * share) as usize).or(micros.last()).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
        };
        Self { records: micros.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

pub(crate) fn measure(plan: &Plan) -> Result<Latency> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        let streams = STREAMS.map(|(_, stream)| format!("{stream}:{}", plan.shards));
        let server = Server::start(dir.path(), &["--stream", &streams[0], "--stream", &streams[1]]).await?;
        let mut readers = Vec::new();
        for (reader, stream) in STREAMS {
            readers.push(Child::start(&Job::Read(
                reader,
                Reading {
                    endpoint: server.kinesis_endpoint.clone(),
                    stream: stream.to_owned(),
                    mode: plan.mode,
                    paced: true,
                    poll_every: POLL_EVERY.max(Duration::from_millis(plan.shards.into())),
                    limit: 10_000,
                    aggregates_of: None,
                    stamped: true,
                },
            ))?);
        }
        // One to each shard, so that it is known when all are read.
        for (_, stream) in STREAMS {
            let all: Vec<u32> = (0..plan.shards).collect();
            for some in all.chunks(500) {
                put(&server.kinesis, stream, plan.shards, some).await?;
            }
        }
        until("every shard is read", || {
            let counts = readers.iter_mut().map(|reader| reader.ask::<Counts>(COUNTS)).collect::<Result<Vec<_>>>()?;
            Ok(counts.iter().all(|counts| counts.shards == u64::from(plan.shards)).then_some(()))
        })
        .await?;

        let producer = tokio::spawn(produce(Arc::new(server.kinesis.clone()), plan.shards));
        tokio::time::sleep(WARM_UP).await;
        for reader in &mut readers {
            reader.ask::<Vec<u32>>(DELAYS)?;
        }
        tokio::time::sleep(MEASURE).await;
        let mut delays = readers.iter_mut().map(|reader| reader.ask::<Vec<u32>>(DELAYS).map(Delays::new));
        let latency = Latency { shardkeeper: delays.next().ok_or("no reader")??, bare_loop: delays.next().ok_or("no reader")?? };
        if producer.is_finished() {
            producer.await??;
        }
        Ok(latency)
    })
}

/// Puts a record to the next shard of each stream, again and again.
async fn produce(client: Arc<Client>, shards: u32) -> Result {
    let mut rounds = interval(PUT_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for round in 0_u32.. {
        rounds.tick().await;
        let shard = [round % shards];
        tokio::try_join!(put(&client, STREAMS[0].1, shards, &shard), put(&client, STREAMS[1].1, shards, &shard))?;
    }
    Ok(())
}

/// Puts a record to each of these shards, stamped with the moment before the call.
async fn put(client: &Client, stream: &str, shards: u32, wanted: &[u32]) -> Result {
    let part = u128::MAX / u128::from(shards);
    let mut payload = micros_now().to_be_bytes().to_vec();
    payload.resize(SIZE, 0);
    let entries = wanted.iter().map(|shard| {
        let middle = part * u128::from(*shard) + part / 2;
        PutRecordsRequestEntry::builder()
            .partition_key("key")
            .explicit_hash_key(middle.to_string())
            .data(Blob::new(payload.clone()))
            .build()
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let answer = client.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
    match answer.failed_record_count() {
        None | Some(0) => Ok(()),
        Some(refused) => Err(format!("{refused} records were refused").into()),
    }
}
