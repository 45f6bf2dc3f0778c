//! The model in a SQLite file: every call that changed something is one transaction of it, written before the call is
//! answered. What was answered survives the end of the process however it comes; a power cut may cost the last moments.
//!
//! ```text
//! account (facts)                       facts: JSON of its commitment
//! streams (id, name, facts)             facts: JSON of the stream's settings and state
//! shards  (stream, shard, facts)        facts: JSON of range, parents, creation and closing
//! records (stream, shard, place, arrival, partition_key, data)
//! ```
//! The whole model is read when the file is opened, and stays in memory beside it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use super::{
    keeper::Keeper,
    model::{
        AccountFacts, Config, Model,
        change::Change,
        shard::{ShardFacts, ShardState, StoredRecord},
        stream::{Stream, StreamFacts},
    },
};
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    types::{StreamName, Timestamp},
};

/// Name of the file in the data directory.
const FILE: &str = "kinesis.sqlite";
/// Marks the file as ours (the letters SKks) and its layout.
const APPLICATION_ID: i32 = 0x534b_6b73;
const LAYOUT: i32 = 1;
/// Time that a process which is just ending has to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Beside the streams; files of former versions lack it.
const ACCOUNT: &str = "CREATE TABLE IF NOT EXISTS account (one INTEGER PRIMARY KEY CHECK (one = 1), facts TEXT NOT NULL)";

const SCHEMA: &str = "
    CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, facts TEXT NOT NULL);
    CREATE TABLE shards (stream INTEGER NOT NULL, shard INTEGER NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (stream, shard)) WITHOUT ROWID;
    CREATE TABLE records (
        stream INTEGER NOT NULL, shard INTEGER NOT NULL, place INTEGER NOT NULL, arrival INTEGER NOT NULL,
        partition_key TEXT NOT NULL, data BLOB NOT NULL
    );
    CREATE UNIQUE INDEX record_places ON records (stream, shard, place);
";

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("a row cannot be read")]
    Row(#[from] serde_json::Error),
    #[error("a name cannot be read")]
    Name(#[from] crate::types::InvalidText),
    #[error("it holds something else")]
    Foreign,
    #[error("it was written by another version (layout {0}, this one reads {LAYOUT})")]
    Layout(i32),
}

/// The file, open and locked for this process alone.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    ids: BTreeMap<StreamName, i64>,
}

impl Store {
    /// Opens the directory's file, made when missing, and reads the model it holds.
    pub(super) fn open(dir: &Path, config: Config, randomness: Randomness) -> Result<(Self, Model)> {
        std::fs::create_dir_all(dir).map_err(|error| {
            let message = format!("cannot make the data directory {}: pass a directory that this user may write to", dir.display());
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })?;
        let path = dir.join(FILE);
        Self::open_file(&path, config, randomness).map_err(|error| open_error(&path, error))
    }

    fn open_file(path: &Path, config: Config, randomness: Randomness) -> Result<(Self, Model), StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Two models in one file would overwrite each other: the lock stays until this process ends.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
        prepare(&tx)?;
        tx.execute_batch(ACCOUNT)?;
        let (ids, streams) = load(&tx)?;
        let account = load_account(&tx)?;
        tx.commit()?;
        let model = Model::restored(config, randomness, account, streams);
        Ok((Self { connection, path: path.to_owned(), ids }, model))
    }

    fn write(&mut self, model: &Model, changes: &[Change]) -> Result<(), StoreError> {
        // A transaction that is dropped is rolled back; then the ids are as they were, too.
        let mut ids = self.ids.clone();
        let tx = self.connection.transaction()?;
        for change in changes {
            apply(&tx, &mut ids, model, change)?;
        }
        tx.commit()?;
        self.ids = ids;
        Ok(())
    }
}

impl Keeper for Store {
    fn save(&mut self, model: &Model, changes: &[Change]) -> Result<()> {
        self.write(model, changes).map_err(|error| {
            let message = format!("cannot write {}: check the disk's free space and the file's permissions", self.path.display());
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })
    }
}

fn open_error(path: &Path, error: StoreError) -> Error {
    let path = path.display();
    let message = match &error {
        StoreError::Sqlite(sqlite) => match sqlite.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("{path} is in use by another process: stop that one, or pass another data directory")
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                format!("{path} is not a local stream's file, or damaged: pass another data directory, or delete the file")
            }
            _ => format!("cannot open {path}: pass a data directory that this user may write to"),
        },
        StoreError::Row(_) | StoreError::Name(_) | StoreError::Foreign | StoreError::Layout(_) => {
            format!("{path} cannot be read: pass another data directory, or delete the file")
        }
    };
    Error::new(ErrorKind::InvalidInput, message).with_source(error)
}

fn prepare(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let number = |pragma| tx.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, LAYOUT) => Ok(()),
        (APPLICATION_ID, layout) => Err(StoreError::Layout(layout)),
        (0, 0) if tx.query_row("SELECT 1 FROM sqlite_schema", [], |_| Ok(())).optional()?.is_none() => {
            tx.execute_batch(SCHEMA)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", LAYOUT)?;
            Ok(())
        }
        _ => Err(StoreError::Foreign),
    }
}

