//! Rows of the file to leases and workers, and back.
//!
//! Ids of 64 random bits are hexadecimal text, sets and lists are JSON arrays, moments are milliseconds since the
//! Unix epoch.

use std::{fmt::Display, str::FromStr};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params, types::FromSql};

use crate::{
    lease::{Lease, PendingCheckpoint, Signal, WorkerRow, WorkerUpdate, WorkerVersion},
    types::{Checkpoint, HashKeyRange, StreamArn, Timestamp, WorkerId},
};

/// Why a row could not be read or written.
#[derive(Debug)]
pub(super) enum RowError {
    /// The file.
    Sqlite(rusqlite::Error),
    /// A value that cannot be right, or cannot be stored.
    Value(String),
}

impl RowError {
    /// What is wrong with the row, unless it is the file.
    pub(super) fn reason(self) -> Result<String, Self> {
        match self {
            Self::Value(reason) => Ok(reason),
            // STRICT tables hold no wrong type, but a file may have been edited with other means.
            Self::Sqlite(rusqlite::Error::InvalidColumnType(_, column, found)) => Ok(format!("{column} is of type {found}")),
            file @ Self::Sqlite(_) => Err(file),
        }
    }
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// SQLite's integers have a sign.
pub(super) fn integer(what: &str, value: u64) -> Result<i64, RowError> {
    i64::try_from(value).map_err(|_| RowError::Value(format!("{what} {value} is too large for a SQLite file, which holds up to 2^63-1")))
}

fn wrong(column: &str) -> impl Fn(&dyn Display) -> RowError + '_ {
    move |reason| RowError::Value(format!("{column}: {reason}"))
}

fn value<T: FromSql>(row: &Row<'_>, column: &str) -> Result<T, RowError> {
    Ok(row.get(column)?)
}

fn number<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> Result<T, RowError> {
    let stored: i64 = value(row, column)?;
    T::try_from(stored).map_err(|_| wrong(column)(&format!("{stored} is out of range")))
}

fn text<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Result<T, RowError> {
    value::<String>(row, column)?.parse().map_err(|e| wrong(column)(&e))
}

fn optional_text<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Result<Option<T>, RowError> {
    value::<Option<String>>(row, column)?.map(|t| t.parse().map_err(|e| wrong(column)(&e))).transpose()
}

fn list<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, RowError> {
    serde_json::from_str(&value::<String>(row, column)?).map_err(|e| wrong(column)(&e))
}

fn list_text(list: &impl serde::Serialize) -> String {
    serde_json::to_string(list).expect("ids are plain text")
}

fn checkpoint(row: &Row<'_>, column: &str, sub_column: &str) -> Result<Checkpoint, RowError> {
    Checkpoint::parse(&value::<String>(row, column)?, number(row, sub_column)?).map_err(|e| wrong(column)(&e))
}

pub(super) const SELECT_LEASE: &str = "SELECT * FROM leases WHERE lease_key = ?1";
pub(super) const SELECT_LEASES: &str = "SELECT * FROM leases ORDER BY lease_key";
pub(super) const SELECT_WORKERS: &str = "SELECT * FROM workers ORDER BY worker_id";
const SELECT_WORKER: &str = "SELECT * FROM workers WHERE worker_id = ?1";

pub(super) fn to_lease(row: &Row<'_>) -> Result<Lease, RowError> {
    let pending = match value::<Option<String>>(row, "pending_checkpoint")? {
        None => None,
        Some(_) => Some(PendingCheckpoint {
            checkpoint: checkpoint(row, "pending_checkpoint", "pending_checkpoint_sub_sequence_number")?,
            state: value::<Option<Vec<u8>>>(row, "pending_checkpoint_state")?.map(Bytes::from),
        }),
    };
    let hash_key_range = match (value::<Option<String>>(row, "starting_hash_key")?, value::<Option<String>>(row, "ending_hash_key")?) {
        (Some(start), Some(end)) => Some(HashKeyRange::parse(&start, &end).map_err(|e| wrong("starting_hash_key")(&e))?),
        _ => None,
    };
    let counter = number(row, "lease_counter")?;
    if counter > Lease::MAX_COUNTER {
        return Err(wrong("lease_counter")(&format!("{counter} is more than {}", Lease::MAX_COUNTER)));
    }
    Ok(Lease {
        key: text(row, "lease_key")?,
        stream: optional_text(row, "stream_name")?,
        shard_id: text(row, "shard_id")?,
        counter,
        owner: optional_text(row, "lease_owner")?,
        owner_instance: optional_text(row, "owner_instance")?,
        checkpoint_owner: optional_text(row, "checkpoint_owner")?,
        owner_switches: number(row, "owner_switches_since_checkpoint")?,
        checkpoint: checkpoint(row, "checkpoint", "checkpoint_sub_sequence_number")?,
        pending,
        parents: list(row, "parent_shard_ids")?,
        children: list(row, "child_shard_ids")?,
        hash_key_range,
        throughput_kbps: value(row, "throughput_kbps")?,
        start_at: value::<Option<i64>>(row, "start_at")?.map(Timestamp::from_millis),
        stream_created: value::<Option<i64>>(row, "stream_created")?.map(Timestamp::from_millis),
        stream_arn: optional_text(row, "stream_arn")?,
        write_id: optional_text(row, "write_id")?,
    })
}

