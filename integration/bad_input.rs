//! What an operator can get wrong, tried one by one with real processes: each ends with a message that names the value
//! and the fix, and touches nothing.

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use libtest_mimic::Trial;
use shardkeeper::lease::{DynamoDbLeaseTable, LeaseTable as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    rig::{
        Finished, Fleet, GENEROUS, LeaseTableKind, Load, LoadPlan, Process, Result, Server, Signal, WorkerProcess, WorkerSpec, now, until,
        until_async,
    },
    trial,
};

const STREAM: &str = "clicks";
const LOAD: LoadPlan = LoadPlan { records: 8, period: Duration::from_millis(100), size: 50 };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("bad_input_stream", stream_that_does_not_exist),
        trial("bad_input_credentials", credentials_that_are_refused),
        trial("bad_input_dynamodb_table", dynamodb_table_of_something_else),
        trial("bad_input_sqlite_file", sqlite_file_of_something_else),
        trial("bad_input_recreated_stream", recreated_stream),
        trial("bad_input_other_stream", table_of_another_stream),
        trial("bad_input_names", names_that_cannot_be),
        trial("bad_input_settings", settings_that_clash),
        trial("bad_input_data_directory", data_directory_that_cannot_be_written),
        trial("bad_input_port", port_in_use),
        trial("bad_input_worker_id", two_workers_with_one_id),
    ]
}

