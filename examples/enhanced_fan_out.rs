//! A stream read by enhanced fan-out, with a consumer of its own: `cargo run --example enhanced_fan_out`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use shardkeeper::{
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    retrieval::{Consumer, Retrieval},
    types::InitialPosition,
    worker::Worker,
};

const RECORDS: u64 = 50;

/// Prints how long each record was on its way. A shard that is polled waits for the next call, one that is subscribed does not.
struct Delay {
    epoch: Instant,
}

#[async_trait]
impl RecordProcessor for Delay {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            let put = Duration::from_micros(record.json()?);
            println!("{}: {:?} on its way", input.shard_id, self.epoch.elapsed().saturating_sub(put));
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 2))?;
    let epoch = Instant::now();
    let worker = Worker::builder("clicks-by-fan-out", "clicks", move || Delay { epoch })
        .local(&kinesis)
        .initial_position(InitialPosition::TrimHorizon)
        // Registers a stream consumer with the application's name, and waits until it is active.
        .retrieval(Retrieval::FanOut(Consumer::OfApplication))
        .build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    for n in 0..RECORDS {
        let now = epoch.elapsed().as_micros().to_string();
        kinesis.put_record(&"clicks".parse()?, PutEntry::new(format!("user-{n}"), now), None)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while handle.status().shards.iter().map(|s| s.records).sum::<u64>() < RECORDS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    handle.shutdown();
    running.await??.check()?;
    // The service bills for a stream consumer for as long as it is registered: this is for an application that is retired.
    handle.deregister_stream_consumers().await?;
    Ok(())
}
