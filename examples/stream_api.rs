//! The same engine as a stream of shards, each a stream of batches: `cargo run --example stream_api`.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use shardkeeper::{
    local::{CreateStream, LocalKinesis, PutEntry},
    processor::shard_streams,
    types::InitialPosition,
    worker::Worker,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinesis = LocalKinesis::in_memory();
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 2))?;
    for n in 0..200 {
        kinesis.put_record(&"clicks".parse()?, PutEntry::new(format!("user-{n}"), "hello"), None)?;
    }

    let (factory, shards) = shard_streams();
    let worker = Worker::builder("streams", "clicks", factory).local(&kinesis).initial_position(InitialPosition::TrimHorizon).build()?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());

    // Shards side by side, the batches of each in order.
    let read = AtomicUsize::new(0);
    shards
        .for_each_concurrent(None, |mut shard| {
            let (read, handle) = (&read, &handle);
            async move {
                while let Some(batch) = shard.next().await {
                    let records = batch.records().len();
                    println!("{}: {records} records", shard.shard_id());
                    batch.acknowledge();
                    if read.fetch_add(records, Ordering::Relaxed) + records == 200 {
                        handle.shutdown();
                    }
                }
            }
        })
        .await;
    println!("{} records processed", running.await??.records);
    Ok(())
}
