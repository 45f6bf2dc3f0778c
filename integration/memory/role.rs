//! The processes: this executable again, as the server, and as the worker that is measured.

use std::{
    future::pending,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use serde::{Deserialize, Serialize};
use shardkeeper::{
    BoxError, InitialPosition, ProcessRecordsInput, RecordProcessor, Worker, async_trait,
    lease::MemoryLeaseTable,
    retrieval::{Consumer, Retrieval},
    stream::aws::AwsStreamClient,
};

use crate::{
    responder,
    rig::{Process, Result},
};

/// Carries a [`Role`] as JSON.
const ROLE: &str = "SHARDKEEPER_MEMORY_ROLE";

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Role {
    Respond(responder::Config),
    Block(Blocked),
}

/// A worker whose handlers never come back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Blocked {
    pub(super) endpoint: String,
    pub(super) mode: Mode,
    pub(super) budget: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    Polling,
    FanOut,
}

impl Role {
    pub(super) fn start(&self, name: &str, dir: &Path) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ROLE, serde_json::to_string(self)?).env("AWS_EC2_METADATA_DISABLED", "true");
        Process::spawn(name, command, dir)
    }
}

/// Does what the environment says, if it says something.
pub(crate) fn run() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let outcome = serde_json::from_str(&role).map_err(Into::into).and_then(|role| match role {
        Role::Respond(config) => responder::run(config),
        Role::Block(blocked) => work(&blocked),
    });
    if let Err(error) = &outcome {
        drop(writeln!(std::io::stderr(), "error: {error}"));
    }
    Some(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Blocking;

#[async_trait]
impl RecordProcessor for Blocking {
    async fn process_records(&mut self, _: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        // A line for each shard.
        writeln!(std::io::stdout(), "blocked")?;
        pending().await
    }
}

fn work(blocked: &Blocked) -> Result {
    // The end of stdin is the end of the process that started this one.
    std::thread::spawn(|| {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(3);
    });
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "dummy"))
        .endpoint_url(&blocked.endpoint);
    let kinesis = aws_sdk_kinesis::Client::from_conf(config.build());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let worker = Worker::builder("memory", responder::STREAM, || Blocking)
            .stream_client(Arc::new(AwsStreamClient::from_client(&kinesis)))
            .lease_table(Arc::new(MemoryLeaseTable::default()))
            .initial_position(InitialPosition::TrimHorizon)
            .retrieval(match blocked.mode {
                Mode::Polling => Retrieval::Polling,
                Mode::FanOut => Retrieval::FanOut(Consumer::OfApplication),
            })
            .configure(|config| config.max_buffered_bytes = blocked.budget)
            .build()?;
        worker.run().await?;
        Ok(())
    })
}
