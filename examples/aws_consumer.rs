//! Consumes a stream on AWS until SIGTERM or ctrl-c: `cargo run --example aws_consumer -- STREAM`.
//!
//! Credentials and region come from the environment, as for any AWS tool. To try it against the local server, start
//! `cargo run --features cli --bin shardkeeper -- local --stream clicks:4` and set, in another terminal,
//! `AWS_ENDPOINT_URL_KINESIS=http://127.0.0.1:4567 AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8000 AWS_REGION=us-east-1
//! AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local`. It starts at what is put from then on.

use aws_config::BehaviorVersion;
use shardkeeper::{BoxError, ProcessRecordsInput, RecordProcessor, Worker, async_trait};

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
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // without it, nobody hears why a worker waits
    let stream = std::env::args().nth(1).ok_or("usage: aws_consumer STREAM (a name or an ARN)")?;
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let worker = Worker::builder("aws-consumer-example", stream, || PrintSizes).aws(&config).build()?;
    let report = worker.run().await?; // until SIGTERM or ctrl-c
    println!("{} records processed", report.records);
    report.check()?; // exit code 1 if it never got to work, or shards failed: `report.failures()`
    Ok(())
}
