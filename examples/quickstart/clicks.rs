//! The click-stream: a producer, and the processor that counts it.

use std::time::Duration;

use async_trait::async_trait;
use shardkeeper::{
    local::{LocalKinesis, PutEntry},
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, ShardEndedInput, ShutdownRequestedInput,
    },
    stream::StreamReference,
    types::SequenceNumber,
};

use crate::ledger::{Click, End, Ledger};

const USERS: u32 = 500;
const PAGES: [&str; 5] = ["/", "/search", "/product/17", "/cart", "/checkout"];

/// Puts `rate` clicks a second until told to stop. A refused record is put again, and the user's later clicks wait for it.
pub async fn produce(
    kinesis: LocalKinesis,
    stream: StreamReference,
    ledger: Ledger,
    rate: usize,
    stop: tokio_util::sync::CancellationToken,
) {
    let tick = Duration::from_millis(20);
    let per_tick = rate * tick.as_millis() as usize / 1000;
    let mut timer = tokio::time::interval(tick);
    let mut clicks = vec![0u64; USERS as usize];
    let mut next_user = 0u32;
    while !stop.is_cancelled() {
        timer.tick().await;
        let mut batch = Vec::with_capacity(per_tick);
        for _ in 0..per_tick {
            // Strides through the users, so that a batch never has two clicks of one user.
            next_user = (next_user + 7) % USERS;
            let number = clicks[next_user as usize] + 1;
            clicks[next_user as usize] = number;
            batch.push(Click { user: next_user, number, page: PAGES[(number % 5) as usize].to_owned() });
        }
        while !batch.is_empty() {
            let entries = batch
                .iter()
                .map(|click| PutEntry::new(format!("user-{}", click.user), serde_json::to_vec(click).expect("plain data")))
                .collect();
            let outcomes = match kinesis.put_records(&stream, entries) {
                Ok(outcomes) => outcomes,
                Err(_) => {
                    tokio::time::sleep(tick).await;
                    continue;
                }
            };
            let mut refused = Vec::new();
            for (click, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    Ok(receipt) => ledger.put(receipt.shard_id, receipt.sequence_number),
                    Err(_) => refused.push(click),
                }
            }
            if !refused.is_empty() {
                ledger.entries().put_retries += refused.len() as u64;
                tokio::time::sleep(tick).await;
            }
            batch = refused;
        }
    }
}

/// Counts the clicks of one shard.
pub struct CountClicks {
    pub worker: char,
    pub ledger: Ledger,
    pub last: Option<SequenceNumber>,
}

#[async_trait]
impl RecordProcessor for CountClicks {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        self.ledger.begin(self.worker, input.shard_id);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        for record in input.records {
            let click: Click = record.json()?;
            self.ledger.deliver(self.worker, input.shard_id, record.sequence_number(), self.last, &click);
            self.last = Some(record.sequence_number());
        }
        Ok(())
    }

    async fn lease_lost(&mut self, input: LeaseLostInput<'_>) {
        self.ledger.end(self.worker, input.shard_id, End::Lost);
    }

    async fn shard_ended(&mut self, input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        self.ledger.end(self.worker, input.shard_id, End::ShardEnded);
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        self.ledger.end(self.worker, input.shard_id, End::HandedOver);
        Ok(())
    }
}
