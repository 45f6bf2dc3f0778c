//! Fleets of real processes: workers come, leave, crash and freeze while records flow and shards split and merge.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use shardkeeper::{
    lease::{DynamoDbLeaseTable, LeaseTable, SqliteLeaseTable},
    types::ShardId,
};

use crate::{
    check::{self, Evidence, Lineage, TableWatch},
    rig::{Event, Fleet, LeaseTableKind, Load, LoadPlan, Result, Signal, What, WorkerSpec, until},
};

const STREAM: &str = "clicks";
const LOAD: LoadPlan = LoadPlan { records: 16, period: Duration::from_millis(100), size: 100 };

/// Leases in DynamoDB, a checkpoint by hand after each batch.
pub(crate) async fn dynamodb() -> Result {
    let fleet = Fleet::new(4, &[], |_| WorkerSpec::new(STREAM, LeaseTableKind::DynamoDb).flags(["--lease-seconds", "3"])).await?;
    let table = DynamoDbLeaseTable::from_client(&fleet.server.dynamodb(), fleet.spec.app.as_str());
    scenario(fleet, Arc::new(table)).await
}

/// Leases in a SQLite file, automatic checkpoints.
pub(crate) async fn sqlite() -> Result {
    let spec = |dir: &std::path::Path| {
        let table = LeaseTableKind::Sqlite(dir.join("leases.sqlite"));
        WorkerSpec::new(STREAM, table).flags(["--lease-seconds", "3", "--checkpoint", "1"])
    };
    let fleet = Fleet::new(4, &[], spec).await?;
    let table = SqliteLeaseTable::new(fleet.dir().join("leases.sqlite"));
    scenario(fleet, Arc::new(table)).await
}

async fn scenario(mut fleet: Fleet, table: Arc<dyn LeaseTable>) -> Result {
    let mut load = Load::start(fleet.server.kinesis.clone(), STREAM, LOAD);
    let shard = ShardId::from_index;

    fleet.start("a")?;
    fleet.see_balance(4, &["a"]).await?;
    let watch = TableWatch::start(table);
    fleet.start("b")?;
    fleet.start("c")?;
    fleet.see_balance(4, &["a", "b", "c"]).await?;

    fleet.split(&shard(0)).await?;
    fleet.merge(&shard(1), &shard(2)).await?;
    // 0 became 4 and 5, 1 and 2 became 6.
    fleet.see("the parents ended", |history| [0, 1, 2].iter().all(|i| ended(history, &shard(*i))).then_some(())).await?;
    fleet.see_balance(4, &["a", "b", "c"]).await?;

    fleet.signal("b", Signal::TERM)?;
    let end = fleet.end("b").await?;
    if !end.status.success() {
        return Err(format!("b was told to stop and ended with {}: {}", end.status, end.stderr).into());
    }
    fleet.see_balance(4, &["a", "c"]).await?;

    fleet.start("d")?;
    fleet.see_balance(4, &["a", "c", "d"]).await?;
    fleet.signal("a", Signal::KILL)?;
    fleet.end("a").await?;
    fleet.see_balance(4, &["c", "d"]).await?;

    let frozen = fleet.history()?.owned_by("c");
    freeze(&mut fleet, "c").await?;
    fleet.see_balance(4, &["d"]).await?;
    fleet.split(&shard(3)).await?;
    fleet.see_balance(5, &["d"]).await?;
    fleet.signal("c", Signal::CONT)?;
    fleet.see_balance(5, &["c", "d"]).await?;

    load.stop().await?;
    let put = load.put();
    fleet.see("every record is handed over", |history| put.iter().all(|record| history.delivered(record)).then_some(())).await?;
    for id in ["c", "d"] {
        fleet.signal(id, Signal::TERM)?;
    }
    for id in ["c", "d"] {
        let end = fleet.end(id).await?;
        if !end.status.success() {
            return Err(format!("{id} was told to stop and ended with {}: {}", end.status, end.stderr).into());
        }
    }

    let history = fleet.history()?;
    for shard in &frozen {
        let knows = history.shards[shard].iter().any(|tenure| tenure.worker == "c" && tenure.lost);
        if !knows {
            return Err(format!("c slept through the loss of {shard} and was never told").into());
        }
    }
    check::saw_enough(&watch, 8)?;
    let evidence =
        Evidence { put, history, parents: lineage(&fleet, 5).await?, disturbed: disturbed(&mut fleet, &["a", "c"])?, table: watch };
    check::everything(&evidence)
}

/// Stops a worker, but not in the middle of a write into a SQLite file: it would keep the lock of the file, as any
/// program that shares one, and the others could only wait until it goes on.
async fn freeze(fleet: &mut Fleet, id: &str) -> Result {
    let LeaseTableKind::Sqlite(file) = fleet.spec.table.clone() else {
        return fleet.signal(id, Signal::STOP);
    };
    until("the worker is stopped outside of a write", || {
        fleet.signal(id, Signal::STOP)?;
        let probe = rusqlite::Connection::open(&file)?;
        probe.busy_timeout(Duration::from_millis(500))?;
        match probe.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => Ok(Some(())),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                fleet.signal(id, Signal::CONT)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}

fn ended(history: &crate::rig::History, shard: &ShardId) -> bool {
    history.shards.get(shard).is_some_and(|tenures| tenures.iter().any(|tenure| tenure.shard_ended.is_some()))
}

/// Workers that were killed or stopped, and those that a slow machine made look dead.
fn disturbed(fleet: &mut Fleet, known: &[&str]) -> Result<BTreeSet<String>> {
    let mut found: BTreeSet<String> = known.iter().map(|id| (*id).to_owned()).collect();
    for worker in &mut fleet.workers {
        let expelled = |event: &Event| matches!(event.what, What::Calls { expelled, .. } if expelled > 0);
        if worker.events()?.iter().any(expelled) {
            found.insert(worker.id.clone());
        }
    }
    Ok(found)
}

/// The parents of all shards that have any, of which there must be so many.
pub(crate) async fn lineage(fleet: &Fleet, children: usize) -> Result<Vec<Lineage>> {
    let shards = fleet.server.kinesis.list_shards().stream_name(&fleet.spec.stream).send().await?;
    let mut found = Vec::new();
    for shard in shards.shards() {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten();
        let parents: Vec<ShardId> = parents.map(ShardId::new).collect::<Result<_, _>>()?;
        if !parents.is_empty() {
            found.push(Lineage { child: ShardId::new(shard.shard_id())?, parents });
        }
    }
    if found.len() != children {
        return Err(format!("expected {children} child shards, the service lists {}", found.len()).into());
    }
    Ok(found)
}
