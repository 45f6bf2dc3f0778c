//! Records that the Kinesis Producer Library has packed together, and one that is damaged: `cargo run --example kpl_records`.
//!
//! Aggregates are taken apart before the processor sees them; a checkpoint can lie inside of one. What cannot be taken
//! apart goes to the quarantine here; without one it would be delivered as it is.

use async_trait::async_trait;
use shardkeeper::{
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    retrieval::kpl::{Quarantine, QuarantineInput},
    testing::Aggregator,
    types::InitialPosition,
    worker::Worker,
};

struct Print;

#[async_trait]
impl RecordProcessor for Print {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            let (key, index) = (record.partition_key(), record.sub_sequence_number());
            println!("{key}: {:?}, number {index} of its record", std::str::from_utf8(record.data())?);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct DeadLetters;

#[async_trait]
impl Quarantine for DeadLetters {
    async fn keep(&self, input: QuarantineInput<'_>) -> Result<(), BoxError> {
        for held in input.records {
            println!("{} of {}: {}", held.record.position(), input.shard_id, held.reason);
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinesis = LocalKinesis::in_memory();
    let stream = "clicks".parse()?;
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 1))?;
    let mut aggregator = Aggregator::default();
    for n in 0..4 {
        aggregator.add(&format!("user-{n}"), format!("click {n}"));
    }
    let aggregate = aggregator.finish();
    let damaged = PutEntry::new("user-9", aggregate.data.slice(..20));
    kinesis.put_record(&stream, aggregate.into(), None)?;
    kinesis.put_record(&stream, damaged, None)?;

    let worker = Worker::builder("clicks", "clicks", || Print)
        .local(&kinesis)
        .initial_position(InitialPosition::TrimHorizon)
        .quarantine(DeadLetters);
    let worker = worker.build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    while handle.status().shards.iter().map(|s| s.records).sum::<u64>() < 4 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    println!("{:?}", handle.status().shards[0].kpl);
    handle.shutdown();
    println!("{} records processed", running.await??.records);
    Ok(())
}