const INSERT_LEASE: &str = "
    INSERT INTO leases VALUES (
        :lease_key, :stream_name, :shard_id, :lease_counter, :lease_owner, :owner_instance, :checkpoint_owner,
        :owner_switches, :checkpoint, :checkpoint_sub, :pending, :pending_sub, :pending_state, :parents, :children,
        :starting_hash_key, :ending_hash_key, :throughput_kbps, :start_at, :stream_created, :write_id,
        :stream_arn
    ) ON CONFLICT (lease_key) DO NOTHING";

/// Writes the row, if there is none with its key.
pub(super) fn insert_lease(connection: &Connection, lease: &Lease) -> Result<usize, RowError> {
    write_lease(connection, INSERT_LEASE, lease)
}

/// Writes the row over its predecessor.
pub(super) fn update_lease(connection: &Connection, next: &Lease) -> Result<usize, RowError> {
    const UPDATE: &str = "
        UPDATE leases SET
            stream_name = :stream_name, shard_id = :shard_id, lease_counter = :lease_counter, lease_owner = :lease_owner,
            owner_instance = :owner_instance, checkpoint_owner = :checkpoint_owner,
            owner_switches_since_checkpoint = :owner_switches, checkpoint = :checkpoint,
            checkpoint_sub_sequence_number = :checkpoint_sub, pending_checkpoint = :pending,
            pending_checkpoint_sub_sequence_number = :pending_sub, pending_checkpoint_state = :pending_state,
            parent_shard_ids = :parents, child_shard_ids = :children, starting_hash_key = :starting_hash_key,
            ending_hash_key = :ending_hash_key, throughput_kbps = :throughput_kbps, start_at = :start_at,
            stream_created = :stream_created, stream_arn = :stream_arn, write_id = :write_id
        WHERE lease_key = :lease_key AND lease_counter = :lease_counter - 1";
    write_lease(connection, UPDATE, next)
}

fn write_lease(connection: &Connection, sql: &str, lease: &Lease) -> Result<usize, RowError> {
    let pending = lease.pending.as_ref();
    let pending_sub = pending.map(|p| integer("sub-sequence number", p.checkpoint.sub_sequence_number())).transpose()?;
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(named_params! {
        ":lease_key": lease.key.as_str(),
        ":stream_name": lease.stream.as_ref().map(ToString::to_string),
        ":shard_id": lease.shard_id.as_str(),
        ":lease_counter": integer("lease counter", lease.counter)?,
        ":lease_owner": lease.owner.as_ref().map(WorkerId::as_str),
        ":owner_instance": lease.owner_instance.map(|i| i.to_string()),
        ":checkpoint_owner": lease.checkpoint_owner.as_ref().map(WorkerId::as_str),
        ":owner_switches": integer("owner switches", lease.owner_switches)?,
        ":checkpoint": lease.checkpoint.text(),
        ":checkpoint_sub": integer("sub-sequence number", lease.checkpoint.sub_sequence_number())?,
        ":pending": pending.map(|p| p.checkpoint.text()),
        ":pending_sub": pending_sub,
        ":pending_state": pending.and_then(|p| p.state.as_deref()),
        ":parents": list_text(&lease.parents),
        ":children": list_text(&lease.children),
        ":starting_hash_key": lease.hash_key_range.map(|r| r.start().to_string()),
        ":ending_hash_key": lease.hash_key_range.map(|r| r.end().to_string()),
        ":throughput_kbps": lease.throughput_kbps,
        ":start_at": lease.start_at.map(Timestamp::as_millis),
        ":stream_created": lease.stream_created.map(Timestamp::as_millis),
        ":stream_arn": lease.stream_arn.as_ref().map(StreamArn::as_str),
        ":write_id": lease.write_id.map(|w| w.to_string()),
    })?)
}

