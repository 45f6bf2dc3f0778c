//! `shardkeeper local`: Kinesis and DynamoDB on this machine.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use shardkeeper::{
    Error, ErrorKind, Result,
    clock::SystemClock,
    local::{CallRates, Config, CreateStream, Limits, LocalKinesis, ServiceErrorCode, server::LocalServer},
    random::Randomness,
    types::StreamName,
};
use tokio::runtime::Builder;

use crate::dynamodb::DynamoDb;

/// What the help says after the options.
const FAULTS: &str = "\
Faults on demand, while it runs, on the port of Kinesis:
  curl -X POST localhost:4567/_shardkeeper/faults -d '{\"operation\": \"GetRecords\", \"kind\": \"throttle\", \"count\": 3}'
  curl localhost:4567/_shardkeeper/faults              lists the rules and how often each has happened
  curl -X DELETE localhost:4567/_shardkeeper/faults    removes them all; faults/1 removes the first
Kinds: latency (with millis), throttle, error500, connection_reset, half_open, answer_lost, expire_iterators,
cut_subscription (may have error), freeze_subscription, refuse (with error such as KMSDisabledException, may have status).
A rule may name operation, stream and shard, and have skip, count, probability, seed.";

#[derive(clap::Args)]
#[command(after_help = FAULTS)]
pub(crate) struct Args {
    /// Port of Kinesis, HTTP/1.1 and clear-text HTTP/2; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 4567)]
    kinesis_port: u16,
    /// Port of DynamoDB; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    dynamodb_port: u16,
    /// Keep streams and tables in this directory, made if missing; without it they live in memory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Create a stream unless it exists; may be repeated
    #[arg(long = "stream", value_name = "NAME:SHARDS")]
    streams: Vec<StreamSpec>,
    /// Lift the service's rates and quotas, such as five GetRecords calls per second and shard
    #[arg(long)]
    no_limits: bool,
    /// End subscriptions of enhanced fan-out after this many seconds; the service ends them after 300
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    subscription_seconds: Option<u32>,
    /// Let shard iterators expire after this many seconds; the service's live 300
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    iterator_seconds: Option<u32>,
    /// Read settings from this JSON file: delays, quirks, single limits; options go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; anything but loopback opens the data to the network, since no signature is checked
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
}

/// A stream to make: `clicks:4`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamSpec {
    name: StreamName,
    shards: u32,
}

impl FromStr for StreamSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, shards) = text.rsplit_once(':').ok_or("expected NAME:SHARDS, such as clicks:4")?;
        let name = name.parse().map_err(|e| format!("{e}"))?;
        let shards = shards
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{shards:?} is no number of shards: expected NAME:SHARDS with SHARDS from 1, such as clicks:4"))?;
        Ok(Self { name, shards })
    }
}

/// Serves until told to stop.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(dir) = &args.data_dir {
        prepare(dir)?;
    }
    let kinesis = open(args)?;
    create_streams(&kinesis, &args.streams)?;
    let runtime = Builder::new_multi_thread().thread_name("kinesis").enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(ErrorKind::Unavailable, "cannot start the threads of Kinesis").with_source(e))?;

    let addr = SocketAddr::new(args.host, args.kinesis_port);
    let server = runtime.block_on(LocalServer::bind(addr, kinesis)).map_err(|e| e.context("Kinesis (--host, --kinesis-port)"))?;
    let file = args.data_dir.as_ref().map(|dir| dir.join("dynamodb.sqlite"));
    let mut dynamodb = DynamoDb::start(SocketAddr::new(args.host, args.dynamodb_port), file.as_deref())?;

    let outcome = runtime.block_on(async {
        // Before the line is printed, so that a signal sent on seeing it is not missed.
        let stop = stop_signal()?;
        announce(&server, &dynamodb);
        tokio::select! {
            biased;
            () = stop => Ok(()),
            () = dynamodb.ended() => Err(Error::new(ErrorKind::Unavailable, "DynamoDB has ended by itself: its log says why")),
        }
    });
    runtime.block_on(server.stop());
    dynamodb.stop();
    outcome
}

