//! `shardkeeper local` as a process of its own, and clients for it.

use std::{path::Path, process::Command};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};

use super::{Process, Result, until};

/// The running server.
#[derive(Debug)]
pub(crate) struct Server {
    _process: Process,
    pub(crate) kinesis_endpoint: String,
    pub(crate) dynamodb_endpoint: String,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
}

impl Server {
    /// The command line of the server with these flags.
    pub(crate) fn command(flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardkeeper"));
        command.arg("local").args(flags);
        command
    }

    /// Starts a server on any free ports, and waits until it answers.
    pub(crate) async fn start(dir: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Self::command(&["--kinesis-port", "0", "--dynamodb-port", "0"]);
        command.args(flags);
        let mut process = Process::spawn("server", command, dir)?;
        let (kinesis_endpoint, dynamodb_endpoint) = until("the local server is ready", || {
            if let Some(end) = process.finished()? {
                return Err(format!("the local server ended with {}: {}", end.status, end.stderr).into());
            }
            Ok(process.stdout()?.lines().find_map(endpoints))
        })
        .await?;
        let kinesis = kinesis_client(&kinesis_endpoint);
        Ok(Self { _process: process, kinesis_endpoint, dynamodb_endpoint, kinesis })
    }

    /// A DynamoDB client for the tables beside the stream.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "dummy"))
            .endpoint_url(&self.dynamodb_endpoint);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }
}

/// Reads `ready kinesis=URL dynamodb=URL`.
fn endpoints(line: &str) -> Option<(String, String)> {
    let (kinesis, dynamodb) = line.strip_prefix("ready kinesis=")?.split_once(" dynamodb=")?;
    Some((kinesis.to_owned(), dynamodb.to_owned()))
}

fn kinesis_client(endpoint: &str) -> aws_sdk_kinesis::Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "dummy"))
        .endpoint_url(endpoint);
    aws_sdk_kinesis::Client::from_conf(config.build())
}