fn load(tx: &Transaction<'_>) -> Result<(BTreeMap<StreamName, i64>, Vec<Stream>), StoreError> {
    let mut ids = BTreeMap::new();
    let mut streams = Vec::new();
    let mut statement = tx.prepare("SELECT id, name, facts FROM streams")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let facts: StreamFacts = serde_json::from_str(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
        ids.insert(StreamName::new(row.get::<_, String>(1)?)?, id);
        streams.push(Stream::restored(facts, load_shards(tx, id)?));
    }
    Ok((ids, streams))
}

fn load_account(tx: &Transaction<'_>) -> Result<AccountFacts, StoreError> {
    let facts: Option<String> = tx.query_row("SELECT facts FROM account", [], |row| row.get(0)).optional()?;
    Ok(facts.as_deref().map(serde_json::from_str).transpose()?.unwrap_or_default())
}

fn load_shards(tx: &Transaction<'_>, stream: i64) -> Result<BTreeMap<u32, ShardState>, StoreError> {
    let mut records: BTreeMap<u32, VecDeque<StoredRecord>> = BTreeMap::new();
    let mut statement =
        tx.prepare_cached("SELECT shard, place, arrival, partition_key, data FROM records WHERE stream = ? ORDER BY shard, place")?;
    let mut rows = statement.query([stream])?;
    while let Some(row) = rows.next()? {
        records.entry(row.get(0)?).or_default().push_back(StoredRecord {
            place: row.get(1)?,
            arrival: Timestamp::from_millis(row.get(2)?),
            partition_key: row.get::<_, String>(3)?.into(),
            data: Bytes::from(row.get::<_, Vec<u8>>(4)?),
        });
    }
    let mut shards = BTreeMap::new();
    let mut statement = tx.prepare_cached("SELECT facts FROM shards WHERE stream = ?")?;
    let mut rows = statement.query([stream])?;
    while let Some(row) = rows.next()? {
        let facts: ShardFacts = serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
        let records = records.remove(&facts.index).unwrap_or_default();
        shards.insert(facts.index, ShardState::restored(facts, records));
    }
    Ok(shards)
}

fn apply(tx: &Transaction<'_>, ids: &mut BTreeMap<StreamName, i64>, model: &Model, change: &Change) -> Result<(), StoreError> {
    let execute = |sql: &str, params: &[&dyn rusqlite::ToSql]| tx.prepare_cached(sql)?.execute(params);
    match change {
        Change::Account => {
            let facts = serde_json::to_string(model.kept_account())?;
            execute("INSERT OR REPLACE INTO account (one, facts) VALUES (1, ?)", params![facts])?;
        }
        Change::Stream(name) => {
            // Gone again within the same call or a later one: its removal follows.
            let Some(stream) = model.kept_stream(name) else { return Ok(()) };
            let facts = serde_json::to_string(&stream.facts)?;
            execute(
                "INSERT INTO streams (name, facts) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET facts = excluded.facts",
                params![name.as_str(), facts],
            )?;
            stream_id(tx, ids, name)?;
        }
        Change::StreamRemoved(name) => {
            let Some(id) = stream_id(tx, ids, name)? else { return Ok(()) };
            execute("DELETE FROM records WHERE stream = ?", params![id])?;
            execute("DELETE FROM shards WHERE stream = ?", params![id])?;
            execute("DELETE FROM streams WHERE id = ?", params![id])?;
            ids.remove(name);
        }
        Change::Shard(name, index) => {
            let (Some(id), Some(stream)) = (stream_id(tx, ids, name)?, model.kept_stream(name)) else { return Ok(()) };
            let Some(facts) = stream.shard_facts(*index) else { return Ok(()) };
            let facts = serde_json::to_string(facts)?;
            execute("INSERT OR REPLACE INTO shards (stream, shard, facts) VALUES (?, ?, ?)", params![id, index, facts])?;
        }
        Change::ShardRemoved(name, index) => {
            let Some(id) = stream_id(tx, ids, name)? else { return Ok(()) };
            execute("DELETE FROM records WHERE stream = ? AND shard = ?", params![id, index])?;
            execute("DELETE FROM shards WHERE stream = ? AND shard = ?", params![id, index])?;
        }
        Change::Record(name, index, record) => {
            let Some(id) = stream_id(tx, ids, name)? else { return Ok(()) };
            execute(
                "INSERT INTO records (stream, shard, place, arrival, partition_key, data) VALUES (?, ?, ?, ?, ?, ?)",
                params![id, index, record.place, record.arrival.as_millis(), record.partition_key.as_str(), &record.data[..]],
            )?;
        }
        Change::Trimmed(name, index, place) => {
            let Some(id) = stream_id(tx, ids, name)? else { return Ok(()) };
            execute("DELETE FROM records WHERE stream = ? AND shard = ? AND place < ?", params![id, index, place])?;
        }
    }
    Ok(())
}

fn stream_id(tx: &Transaction<'_>, ids: &mut BTreeMap<StreamName, i64>, name: &StreamName) -> Result<Option<i64>, StoreError> {
    if let Some(id) = ids.get(name) {
        return Ok(Some(*id));
    }
    let mut statement = tx.prepare_cached("SELECT id FROM streams WHERE name = ?")?;
    let id = statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        ids.insert(name.clone(), id);
    }
    Ok(id)
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