fn worker_version(row: &Row<'_>) -> Result<WorkerVersion, RowError> {
    Ok(WorkerVersion { instance: text(row, "instance")?, heartbeat: number(row, "heartbeat")? })
}

/// A worker, or what is wrong with its row beside what can be told of it.
pub(super) fn to_worker_or_reason(row: &Row<'_>, id: &str, signals: &[String]) -> Result<(Option<WorkerRow>, Option<String>), RowError> {
    match to_worker(row, signals) {
        Ok(worker) => Ok((Some(worker), None)),
        Err(error) => {
            let reason = error.reason()?;
            let unreadable = id.parse().ok().map(|id| WorkerRow::unreadable(id, worker_version(row).ok()));
            Ok((unreadable, Some(reason)))
        }
    }
}

fn to_worker(row: &Row<'_>, signals: &[String]) -> Result<WorkerRow, RowError> {
    Ok(WorkerRow {
        id: text(row, "worker_id")?,
        version: worker_version(row)?,
        state: text(row, "state")?,
        leading: value(row, "leading")?,
        roster: list(row, "roster")?,
        max_leases: value::<Option<i64>>(row, "max_leases")?.map(|_| number(row, "max_leases")).transpose()?,
        updated: Timestamp::from_millis(value(row, "updated")?),
        signals: signals.iter().filter_map(|text| Signal::from_text(text)).collect(),
    })
}

/// The worker's row, if there is one.
pub(super) fn find_worker(tx: &Transaction<'_>, id: &WorkerId) -> Result<Option<WorkerRow>, RowError> {
    let mut statement = tx.prepare_cached("SELECT signal FROM signals WHERE worker_id = ?1")?;
    let signals: Vec<String> = statement.query_map([id.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement = tx.prepare_cached(SELECT_WORKER)?;
    let found = statement.query_row([id.as_str()], |row| Ok(to_worker_or_reason(row, id.as_str(), &signals))).optional()?;
    Ok(found.transpose()?.and_then(|(worker, _)| worker))
}

/// Writes a whole row without its signals, on condition of the expected version.
pub(super) fn put_worker(tx: &Transaction<'_>, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<usize, RowError> {
    let values =
        |version: WorkerVersion| -> Result<_, RowError> { Ok((version.instance.to_string(), integer("heartbeat", version.heartbeat)?)) };
    let (instance, heartbeat) = values(row.version)?;
    let (id, state, roster, updated) = (row.id.as_str(), row.state.as_str(), list_text(&row.roster), row.updated.as_millis());
    let changed = match expected {
        None => tx
            .prepare_cached("INSERT INTO workers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (worker_id) DO NOTHING")?
            .execute(params![id, instance, heartbeat, state, row.leading, roster, row.max_leases, updated])?,
        Some(version) => {
            let (old_instance, old_heartbeat) = values(version)?;
            tx.prepare_cached(
                "UPDATE workers SET instance = ?2, heartbeat = ?3, state = ?4, leading = ?5, roster = ?6, max_leases = ?7, updated = ?8
                 WHERE worker_id = ?1 AND instance = ?9 AND heartbeat = ?10",
            )?
            .execute(params![
                id,
                instance,
                heartbeat,
                state,
                row.leading,
                roster,
                row.max_leases,
                updated,
                old_instance,
                old_heartbeat
            ])?
        }
    };
    Ok(changed)
}

/// Raises the heartbeat of the expected version by one.
pub(super) fn renew_worker(tx: &Transaction<'_>, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<usize, RowError> {
    let mut statement = tx.prepare_cached(
        "UPDATE workers SET heartbeat = heartbeat + 1, state = ?4, leading = ?5, roster = ?6, max_leases = ?7, updated = ?8
         WHERE worker_id = ?1 AND instance = ?2 AND heartbeat = ?3",
    )?;
    Ok(statement.execute(params![
        id.as_str(),
        expected.instance.to_string(),
        integer("heartbeat", expected.heartbeat)?,
        update.state.as_str(),
        update.leading,
        list_text(&update.roster),
        update.max_leases,
        update.updated.as_millis(),
    ])?)
}

/// Adds to the signals of a worker that has a row.
pub(super) fn add_signals<'a>(tx: &Transaction<'_>, to: &WorkerId, signals: impl IntoIterator<Item = &'a Signal>) -> Result<(), RowError> {
    let mut insert = tx.prepare_cached("INSERT INTO signals VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for signal in signals {
        insert.execute(params![to.as_str(), signal.to_text()])?;
    }
    Ok(())
}
