//! A worker in a process of its own: this executable again, in another role.

use std::{
    ffi::OsString,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use super::{Event, Process, Result, Server, What, events::EventLog, fleet::now};

/// A command that takes the place of our worker, in benchmarks of others.
const PEER: &str = "SHARDKEEPER_PEER";

/// Tells the executable to be a worker.
const ROLE: &str = "SHARDKEEPER_INTEGRATION_ROLE";

/// Runs as worker if the environment says so: the code of `examples/peer_consumer`.
pub(crate) fn run_as_worker() -> Option<ExitCode> {
    std::env::var_os(ROLE)?;
    // The end of stdin is the end of the process that started this one; nobody is left to stop this one then.
    std::thread::spawn(|| {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(3);
    });
    Some(crate::peer::main(std::env::args_os()))
}

/// Where a fleet keeps its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseTableKind {
    DynamoDb,
    Sqlite(PathBuf),
}

/// How workers of a fleet are started.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSpec {
    pub(crate) stream: String,
    pub(crate) app: String,
    pub(crate) table: LeaseTableKind,
    pub(crate) flags: Vec<String>,
    /// A program that takes the flags of `peer_consumer` and writes its events, with what comes before the flags. None is
    /// this executable.
    pub(crate) program: Option<Vec<OsString>>,
}

impl WorkerSpec {
    pub(crate) fn new(stream: &str, table: LeaseTableKind) -> Self {
        let program = std::env::var(PEER).ok().map(|command| command.split_whitespace().map(OsString::from).collect());
        Self { stream: stream.to_owned(), app: "fleet".to_owned(), table, flags: Vec::new(), program }
    }

    /// Adds flags of `peer_consumer`.
    pub(crate) fn flags<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.flags.extend(flags.map(str::to_owned));
        self
    }

    /// Another library's consumer in place of ours.
    pub(crate) fn program(mut self, words: Vec<OsString>) -> Self {
        self.program = Some(words);
        self
    }

    fn command(&self) -> Result<Command> {
        let mut command = match self.program.as_deref() {
            None => Command::new(std::env::current_exe()?),
            Some([]) => return Err("a program needs a name".into()),
            Some([name, words @ ..]) => {
                let mut command = Command::new(name);
                command.args(words);
                command
            }
        };
        command.env(ROLE, "worker").env("AWS_EC2_METADATA_DISABLED", "true");
        Ok(command)
    }
}

/// A running worker and its events.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) id: String,
    pub(crate) process: Process,
    /// When it was started, milliseconds since the epoch.
    pub(crate) started: i64,
    log: EventLog,
}

impl WorkerProcess {
    /// Starts a worker. `name` names its files, and is its worker id unless `id` is another.
    pub(crate) fn start(name: &str, id: &str, spec: &WorkerSpec, server: &Server, dir: &Path) -> Result<Self> {
        let events = dir.join(format!("{name}.jsonl"));
        let mut command = spec.command()?;
        command.args(["--stream", &spec.stream, "--app", &spec.app, "--worker", id]);
        command.args(["--kinesis-endpoint", &server.kinesis_endpoint, "--dynamodb-endpoint", &server.dynamodb_endpoint]);
        command.arg("--events").arg(&events);
        if let LeaseTableKind::Sqlite(file) = &spec.table {
            command.arg("--table").arg(format!("sqlite:{}", file.display()));
        }
        command.args(&spec.flags);
        let started = now();
        let process = Process::spawn(name, command, dir)?;
        Ok(Self { id: id.to_owned(), process, started, log: EventLog::new(events) })
    }

    /// Everything it has written so far.
    pub(crate) fn events(&mut self) -> Result<&[Event]> {
        self.log.read()
    }

    /// Whether it does the housekeeping of the fleet, by its latest word.
    pub(crate) fn leads(&mut self) -> Result<bool> {
        let latest = self.events()?.iter().rev().find_map(|event| match event.what {
            What::Calls { leading, .. } => Some(leading),
            _ => None,
        });
        Ok(latest.unwrap_or(false))
    }
}