/// Prints the line that scripts wait for.
fn announce(server: &LocalServer, dynamodb: &DynamoDb) {
    let at = |addr: SocketAddr| match addr.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port()),
        false => addr,
    };
    let mut stdout = std::io::stdout().lock();
    // Whoever closed stdout does not want to know.
    drop(writeln!(stdout, "ready kinesis=http://{} dynamodb=http://{}", at(server.local_addr()), at(dynamodb.local_addr())));
    drop(stdout.flush());
}

/// Completes on SIGTERM or ctrl-c.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let failed = |e| Error::new(ErrorKind::Unavailable, "cannot listen for signals").with_source(e);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(async move {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(windows)]
    {
        let mut interrupt = tokio::signal::windows::ctrl_c().map_err(failed)?;
        Ok(async move {
            interrupt.recv().await;
        })
    }
}

/// Makes the directory and tries to write to it, so that the error names the directory and not a database file.
fn prepare(dir: &Path) -> Result<()> {
    if dir.exists() && !dir.is_dir() {
        let text = format!("--data-dir {} is a file: name a directory, which is made if missing", dir.display());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let unusable = |error: std::io::Error| {
        let text = format!("cannot use the data directory {}: choose one that this user can write with --data-dir", dir.display());
        Error::new(ErrorKind::InvalidInput, text).with_source(error)
    };
    fs::create_dir_all(dir).map_err(unusable)?;
    let probe = dir.join(".shardkeeper-probe");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(unusable)
}

fn open(args: &Args) -> Result<LocalKinesis> {
    let config = config(args)?;
    let (clock, randomness) = (Arc::new(SystemClock), Randomness::from_system());
    match &args.data_dir {
        Some(dir) => LocalKinesis::open(dir, config, clock, randomness),
        None => Ok(LocalKinesis::new(config, clock, randomness)),
    }
}

/// The settings of the file, if there is one, with what the options say.
fn config(args: &Args) -> Result<Config> {
    let mut config = match &args.config {
        Some(file) => {
            let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
                let text = format!("cannot use the settings in {} (--config): {error}", file.display());
                Error::new(ErrorKind::InvalidInput, text).with_source(error)
            };
            let text = fs::read(file).map_err(|e| unusable(e.into()))?;
            serde_json::from_slice(&text).map_err(|e| unusable(e.into()))?
        }
        None => Config::default(),
    };
    if args.no_limits {
        config.limits = Limits::off();
    }
    let seconds = |option: Option<u32>| option.map(|seconds| Duration::from_secs(u64::from(seconds)));
    if let Some(life) = seconds(args.subscription_seconds) {
        config.fan_out.subscription_life = life;
    }
    if let Some(life) = seconds(args.iterator_seconds) {
        config.iterator_life = life;
    }
    Ok(config)
}

fn create_streams(kinesis: &LocalKinesis, streams: &[StreamSpec]) -> Result<()> {
    let mut names = BTreeSet::new();
    // These come before the first client, and faster than the service would take them.
    let limits = kinesis.config().limits;
    kinesis.configure(|config| (config.limits.calls, config.limits.streams_in_creation) = (CallRates::off(), None));
    for StreamSpec { name, shards } in streams {
        if !names.insert(name) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("--stream names {name} twice: give each stream once")));
        }
        match kinesis.create_stream(&CreateStream::provisioned(name.clone(), *shards)) {
            Ok(()) => {}
            Err(error) if error.code == ServiceErrorCode::ResourceInUse => {
                tracing::info!(stream = %name, "stream exists in the data directory and is kept as it is");
            }
            Err(error) if error.code == ServiceErrorCode::LimitExceeded => {
                let text = format!(
                    "--stream {name}:{shards}: more shards than an account may have: give fewer, or lift the limits with --no-limits"
                );
                return Err(Error::new(ErrorKind::InvalidInput, text).with_source(Error::from(error)));
            }
            Err(error) => return Err(Error::from(error).context(format!("--stream {name}:{shards}"))),
        }
    }
    kinesis.configure(|config| config.limits = limits);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_name_and_a_number() {
        let spec: StreamSpec = "clicks:4".parse().expect("valid");
        assert_eq!((spec.name.as_str(), spec.shards), ("clicks", 4));
        for bad in ["clicks", "clicks:", "clicks:0", "clicks:-1", "clicks:many", ":4", "a b:4", "a:b:4"] {
            let error = bad.parse::<StreamSpec>().expect_err(bad);
            assert!(error.contains("NAME:SHARDS") || error.contains("stream name"), "{error}");
        }
    }
}
