//! A server, its workers and what they have written.

use std::{path::Path, time::Duration};

use shardkeeper::{
    clock::{Clock as _, SystemClock},
    types::ShardId,
};
use tempfile::TempDir;

use super::{Finished, GENEROUS, History, Process, Result, Server, Signal, WorkerProcess, WorkerSpec, until_async};

/// Milliseconds since the epoch, as in events.
pub(crate) fn now() -> i64 {
    SystemClock.now().as_millis()
}

/// An experiment. Everything it started ends with it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) workers: Vec<WorkerProcess>,
    pub(crate) server: Server,
    pub(crate) spec: WorkerSpec,
    /// Longest wait for workers to do something.
    pub(crate) patience: Duration,
    dir: TempDir,
}

impl Fleet {
    /// Starts the server with a stream of `shards` shards, and no workers yet.
    pub(crate) async fn new(shards: u32, flags: &[&str], spec: impl FnOnce(&Path) -> WorkerSpec) -> Result<Self> {
        let mut dir = tempfile::tempdir()?;
        // For whoever wants to know what happened: the directory's name is in the command line of each process.
        dir.disable_cleanup(std::env::var_os("KEEP").is_some());
        let spec = spec(dir.path());
        let stream = format!("{}:{shards}", spec.stream);
        let mut all = vec!["--stream", stream.as_str()];
        all.extend(flags);
        let server = Server::start(dir.path(), &all).await?;
        Ok(Self { workers: Vec::new(), server, spec, patience: patience(), dir })
    }

    /// Where logs and events are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a worker with this id.
    pub(crate) fn start(&mut self, id: &str) -> Result {
        let worker = WorkerProcess::start(id, id, &self.spec, &self.server, self.dir.path())?;
        self.workers.push(worker);
        Ok(())
    }

    /// The worker with this id.
    pub(crate) fn worker(&mut self, id: &str) -> &mut WorkerProcess {
        self.workers.iter_mut().find(|worker| worker.id == id).expect("started before")
    }

    pub(crate) fn signal(&mut self, id: &str, signal: Signal) -> Result {
        self.worker(id).process.signal(signal)
    }

    /// Waits for the end of a worker.
    pub(crate) async fn end(&mut self, id: &str) -> Result<Finished> {
        self.worker(id).process.end().await
    }

    /// Everything all workers have written.
    pub(crate) fn history(&mut self) -> Result<History> {
        let mut history = History::default();
        for worker in &mut self.workers {
            let id = worker.id.clone();
            history.add(&id, worker.events()?)?;
        }
        Ok(history)
    }

    /// Waits until the history has what `look` looks for.
    ///
    /// # Errors
    /// When that takes too long, with what the workers were up to.
    pub(crate) async fn see<T>(&mut self, what: &str, mut look: impl FnMut(&History) -> Option<T>) -> Result<T> {
        let found = until_async(what, self.patience, async || Ok(look(&self.history()?))).await;
        found.map_err(|error| format!("{error}\n{}", self.account()).into())
    }

    /// Waits until these workers, and no others, have all shards but those ended, no two differing by more than one.
    pub(crate) async fn see_balance(&mut self, shards: usize, workers: &[&str]) -> Result {
        self.see(&format!("{workers:?} share {shards} shards evenly"), |history| {
            let counts: Vec<usize> = workers.iter().map(|worker| history.owned_by(worker).len()).collect();
            let even = counts.iter().max()? - counts.iter().min()? <= 1;
            (even && counts.iter().sum::<usize>() == shards && history.owners().len() == shards).then_some(())
        })
        .await
    }

    /// Splits a shard in the middle.
    pub(crate) async fn split(&self, shard: &ShardId) -> Result {
        let kinesis = &self.server.kinesis;
        let shards = kinesis.list_shards().stream_name(&self.spec.stream).send().await?;
        let found = shards.shards().iter().find(|s| s.shard_id() == shard.as_str());
        let range = found.and_then(|s| s.hash_key_range()).ok_or_else(|| format!("no shard {shard}"))?;
        let (low, high): (u128, u128) = (range.starting_hash_key().parse()?, range.ending_hash_key().parse()?);
        let middle = low + (high - low) / 2 + 1;
        let split = kinesis.split_shard().stream_name(&self.spec.stream).shard_to_split(shard.as_str());
        split.new_starting_hash_key(middle.to_string()).send().await?;
        self.active().await
    }

    /// Merges two shards that lie side by side.
    pub(crate) async fn merge(&self, shard: &ShardId, adjacent: &ShardId) -> Result {
        let merge = self.server.kinesis.merge_shards().stream_name(&self.spec.stream);
        merge.shard_to_merge(shard.as_str()).adjacent_shard_to_merge(adjacent.as_str()).send().await?;
        self.active().await
    }

    /// Waits until the stream can be changed again.
    async fn active(&self) -> Result {
        super::until_async("the stream is active", super::GENEROUS, async || {
            let answer = self.server.kinesis.describe_stream_summary().stream_name(&self.spec.stream).send().await?;
            let status = answer.stream_description_summary().map(|s| s.stream_status().clone());
            Ok((status == Some(aws_sdk_kinesis::types::StreamStatus::Active)).then_some(()))
        })
        .await
    }

    /// What the workers were up to, for the message of a failure.
    fn account(&mut self) -> String {
        let mut text = String::new();
        if let Ok(history) = self.history() {
            for tenure in history.tenures() {
                text += &format!(
                    "{} {} at {}: {} batches, checkpoint {:?}, ended {}, shutdown {}, lost {}\n",
                    tenure.worker,
                    tenure.shard,
                    tenure.token,
                    tenure.batches.len(),
                    tenure.checkpoints.last(),
                    tenure.shard_ended.is_some(),
                    tenure.shutdown_requested.is_some(),
                    tenure.lost
                );
            }
        }
        for worker in &mut self.workers {
            let said = worker.process.stderr().unwrap_or_default();
            let running = Process::is_running(&mut worker.process);
            text += &format!("{} (running: {running}): {}\n", worker.id, tail(&said));
        }
        text
    }
}

/// Another library may need more than ours; the environment says so.
fn patience() -> Duration {
    let seconds = std::env::var("SHARDKEEPER_PATIENCE_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(GENEROUS, Duration::from_secs)
}

/// The last lines of a log.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
