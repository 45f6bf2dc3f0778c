//! The table in a SQLite file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rusqlite::Connection;
use shardkeeper::{
    Error, ErrorKind,
    lease::{LeaseTable, SqliteLeaseTable, WorkerRow, WriteOutcome, conformance},
    types::InstanceId,
};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A table of which nothing but the machine's load can make a call late.
fn table(path: impl Into<PathBuf>) -> SqliteLeaseTable {
    SqliteLeaseTable::new(path).with_timeout(Duration::from_secs(60))
}

async fn initialize_fails(path: &Path) -> Error {
    let error = table(path).initialize().await.expect_err("not a lease table");
    assert!(error.to_string().contains(&path.display().to_string()), "names the path: {error}");
    assert!(error.to_string().contains("name "), "names the fix: {error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let directory = directory();
    let number = AtomicU32::new(0);
    let factory = || {
        let path = directory.path().join(format!("{}.db", number.fetch_add(1, Ordering::Relaxed)));
        async move { Box::new(table(path)) as Box<dyn LeaseTable> }
    };
    conformance::run(factory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_one_file_lose_no_update() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    let tables: Vec<SqliteLeaseTable> = (0..4).map(|_| table(&path)).collect();
    let tables: Vec<&dyn LeaseTable> = tables.iter().map(|t| t as &dyn LeaseTable).collect();
    conformance::compare_and_set_is_linearizable(&tables).await;
}

/// Each sees the file before, while or after another sets it up, and never something in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_make_the_file_at_once() {
    let directory = directory();
    for file in 0..60 {
        let path = directory.path().join(format!("{file}.db"));
        let tables: Vec<SqliteLeaseTable> = (0..4).map(|_| table(&path)).collect();
        let made = tables.iter().map(|table| async move { table.initialize().await });
        for outcome in futures::future::join_all(made).await {
            outcome.expect("a lease table");
        }
    }
}

#[tokio::test]
async fn rows_survive_the_process() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    let samples = conformance::Samples::seeded(1);
    let lease = samples.lease();
    {
        let first = table(&path);
        first.initialize().await.expect("new");
        assert_eq!(first.create_lease(&lease).await.expect("written"), WriteOutcome::Applied);
    }
    let second = table(&path);
    assert_eq!(second.get_lease(&lease.key).await.expect("read"), Some(lease.clone()), "a set-up file needs no initialize");
    second.initialize().await.expect("harmless");
    assert_eq!(second.scan().await.expect("read").leases, [lease]);
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_brought_up_to_date() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    table(&path).initialize().await.expect("new");
    // What version 1 did not have.
    let hand = Connection::open(&path).expect("opened");
    hand.execute_batch("ALTER TABLE leases DROP COLUMN stream_arn; PRAGMA user_version = 1").expect("as version 1 made it");
    let later = table(&path);
    assert_eq!(later.scan().await.expect_err("of an earlier version").kind(), ErrorKind::NotFound);
    later.initialize().await.expect("migrated");
    let lease = conformance::Samples::seeded(5).lease();
    assert_eq!(later.create_lease(&lease).await.expect("written"), WriteOutcome::Applied);
    assert_eq!(later.scan().await.expect("read").leases, [lease]);
}

