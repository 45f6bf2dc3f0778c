//! The worker: flags to a [`Worker`], and its life as events.
//!
//! ```text
//! start ─▶ running ─▶ (init ─▶ batch, checkpoint … ─▶ shard_ended | shutdown_requested | lease_lost | fenced) per shard ─▶ exit
//!                     calls: each second
//! ```

mod args;
mod calls;
mod events;
mod processor;

use std::{ffi::OsString, io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use clap::Parser as _;
use serde_json::json;
use shardkeeper::{
    Error, ErrorKind, Result,
    lease::{DynamoDbLeaseTable, LeaseTable, SqliteLeaseTable},
    stream::aws::AwsStreamClient,
    types::InitialPosition,
    worker::{RunReport, Worker, WorkerHandle},
};
use tracing_subscriber::EnvFilter;

use self::{
    args::{Args, CheckpointRule, Position, Table},
    calls::CallCounter,
    events::Events,
    processor::Reporter,
};

/// Between two `calls` events.
const TICK: Duration = Duration::from_secs(1);

/// Consumes as the flags say until SIGTERM or ctrl-c.
pub(crate) fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = Args::parse_from(argv);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match consume(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn consume(args: &Args) -> Result<()> {
    let events = Events::append_to(&args.events, &args.worker)?;
    events.write("start", json!({ "pid": std::process::id(), "mode": "polling" }));
    let outcome = run(args, &events);
    match &outcome {
        Ok(report) => {
            let failed: Vec<_> = report.failures().collect();
            events.write("exit", json!({ "how": "graceful", "records": report.records, "failed": failed }));
        }
        Err(error) => events.write("exit", json!({ "how": "error", "error": format!("{error:#}") })),
    }
    outcome.map(|_| ())
}

fn run(args: &Args, events: &Events) -> Result<RunReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Unavailable, "cannot start the runtime").with_source(e))?;
    runtime.block_on(async {
        let counter = CallCounter::default();
        let worker = build(args, events, &counter)?;
        let handle = worker.handle();
        events.write("running", json!({}));
        let outcome = tokio::select! {
            biased;
            never = report_calls(events, &counter, &handle) => match never {},
            outcome = worker.run() => outcome,
        };
        events.calls(&counter, &handle);
        outcome
    })
}

fn build(args: &Args, events: &Events, counter: &CallCounter) -> Result<Worker> {
    let factory = {
        let (events, batch_events, checkpoint) = (events.clone(), args.batch_events.is_on(), args.checkpoint);
        move || Reporter::new(events.clone(), batch_events, checkpoint)
    };
    let credentials = Credentials::new("test", "test", None, None, "dummy");
    let region = Region::new(args.region.clone());
    let kinesis = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.clone())
        .credentials_provider(credentials.clone())
        .endpoint_url(&args.kinesis_endpoint)
        .interceptor(counter.clone())
        .build();
    let table: Arc<dyn LeaseTable> = match &args.table {
        Table::DynamoDb => {
            let dynamodb = aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .credentials_provider(credentials)
                .endpoint_url(&args.dynamodb_endpoint)
                .interceptor(counter.clone())
                .build();
            Arc::new(DynamoDbLeaseTable::from_client(&aws_sdk_dynamodb::Client::from_conf(dynamodb), &args.app))
        }
        Table::Sqlite(file) => Arc::new(SqliteLeaseTable::new(file)),
    };
    let mut builder = Worker::builder(&args.app, &args.stream, factory)
        .stream_client(Arc::new(AwsStreamClient::from_client(&aws_sdk_kinesis::Client::from_conf(kinesis))))
        .lease_table(table)
        .worker_id(&args.worker)
        .initial_position(match args.position {
            Position::Trim => InitialPosition::TrimHorizon,
            Position::Latest => InitialPosition::Latest,
        })
        .configure(|config| {
            config.consumer.checkpoint_interval = match args.checkpoint {
                CheckpointRule::Batch | CheckpointRule::Never => None,
                CheckpointRule::Every(interval) => Some(interval),
            };
        });
    if let Some(duration) = args.lease_duration {
        builder = builder.lease_duration(duration);
    }
    if let Some(interval) = args.watch_interval {
        builder = builder.configure(|config| config.lease.watch_interval = interval);
    }
    if let Some(max_records) = args.max_records {
        builder = builder.configure(|config| config.polling.max_records = max_records);
    }
    builder.build()
}

async fn report_calls(events: &Events, counter: &CallCounter, handle: &WorkerHandle) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(TICK);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        events.calls(counter, handle);
    }
}
