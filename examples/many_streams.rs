//! Two streams in one worker and one lease table: `cargo run --example many_streams`.

use async_trait::async_trait;
use shardkeeper::{
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, InitializationInput, ProcessRecordsInput, RecordProcessor},
    types::InitialPosition,
    worker::Worker,
};

#[derive(Default)]
struct Count {
    stream: String,
}

#[async_trait]
impl RecordProcessor for Count {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        self.stream = input.stream.to_string();
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        println!("{} {}: {} records", self.stream, input.shard_id, input.records.len());
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinesis = LocalKinesis::in_memory();
    for stream in ["clicks", "orders"] {
        kinesis.create_stream(&CreateStream::provisioned(stream.parse()?, 2))?;
        for n in 0..100 {
            kinesis.put_record(&stream.parse()?, PutEntry::new(format!("user-{n}"), "hello"), None)?;
        }
    }
    let worker = Worker::builder("both", "clicks", Count::default)
        .stream("orders")
        .local(&kinesis)
        .initial_position(InitialPosition::TrimHorizon)
        .build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    while handle.status().shards.iter().map(|s| s.records).sum::<u64>() < 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    handle.shutdown();
    for shard in running.await??.shards {
        println!("{} {}: {} records, checkpoint {}", shard.stream, shard.shard_id, shard.records, shard.checkpoint);
    }
    Ok(())
}
