//! The file: recognised as ours, created, migrated.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, ErrorKind, Result};

/// Marks the file as a lease table of this library (`PRAGMA application_id`): "SKlt".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"SKlt");

/// Each entry leads from the version of its index to the next (`PRAGMA user_version`). Never changed, only added to.
const MIGRATIONS: &[&str] = &[FIRST, "ALTER TABLE leases ADD COLUMN stream_arn TEXT"];

const FIRST: &str = "
    CREATE TABLE leases (
        lease_key TEXT PRIMARY KEY,
        stream_name TEXT,
        shard_id TEXT NOT NULL,
        lease_counter INTEGER NOT NULL,
        lease_owner TEXT,
        owner_instance TEXT,
        checkpoint_owner TEXT,
        owner_switches_since_checkpoint INTEGER NOT NULL,
        checkpoint TEXT NOT NULL,
        checkpoint_sub_sequence_number INTEGER NOT NULL,
        pending_checkpoint TEXT,
        pending_checkpoint_sub_sequence_number INTEGER,
        pending_checkpoint_state BLOB,
        parent_shard_ids TEXT NOT NULL,
        child_shard_ids TEXT NOT NULL,
        starting_hash_key TEXT,
        ending_hash_key TEXT,
        throughput_kbps REAL,
        start_at INTEGER,
        stream_created INTEGER,
        write_id TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE workers (
        worker_id TEXT PRIMARY KEY,
        instance TEXT NOT NULL,
        heartbeat INTEGER NOT NULL,
        state TEXT NOT NULL,
        leading INTEGER NOT NULL,
        roster TEXT NOT NULL,
        max_leases INTEGER,
        updated INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE signals (
        worker_id TEXT NOT NULL REFERENCES workers (worker_id) ON DELETE CASCADE,
        signal TEXT NOT NULL,
        PRIMARY KEY (worker_id, signal)
    ) STRICT, WITHOUT ROWID;
";

/// Opens the file.
pub(super) fn open(path: &Path, create: bool, busy_timeout: Duration) -> Result<Connection> {
    if !create && !path.exists() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("lease table file {} does not exist: initialize the table first", path.display()),
        ));
    }
    if path.is_dir() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("lease table path {} is a directory: name a file", path.display())));
    }
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty() && !d.is_dir()) {
        let message = format!(
            "lease table file {} cannot be created: {} is not a directory; create it, or name another path",
            path.display(),
            directory.display()
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| from_sqlite(path, error))?;
    set_up(&mut connection, path, create, busy_timeout)?;
    Ok(connection)
}

fn set_up(connection: &mut Connection, path: &Path, create: bool, busy_timeout: Duration) -> Result<()> {
    let broken = |error| from_sqlite(path, error);
    connection.busy_timeout(busy_timeout).map_err(broken)?;
    // Looked at before anything is changed: the file may be somebody else's.
    let version = {
        let tx = connection.transaction().map_err(broken)?;
        version(&tx, path)?
    };
    if connection.is_readonly("main").map_err(broken)? {
        return Err(not_writable(path));
    }
    connection.pragma_update(None, "foreign_keys", true).map_err(broken)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(broken)?;
    if version < MIGRATIONS.len() {
        if !create {
            let message = format!("lease table file {} is not set up for this version: initialize the table first", path.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        // Kept in the file. It lets readers and a writer go on side by side.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(broken)?;
        migrate(connection, path)?;
    }
    Ok(())
}

/// How many migrations the file has had; 0 if it is new. In a transaction, so that the marks and the tables are those of
/// one moment: another process may be setting up the file.
fn version(connection: &Transaction<'_>, path: &Path) -> Result<usize> {
    let broken = |error| from_sqlite(path, error);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).map_err(broken);
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(broken)?;
        if application != 0 || version != 0 || tables != 0 {
            return Err(not_ours(path));
        }
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "lease table file {} has version {version}, this library knows up to {}: upgrade all workers, or name another path",
                path.display(),
                MIGRATIONS.len()
            ),
        )),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let broken = |error| from_sqlite(path, error);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
    // Another process may have done it since.
    for migration in &MIGRATIONS[version(&tx, path)?..] {
        tx.execute_batch(migration).map_err(broken)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(broken)?;
    tx.pragma_update(None, "user_version", i32::try_from(MIGRATIONS.len()).expect("a few")).map_err(broken)?;
    tx.commit().map_err(broken)
}

fn not_ours(path: &Path) -> Error {
    let message = format!("file {} is not a lease table but something else: name another path for the lease table", path.display());
    Error::new(ErrorKind::Mismatch, message)
}

fn not_writable(path: &Path) -> Error {
    let message = format!(
        "lease table file {} cannot be written: make the file and its directory writable for this process, or name another path",
        path.display()
    );
    Error::new(ErrorKind::AccessDenied, message)
}

/// Tells what the caller can do about an error of SQLite.
pub(super) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Error {
    let say = |kind, what: &str| Error::new(kind, format!("lease table file {} {what}", path.display()));
    let told = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            say(ErrorKind::ResourceInUse, "is locked by another process for too long")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => not_writable(path),
        Some(ErrorCode::NotADatabase) => not_ours(path),
        Some(ErrorCode::DatabaseCorrupt) => {
            say(ErrorKind::InvalidData, "is damaged: stop all workers, then restore a copy of it or remove it to start anew")
        }
        Some(ErrorCode::DiskFull) => say(ErrorKind::Unavailable, "cannot grow, the disk is full: free some space"),
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed | ErrorCode::OutOfMemory) => {
            say(ErrorKind::Unavailable, "cannot be read or written at the moment")
        }
        _ => say(ErrorKind::Internal, "does not accept a statement"),
    };
    told.with_source(error)
}
