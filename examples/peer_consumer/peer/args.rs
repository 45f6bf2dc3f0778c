//! The flags.

use std::{path::PathBuf, str::FromStr, time::Duration};

/// A consumer that writes what it does into an event file.
#[derive(Debug, clap::Parser)]
#[command(name = "peer_consumer")]
pub(super) struct Args {
    /// Stream to read, a name or an ARN
    #[arg(long)]
    pub(super) stream: String,
    /// Application, which is also the name of its DynamoDB lease table
    #[arg(long)]
    pub(super) app: String,
    /// Worker id, unique in the application
    #[arg(long)]
    pub(super) worker: String,
    /// Where Kinesis is, such as http://127.0.0.1:4567
    #[arg(long, value_name = "URL")]
    pub(super) kinesis_endpoint: String,
    /// Where DynamoDB is, such as http://127.0.0.1:8000
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(super) dynamodb_endpoint: String,
    /// File that gets a JSON line per event
    #[arg(long, value_name = "FILE")]
    pub(super) events: PathBuf,
    /// Whether batches and checkpoints are events, on or off
    #[arg(long, default_value = "on")]
    pub(super) batch_events: Switch,
    /// Where a new application starts: trim (the oldest record) or latest
    #[arg(long, default_value = "trim")]
    pub(super) position: Position,
    /// When checkpoints are written: batch (after each), never, or the seconds between automatic ones
    #[arg(long, default_value = "batch", value_name = "RULE")]
    pub(super) checkpoint: CheckpointRule,
    /// Most records in a batch, 1 to 10000
    #[arg(long, value_name = "N")]
    pub(super) max_records: Option<u32>,
    /// How long a worker may be silent before others take its shards
    #[arg(long = "lease-seconds", value_name = "SECONDS", value_parser = seconds)]
    pub(super) lease_duration: Option<Duration>,
    /// How often a worker looks for messages of others
    #[arg(long = "watch-seconds", value_name = "SECONDS", value_parser = seconds)]
    pub(super) watch_interval: Option<Duration>,
    /// Where leases are kept: dynamodb, or sqlite:FILE
    #[arg(long, default_value = "dynamodb")]
    pub(super) table: Table,
    /// AWS region
    #[arg(long, default_value = "us-east-1")]
    pub(super) region: String,
    /// How records are read
    #[arg(long, default_value = "polling", value_parser = ["polling"])]
    pub(super) mode: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

impl FromStr for Switch {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("expected on or off".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Trim,
    Latest,
}

impl FromStr for Position {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trim" => Ok(Self::Trim),
            "latest" => Ok(Self::Latest),
            _ => Err("expected trim or latest".to_owned()),
        }
    }
}

/// When checkpoints are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CheckpointRule {
    /// By the processor, after each batch.
    Batch,
    /// Not before the end of a shard.
    Never,
    /// By the framework, at this interval.
    Every(Duration),
}

impl FromStr for CheckpointRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Self::Batch),
            "never" => Ok(Self::Never),
            number => seconds(number).map(Self::Every).map_err(|_| "expected batch, never or a number of seconds".to_owned()),
        }
    }
}

/// Where leases are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Table {
    DynamoDb,
    Sqlite(PathBuf),
}

impl FromStr for Table {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "dynamodb" => Ok(Self::DynamoDb),
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(file.into())),
            _ => Err("expected dynamodb or sqlite:FILE".to_owned()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected a positive number of seconds".to_owned())
}
