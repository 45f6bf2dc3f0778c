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

/// Collects payloads and uploads them, ten at a time. An upload takes a minute, and only then the records are done.
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
            if record.data().is_empty() {
                return Err("an empty record".into());
            }
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
    let mut harness = ProcessorHarness::new(Uploader::default()).shard("shardId-000000000007");
    let at = |n| Checkpoint::from(record(n, "").position());

    harness.deliver((1..=25).map(|n| record(n, "payload"))).await?;
    assert_eq!(harness.processor().uploaded, 20);
    assert_eq!(harness.checkpoints().all(), [at(10), at(20)], "never ahead of what is uploaded");

    harness.deliver([record(26, "")]).await.expect_err("refused: a worker would deliver it again");
    assert_eq!(harness.checkpoints().last(), Some(at(20)));

    harness.shut_down().await?;
    assert_eq!(harness.processor().uploaded, 25);
    assert_eq!(harness.checkpoints().last(), Some(at(25)), "the refused record is not passed");
    println!("{} records took three minutes to upload, and no time at all", harness.processor().uploaded);
    Ok(())
}
