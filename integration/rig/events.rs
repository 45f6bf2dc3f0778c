//! What workers write, read back.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use super::Result;

/// A line of an event file.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Event {
    /// Milliseconds since the epoch; all processes of an experiment share the machine's clock.
    pub(crate) t: i64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened. `token` tells the tenures of a shard apart and grows with each.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub(crate) enum What {
    Start,
    Running,
    Init {
        shard: String,
        token: u64,
        from: String,
    },
    Batch {
        shard: String,
        token: u64,
        first: String,
        last: String,
        n: usize,
    },
    Checkpoint {
        shard: String,
        token: u64,
        at: String,
    },
    Fenced {
        shard: String,
        token: u64,
    },
    LeaseLost {
        shard: String,
        token: u64,
    },
    ShardEnded {
        shard: String,
        token: u64,
    },
    ShutdownRequested {
        shard: String,
        token: u64,
    },
    Calls {
        calls: BTreeMap<String, u64>,
        errors: BTreeMap<String, u64>,
        leading: bool,
        expelled: u32,
    },
    #[serde(other)]
    Other,
}

/// Follows a file that a worker appends to.
#[derive(Debug)]
pub(super) struct EventLog {
    path: PathBuf,
    offset: u64,
    events: Vec<Event>,
}

impl EventLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, events: Vec::new() }
    }

    /// All events so far. A line that is not complete yet, or never will be, is left out.
    pub(super) fn read(&mut self) -> Result<&[Event]> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(&self.events) };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.offset += line.len() as u64;
            let event = serde_json::from_str(line).map_err(|e| format!("{}: {e}: {line}", self.path.display()))?;
            self.events.push(event);
        }
        Ok(&self.events)
    }
}
