//! The roles of this executable: who is told what, and how.

use std::{fmt, io::Write as _, process::Command, str::FromStr, sync::Arc, time::Duration};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use serde::{Deserialize, Serialize};

use crate::{
    bare_loop,
    counters::{self, Counters},
    responder, rig, shardkeeper_worker,
};

/// Carries a [`Job`] as JSON.
const JOB: &str = "SHARDKEEPER_READ_JOB";

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Polling,
    FanOut,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "polling" => Ok(Self::Polling),
            "fan-out" => Ok(Self::FanOut),
            _ => Err("expected polling or fan-out".to_owned()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::FanOut => "fan-out",
        })
    }
}

/// What a child process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    Respond(responder::Config),
    Read(Reader, Reading),
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reader {
    /// A worker of this crate.
    Shardkeeper,
    /// A loop on the AWS SDK: no leases, no checkpoints, no order of shards.
    BareLoop,
}

/// What is read, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) endpoint: String,
    pub(crate) stream: String,
    pub(crate) mode: Mode,
    /// Whether the limits of the service are kept.
    pub(crate) paced: bool,
    /// Between the calls of the bare loop to one shard, when it is paced.
    pub(crate) poll_every: Duration,
    /// Most records of a GetRecords call of the bare loop.
    pub(crate) limit: i32,
    /// User records in a record of the stream and bytes of each, where the bare loop is to count what it does not take
    /// apart.
    pub(crate) aggregates_of: Option<(u64, u64)>,
    /// Whether records carry the moment of their put.
    pub(crate) stamped: bool,
}

impl Reading {
    /// A client for the endpoint, with the SDK's defaults.
    pub(crate) fn client(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "dummy"))
            .endpoint_url(&self.endpoint);
        aws_sdk_kinesis::Client::from_conf(config.build())
    }
}

impl Job {
    /// That of this process, if it was started for one.
    pub(crate) fn of_this_process() -> Option<rig::Result<Self>> {
        let text = std::env::var(JOB).ok()?;
        Some(serde_json::from_str(&text).map_err(|e| format!("{JOB}: {e}").into()))
    }

    /// This executable again, to do the job.
    pub(crate) fn command(&self) -> rig::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(JOB, serde_json::to_string(self)?).env("AWS_EC2_METADATA_DISABLED", "true");
        Ok(command)
    }

    /// Does it, until the parent is gone.
    pub(crate) fn run(self) -> rig::Result {
        match self {
            Self::Respond(config) => responder::run(config),
            Self::Read(reader, reading) => {
                let counters = Arc::new(Counters::default());
                counters::answer_parent(Arc::clone(&counters));
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                runtime.block_on(async {
                    match reader {
                        Reader::Shardkeeper => shardkeeper_worker::run(&reading, &counters).await,
                        Reader::BareLoop => bare_loop::run(&reading, &counters).await,
                    }
                })
            }
        }
    }
}

/// Says to the parent that it can go on, and what it may have to know.
pub(crate) fn announce(what: &str) -> rig::Result {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}
