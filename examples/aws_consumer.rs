//! Consumes a stream on AWS until SIGTERM or ctrl-c: `cargo run --example aws_consumer -- STREAM`.
//!
//! Credentials and region come from the environment, as for any AWS tool. To try it against the local server, start
//! `shardkeeper local --stream clicks:4` and set `AWS_ENDPOINT_URL_KINESIS` and `AWS_ENDPOINT_URL_DYNAMODB`.

use async_trait::async_trait;
use shardkeeper::{
    processor::{BoxError, ProcessRecordsInput, RecordProcessor},
    worker::Worker,
};

struct PrintSizes;

#[async_trait]
impl RecordProcessor for PrintSizes {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let bytes: usize = input.records.iter().map(|record| record.data().len()).sum();
        println!("{}: {} records, {bytes} bytes, {} ms behind", input.shard_id, input.records.len(), input.millis_behind_latest);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stream = std::env::args().nth(1).ok_or("usage: aws_consumer STREAM (a name or an ARN)")?;
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let worker = Worker::builder("aws-consumer-example", stream, || PrintSizes).aws(&config).build()?;
    let report = worker.run().await?;
    println!("{} records processed", report.records);
    Ok(())
}
