//! The Java KCL on the local server: built by Maven from `integration/peers/kcl`, reading by polling and by enhanced
//! fan-out, with its leases in the DynamoDB beside the stream.

use std::{ffi::OsString, path::Path, process::Command, time::Duration};

use shardkeeper::types::ShardId;

use super::run;
use crate::{
    check::{self, Evidence, TableWatch},
    fleet::lineage,
    rig::{Fleet, LeaseTableKind, Load, LoadPlan, Result, Signal, WorkerSpec},
};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/peers/kcl/pom.xml");
const LOAD: LoadPlan = LoadPlan { records: 8, period: Duration::from_millis(100), size: 100 };
/// It sleeps for up to a minute before it assigns its first shard, and for more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
/// Its short timers, but for the one that makes it lose shards to itself when the machine is busy.
const FLAGS: [&str; 4] = ["--profile", "tuned", "--set", "lease.failoverTimeMillis=6000"];

pub(super) async fn version_3() -> Result {
    version("3.5.1").await
}

pub(super) async fn version_2() -> Result {
    version("2.7.2").await
}

async fn version(version: &str) -> Result {
    let dir = tempfile::tempdir()?;
    let built = dir.path().join("kcl");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file", PROJECT, "package"]).arg(format!("-Dkcl.version={version}"));
    maven.arg(format!("-Dout={}", built.display()));
    run("maven", maven, &dir).await?;
    let program = program(&built);
    tokio::try_join!(reads_everything("polling", &program), reads_everything("fan-out", &program))?;
    Ok(())
}

fn program(built: &Path) -> Vec<OsString> {
    let mut classes = built.join("classes").into_os_string();
    classes.push(":");
    classes.push(built.join("lib").join("*"));
    ["java".into(), "-cp".into(), classes, "peers.KclConsumer".into()].into()
}

/// Two shards, of which one splits under load.
async fn reads_everything(mode: &str, program: &[OsString]) -> Result {
    let spec = WorkerSpec::new("clicks", LeaseTableKind::DynamoDb).program(program.to_vec()).flags(["--mode", mode]).flags(FLAGS);
    let mut fleet = Fleet::new(2, &[], |_| spec).await?;
    fleet.patience = PATIENCE;
    let mut load = Load::start(fleet.server.kinesis.clone(), "clicks", LOAD);
    fleet.start("kcl")?;
    fleet.see_balance(2, &["kcl"]).await?;
    fleet.split(&ShardId::from_index(0)).await?;
    // 0 became 2 and 3.
    fleet.see_balance(3, &["kcl"]).await?;

    load.stop().await?;
    let put = load.put();
    fleet.see("every record is handed over", |history| put.iter().all(|record| history.delivered(record)).then_some(())).await?;
    fleet.signal("kcl", Signal::TERM)?;
    fleet.end("kcl").await?;
    // Not how the process ends: version 2 waits for a word from the shard that has ended, too, which does not come.
    let history = fleet.history()?;
    if let Some((shard, _)) = history.owners().into_iter().find(|(_, tenure)| tenure.shutdown_requested.is_none()) {
        return Err(format!("{mode}: {shard} was not shut down").into());
    }
    let parents = lineage(&fleet, 2).await?;
    let evidence = Evidence { put, history, parents, disturbed: Default::default(), table: TableWatch::of(std::iter::empty()) };
    check::everything(&evidence).map_err(|error| format!("{mode}: {error}").into())
}
