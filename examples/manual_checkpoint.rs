//! Checkpoints by hand, here after every hundredth record and at the end: `cargo run --example manual_checkpoint`.
//!
//! With `checkpoint_interval` unset nothing is check-pointed but what the processor asks for.

use async_trait::async_trait;
use shardkeeper::{
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor, ShutdownRequestedInput},
    types::InitialPosition,
    worker::Worker,
};

#[derive(Default)]
struct EveryHundredth {
    since_checkpoint: usize,
}

#[async_trait]
impl RecordProcessor for EveryHundredth {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            self.since_checkpoint += 1;
            if self.since_checkpoint == 100 {
                input.checkpointer.checkpoint_at(record.position()).await?;
                println!("{}: checkpoint at {}", input.shard_id, record.sequence_number());
                self.since_checkpoint = 0;
            }
        }
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        input.checkpointer.checkpoint().await?;
        println!("{}: last checkpoint, {} records after the one before", input.shard_id, self.since_checkpoint);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("orders".parse()?, 2))?;
    for n in 0..450 {
        kinesis.put_record(&"orders".parse()?, PutEntry::new(format!("customer-{}", n % 50), format!("order {n}")), None)?;
    }
    let worker = Worker::builder("billing", "orders", EveryHundredth::default)
        .local(&kinesis)
        .initial_position(InitialPosition::TrimHorizon)
        .configure(|config| config.consumer.checkpoint_interval = None)
        .build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    while handle.status().shards.iter().map(|s| s.records).sum::<u64>() < 450 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    handle.shutdown();
    println!("{} records processed", running.await??.records);
    Ok(())
}