#[tokio::test]
async fn what_is_something_else_is_refused_and_left_alone() {
    let directory = directory();

    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database at all, but notes that somebody wants to keep\n".repeat(20)).expect("written");
    assert_eq!(initialize_fails(&text).await.kind(), ErrorKind::Mismatch);
    assert!(fs::read_to_string(&text).expect("still there").starts_with("not a database"));

    let other = directory.path().join("app.db");
    Connection::open(&other).expect("opened").execute_batch("CREATE TABLE customers (name TEXT)").expect("created");
    let before = fs::read(&other).expect("there");
    assert_eq!(initialize_fails(&other).await.kind(), ErrorKind::Mismatch);
    assert_eq!(fs::read(&other).expect("there"), before, "not one byte is changed");

    let newer = directory.path().join("newer.db");
    table(&newer).initialize().await.expect("new");
    Connection::open(&newer).expect("opened").pragma_update(None, "user_version", 99).expect("set");
    let error = initialize_fails(&newer).await;
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn unusable_paths_are_named_with_the_fix() {
    let directory = directory();
    assert_eq!(initialize_fails(directory.path()).await.kind(), ErrorKind::InvalidInput);
    let nowhere = directory.path().join("missing").join("leases.db");
    assert_eq!(initialize_fails(&nowhere).await.kind(), ErrorKind::InvalidInput);

    let never_made = table(directory.path().join("leases.db"));
    let error = never_made.scan().await.expect_err("there is no file");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!never_made.path().exists(), "reading makes no file");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unwritable_place_is_named_with_the_fix() {
    // Not even root can create files there.
    let error = initialize_fails(Path::new("/proc/shardkeeper-leases.db")).await;
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert!(error.to_string().contains("writable"), "{error}");
}

#[tokio::test]
async fn a_locked_file_is_worth_another_try() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    let samples = conformance::Samples::seeded(2);
    // Waits for no more than three milliseconds, on SQLite's own clock.
    let impatient = table(&path);
    impatient.initialize().await.expect("new");
    let impatient = SqliteLeaseTable::new(&path).with_timeout(Duration::from_secs(60)).with_busy_timeout(Duration::from_millis(3));

    let hog = Connection::open(&path).expect("opened");
    hog.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let lease = samples.lease();
    let error = impatient.create_lease(&lease).await.expect_err("locked");
    assert_eq!(error.kind(), ErrorKind::ResourceInUse);
    assert!(error.is_retryable() && error.has_no_side_effects());
    assert_eq!(impatient.get_lease(&lease.key).await.expect("readers do not wait for writers"), None);
    hog.execute_batch("ROLLBACK").expect("unlocked");
    assert_eq!(impatient.create_lease(&lease).await.expect("unlocked"), WriteOutcome::Applied);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_removed_under_a_worker_is_noticed() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    let used = table(&path);
    used.initialize().await.expect("new");
    fs::remove_file(&path).expect("removed");
    let other = table(&path);
    other.initialize().await.expect("new");
    let error = used.create_lease(&conformance::Samples::seeded(3).lease()).await.expect_err("nobody else would see it");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(other.scan().await.expect("read").leases, []);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_skipped_and_named() {
    let directory = directory();
    let path = directory.path().join("leases.db");
    let used = table(&path);
    used.initialize().await.expect("new");
    let samples = conformance::Samples::seeded(4);
    let (good, bad, endless) = (samples.lease(), samples.lease(), samples.lease());
    let worker = conformance::worker_row(&samples.worker_id(), InstanceId(1));
    for lease in [&good, &bad, &endless] {
        assert_eq!(used.create_lease(lease).await.expect("written"), WriteOutcome::Applied);
    }
    assert_eq!(used.put_worker(&worker, None).await.expect("written"), WriteOutcome::Applied);
    let hand = Connection::open(&path).expect("opened");
    hand.execute("UPDATE leases SET checkpoint = 'tomorrow' WHERE lease_key = ?1", [bad.key.as_str()]).expect("edited");
    let edited = "UPDATE leases SET lease_counter = 9223372036854775807 WHERE lease_key = ?1";
    hand.execute(edited, [endless.key.as_str()]).expect("edited");
    hand.execute("UPDATE workers SET state = 'DANCING'", []).expect("edited");

    let scan = used.scan().await.expect("the rest can be read");
    assert_eq!(scan.leases, [good]);
    let unreadable = WorkerRow::unreadable(worker.id.clone(), Some(worker.version));
    assert_eq!(scan.workers, std::slice::from_ref(&unreadable), "it is there, whatever it says");
    assert_eq!(used.get_workers(std::slice::from_ref(&worker.id)).await.expect("read"), [unreadable]);
    let skipped: Vec<(&str, &str)> = scan.skipped.iter().map(|s| (s.key.as_str(), s.reason.as_str())).collect();
    assert!(skipped.iter().any(|(key, reason)| *key == bad.key.as_str() && reason.contains("tomorrow")), "{skipped:?}");
    assert!(skipped.iter().any(|(key, reason)| *key == worker.id.as_str() && reason.contains("DANCING")), "{skipped:?}");
    assert!(skipped.iter().any(|(key, reason)| *key == endless.key.as_str() && reason.contains("lease_counter")), "{skipped:?}");
    let error = used.get_lease(&bad.key).await.expect_err("asked for by name");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}
