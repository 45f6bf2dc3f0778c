//! The least that reads a stream with the AWS SDK: a task per shard, without leases, checkpoints and retries of its own.

use std::{sync::Arc, time::Duration};

use aws_sdk_kinesis::{
    Client,
    types::{Record, ShardIteratorType, StartingPosition, SubscribeToShardEventStream},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    counters::Counters,
    job::{Mode, Reading},
    rig::Result,
};

/// Between two looks whether the consumer is there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const READ_BYTES_PER_SECOND: f64 = 2.0 * 1024.0 * 1024.0;

#[derive(Clone)]
struct Loop {
    client: Client,
    counters: Arc<Counters>,
    reading: Reading,
    seen: bool,
}

pub(crate) async fn run(reading: &Reading, counters: &Arc<Counters>) -> Result {
    let reader = Loop { client: reading.client(), counters: Arc::clone(counters), reading: reading.clone(), seen: false };
    let shards = reader.shards().await?;
    let consumer = match reading.mode {
        Mode::Polling => None,
        Mode::FanOut => Some(reader.consumer().await?),
    };
    let mut tasks = JoinSet::new();
    for shard in shards {
        let (mut reader, consumer) = (reader.clone(), consumer.clone());
        tasks.spawn(async move {
            match consumer {
                Some(consumer) => reader.subscribe(&consumer, &shard).await,
                None => reader.poll(&shard).await,
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

impl Loop {
    async fn shards(&self) -> Result<Vec<String>> {
        let mut shards = Vec::new();
        let mut page = self.client.list_shards().stream_name(&self.reading.stream).send().await?;
        loop {
            shards.extend(page.shards().iter().map(|shard| shard.shard_id().to_owned()));
            let Some(token) = page.next_token() else { return Ok(shards) };
            page = self.client.list_shards().next_token(token).send().await?;
        }
    }

    async fn consumer(&self) -> Result<String> {
        let summary = self.client.describe_stream_summary().stream_name(&self.reading.stream).send().await?;
        let stream = summary.stream_description_summary().ok_or("no description of the stream")?.stream_arn().to_owned();
        let made = self.client.register_stream_consumer().stream_arn(&stream).consumer_name("bare-loop").send().await?;
        let consumer = made.consumer().ok_or("no description of the consumer")?.consumer_arn().to_owned();
        loop {
            let now = self.client.describe_stream_consumer().consumer_arn(&consumer).send().await?;
            let status = now.consumer_description().map(|c| c.consumer_status().clone());
            if status == Some(aws_sdk_kinesis::types::ConsumerStatus::Active) {
                return Ok(consumer);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn poll(&mut self, shard: &str) -> Result {
        let first = self.client.get_shard_iterator().stream_name(&self.reading.stream).shard_id(shard);
        let mut iterator = first.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
        while let Some(from) = iterator {
            let sent = Instant::now();
            let answer = self.client.get_records().shard_iterator(from).limit(self.reading.limit).send().await?;
            let bytes = self.count(answer.records());
            iterator = answer.next_shard_iterator;
            if self.reading.paced {
                let rest = Duration::from_secs_f64(bytes as f64 / READ_BYTES_PER_SECOND);
                tokio::time::sleep_until(sent + rest.max(self.reading.poll_every)).await;
            }
        }
        Ok(())
    }

    async fn subscribe(&mut self, consumer: &str, shard: &str) -> Result {
        let from = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build()?;
        let call = self.client.subscribe_to_shard().consumer_arn(consumer).shard_id(shard).starting_position(from);
        let mut subscription = call.send().await?.event_stream;
        // Five minutes, which is longer than a measurement.
        while let Some(event) = subscription.recv().await? {
            if let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event {
                self.count(event.records());
            }
        }
        Ok(())
    }

    /// Returns the bytes of the payloads as they came.
    fn count(&mut self, records: &[Record]) -> u64 {
        if !records.is_empty() && !std::mem::replace(&mut self.seen, true) {
            self.counters.shard();
        }
        let (count, bytes) = (records.len() as u64, records.iter().map(|record| record.data().as_ref().len() as u64).sum());
        match self.reading.aggregates_of {
            Some((users, size)) => self.counters.batch(count * users, count * users * size),
            None => self.counters.batch(count, bytes),
        }
        if self.reading.stamped {
            records.iter().for_each(|record| self.counters.delay_of(record.data().as_ref()));
        }
        bytes
    }
}
