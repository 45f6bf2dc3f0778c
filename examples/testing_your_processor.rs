//! A unit test of a processor, without a stream and in virtual time: `cargo run --example testing_your_processor`.
//!
//! In your crate the body of `main` is a test: `#[tokio::test(start_paused = true)]`, with the feature `test-util`.

use std::time::Duration;

use async_trait::async_trait;
use shardkeeper::{
    processor::{BoxError, ProcessRecordsInput, RecordProcessor, ShutdownRequestedInput},
    testing::{ProcessorHarness, record},
    types::Checkpoint,
};

/// Uploads payloads ten at a time, whatever the batches. An upload takes a minute, and only then the records are done.
///
/// It keeps records after it has returned `Ok`, so it must run with `.configure(|c| c.consumer.checkpoint_interval = None)`
/// on the builder, and checkpoints by itself: an automatic checkpoint would pass what is still waiting here. A
/// processor that uploads each batch before it returns needs neither.
#[derive(Default)]
struct Uploader {
    waiting: Vec<Vec<u8>>,
    uploaded: usize,
}

impl Uploader {
    async fn upload(&mut self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.uploaded += self.waiting.drain(..).count();
    }
}

#[async_trait]
impl RecordProcessor for Uploader {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            self.waiting.push(record.data().to_vec());
            if self.waiting.len() == 10 {
                self.upload().await;
                input.checkpointer.checkpoint_at(record).await?;
            }
        }
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        self.upload().await;
        Ok(input.checkpointer.checkpoint().await?)
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let at = |n| Checkpoint::from(record(n, "").position());
    let mut harness = ProcessorHarness::new(Uploader::default()).manual_checkpoints();
    harness.deliver((1..=25).map(|n| record(n, "payload"))).await?;
    assert_eq!(harness.processor().uploaded, 20);
    assert_eq!(harness.checkpoints().all(), [at(10), at(20)], "never ahead of what is uploaded");
    harness.shut_down().await?;
    assert_eq!(harness.processor().uploaded, 25);
    assert_eq!(harness.checkpoints().last(), Some(at(25)));
    println!("{} records took three minutes to upload, and no time at all", harness.processor().uploaded);

    // The same processor with the default settings: a crash now would lose five records, and the test shows it.
    let mut harness = ProcessorHarness::new(Uploader::default());
    harness.deliver((1..=25).map(|n| record(n, "payload"))).await?;
    assert_eq!((harness.processor().uploaded, harness.checkpoints().last()), (20, Some(at(25))));
    println!("with automatic checkpoints, five of them would have been passed before they were uploaded");
    Ok(())
}