/// That it ended by itself with exit code 1 and one error line, which holds all these words.
fn refused(what: &str, end: &Finished, words: &[&str]) -> Result {
    let message = end.stderr.lines().rev().find(|line| line.starts_with("error: "));
    let message = message.ok_or_else(|| format!("{what}: no line begins with error: in {:?} ({})", end.stderr, end.status))?;
    if end.status.code() != Some(1) {
        return Err(format!("{what}: ended with {} instead of exit code 1: {message}", end.status).into());
    }
    let missing: Vec<_> = words.iter().filter(|word| !message.contains(**word)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{what}: nothing of {missing:?} in: {message}").into()) }
}

async fn fleet(flags: &[&str]) -> Result<Fleet> {
    let mut fleet = Fleet::new(2, &[], |_| WorkerSpec::new(STREAM, LeaseTableKind::DynamoDb)).await?;
    fleet.spec.flags.extend(["--lease-seconds", "2"].iter().chain(flags).map(|flag| (*flag).to_owned()));
    Ok(fleet)
}

/// The end of a worker that cannot start.
async fn worker_end(fleet: &Fleet, name: &str, spec: &WorkerSpec) -> Result<Finished> {
    WorkerProcess::start(name, name, spec, &fleet.server, fleet.dir())?.process.end().await
}

async fn stream_that_does_not_exist() -> Result {
    let fleet = fleet(&["--region", "eu-west-1"]).await?;
    let spec = WorkerSpec { stream: "clocks".to_owned(), ..fleet.spec.clone() };
    // A stream that is there, but in another region, is told in the same words.
    refused("wrong stream", &worker_end(&fleet, "a", &spec).await?, &["clocks", "eu-west-1", "stream"])?;
    let spec = WorkerSpec { stream: "no such name".to_owned(), ..fleet.spec.clone() };
    refused("impossible stream", &worker_end(&fleet, "b", &spec).await?, &["no such name"])?;
    let tables = fleet.server.dynamodb().list_tables().send().await?;
    if !tables.table_names().is_empty() {
        return Err(format!("a worker without a stream made the tables {:?}", tables.table_names()).into());
    }
    Ok(())
}

async fn credentials_that_are_refused() -> Result {
    let mut fleet = fleet(&[]).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    fleet.server.kinesis_endpoint = format!("http://{}", listener.local_addr()?);
    let answering = answer_all(listener, "UnrecognizedClientException", "The security token included in the request is invalid.");
    let end = tokio::select! {
        biased;
        never = answering => return Err(format!("the answering service ended: {never:?}").into()),
        end = worker_end(&fleet, "a", &fleet.spec) => end?,
    };
    refused("wrong credentials", &end, &[STREAM, "credentials"])
}

/// A service that refuses everything in the same way.
async fn answer_all(listener: tokio::net::TcpListener, code: &str, message: &str) -> std::io::Result<()> {
    let body = format!(r#"{{"__type":"{code}","message":"{message}"}}"#);
    loop {
        let (mut connection, _) = listener.accept().await?;
        // The request fits the buffer, or is read as far as its answer needs.
        if connection.read(&mut [0; 16 * 1024]).await? == 0 {
            continue;
        }
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n";
        let answer = format!("{head}x-amzn-errortype: {code}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes()).await?;
        connection.shutdown().await?;
    }
}

async fn dynamodb_table_of_something_else() -> Result {
    let fleet = fleet(&[]).await?;
    let dynamodb = fleet.server.dynamodb();
    dynamodb
        .create_table()
        .table_name(&fleet.spec.app)
        .attribute_definitions(AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::N).build()?)
        .key_schema(KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build()?)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await?;
    refused("other table", &worker_end(&fleet, "a", &fleet.spec).await?, &[&fleet.spec.app, "leaseKey", "table"])?;
    let rows = dynamodb.scan().table_name(&fleet.spec.app).send().await?;
    if rows.count() != 0 { Err("the worker wrote into a table of something else".into()) } else { Ok(()) }
}

async fn sqlite_file_of_something_else() -> Result {
    let fleet = fleet(&[]).await?;
    let text = fleet.dir().join("notes.txt");
    std::fs::write(&text, "These are notes, and no database at all.\n".repeat(100))?;
    let other = fleet.dir().join("other.sqlite");
    rusqlite::Connection::open(&other)?.execute_batch("CREATE TABLE invoices (id INTEGER PRIMARY KEY, sum REAL)")?;
    let nowhere = fleet.dir().join("missing").join("leases.sqlite");
    let mut files = vec![&text, &other, &nowhere];
    // Not even root can create files there.
    let unwritable = std::path::PathBuf::from("/proc/leases.sqlite");
    if cfg!(target_os = "linux") {
        files.push(&unwritable);
    }
    for file in files {
        let before = std::fs::read(file).ok();
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("no file name")?.to_owned();
        let spec = WorkerSpec { table: LeaseTableKind::Sqlite(file.clone()), ..fleet.spec.clone() };
        refused("other file", &worker_end(&fleet, &format!("w-{name}"), &spec).await?, &[&name])?;
        if std::fs::read(file).ok() != before {
            return Err(format!("the worker changed {}", file.display()).into());
        }
    }
    Ok(())
}

async fn recreated_stream() -> Result {
    let mut fleet = fleet(&[]).await?;
    let mut load = Load::start(fleet.server.kinesis.clone(), STREAM, LOAD);
    fleet.start("a")?;
    fleet
        .see("both shards are read", |history| (history.tenures().filter(|t| !t.checkpoints.is_empty()).count() >= 2).then_some(()))
        .await?;
    load.stop().await?;
    fleet.signal("a", Signal::TERM)?;
    fleet.end("a").await?;

    let table = DynamoDbLeaseTable::from_client(&fleet.server.dynamodb(), fleet.spec.app.as_str());
    let before = table.scan().await?.leases;
    // The service tells the creation of a stream to the second, and takes longer than that to delete one.
    let made = fleet.worker("a").started;
    until("the former stream is seconds old", || Ok((now() > made + 2_000).then_some(()))).await?;
    let kinesis = &fleet.server.kinesis;
    kinesis.delete_stream().stream_name(STREAM).enforce_consumer_deletion(true).send().await?;
    until_async("the stream is made again", GENEROUS, async || {
        Ok(kinesis.create_stream().stream_name(STREAM).shard_count(2).send().await.is_ok().then_some(()))
    })
    .await?;

    refused("re-created stream", &worker_end(&fleet, "b", &fleet.spec).await?, &[STREAM, "made again", "another application name"])?;
    let checkpoint = |leases: &[shardkeeper::lease::Lease]| leases.iter().map(|l| (l.key.clone(), l.checkpoint)).collect::<Vec<_>>();
    let after = table.scan().await?.leases;
    if checkpoint(&before) != checkpoint(&after) { Err("the checkpoints of the former stream are gone".into()) } else { Ok(()) }
}

async fn table_of_another_stream() -> Result {
    let mut fleet = fleet(&[]).await?;
    fleet.start("a")?;
    fleet.see_balance(2, &["a"]).await?;
    let kinesis = &fleet.server.kinesis;
    kinesis.create_stream().stream_name("orders").shard_count(2).send().await?;
    let spec = WorkerSpec { stream: "orders".to_owned(), ..fleet.spec.clone() };
    let end = worker_end(&fleet, "b", &spec).await?;
    refused("other stream", &end, &["stream/clicks", "stream/orders", "another application name"])?;
    if end.stderr.contains("made again") { Err(format!("another stream is not a re-created one: {}", end.stderr).into()) } else { Ok(()) }
}

async fn names_that_cannot_be() -> Result {
    let fleet = fleet(&[]).await?;
    for (i, app) in ["a b", "ab"].into_iter().enumerate() {
        let spec = WorkerSpec { app: app.to_owned(), ..fleet.spec.clone() };
        refused("application name", &worker_end(&fleet, &format!("w{i}"), &spec).await?, &[app, "3 to 255"])?;
    }
    Ok(())
}

async fn settings_that_clash() -> Result {
    let fleet = fleet(&[]).await?;
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--lease-seconds", "0.2"], &["lease_duration", "200ms", "1 s"]),
        (&["--lease-seconds", "2", "--watch-seconds", "1"], &["watch_interval", "1s", "lease_duration", "2s"]),
        (&["--max-records", "0"], &["max_records", "0"]),
        (&["--max-records", "20000"], &["max_records", "20000", "10000"]),
    ];
    for (i, (flags, words)) in cases.into_iter().enumerate() {
        let spec = WorkerSpec { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..fleet.spec.clone() };
        refused(&format!("{flags:?}"), &worker_end(&fleet, &format!("w{i}"), &spec).await?, words)?;
    }
    Ok(())
}

/// The end of a server that cannot start.
async fn server_end(dir: &Path, name: &str, command: Command) -> Result<Finished> {
    Process::spawn(name, command, dir)?.end().await
}

async fn data_directory_that_cannot_be_written() -> Result {
    let dir = tempfile::tempdir()?;
    // A directory inside a file cannot be made, whoever runs this; permissions would not stop root.
    let file = dir.path().join("file");
    std::fs::write(&file, "")?;
    let inside = file.join("data");
    let inside = inside.to_str().ok_or("not UTF-8")?;
    let command = Server::command(&["--kinesis-port", "0", "--dynamodb-port", "0", "--data-dir", inside]);
    refused("data directory", &server_end(dir.path(), "server", command).await?, &[inside, "--data-dir"])
}

async fn port_in_use() -> Result {
    let dir = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    for (flag, other) in [("--kinesis-port", "--dynamodb-port"), ("--dynamodb-port", "--kinesis-port")] {
        let command = Server::command(&[flag, &port, other, "0"]);
        refused("port in use", &server_end(dir.path(), flag.trim_start_matches('-'), command).await?, &[&port, flag, "in use"])?;
    }
    Ok(())
}

async fn two_workers_with_one_id() -> Result {
    let mut fleet = fleet(&[]).await?;
    let mut load = Load::start(fleet.server.kinesis.clone(), STREAM, LOAD);
    fleet.start("a")?;
    fleet.see_balance(2, &["a"]).await?;
    let mut twin = WorkerProcess::start("twin", "a", &fleet.spec, &fleet.server, fleet.dir())?;
    refused("twin", &twin.process.end().await?, &["worker id a", "in use"])?;
    if twin.events()?.iter().any(|event| matches!(event.what, crate::rig::What::Init { .. })) {
        return Err("the second worker with the id was given a shard".into());
    }

    // The first one goes on as if nothing had been.
    load.stop().await?;
    let put = load.put();
    fleet.see("the first worker reads on", |history| put.iter().all(|record| history.delivered(record)).then_some(())).await?;
    let tenures = fleet.history()?.tenures().count();
    if tenures != 2 { Err(format!("the first worker had {tenures} tenures instead of 2").into()) } else { Ok(()) }
}
