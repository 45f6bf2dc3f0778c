//! Items to rows, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;

use super::schema::*;
use crate::{
    lease::{ForeignWorker, LeaderLock, Lease, LeaseKey, PendingCheckpoint, Signal, SkippedRow, WorkerRow, WorkerUpdate, WorkerVersion},
    types::{Checkpoint, HashKeyRange, ShardId, Timestamp, WorkerId},
};

/// An item by attribute name.
pub(super) type Item = BTreeMap<String, AttributeValue>;

/// What an item turned out to be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and is a lease nearly always")]
pub(super) enum Row {
    Lease(Lease),
    Worker(WorkerRow),
    /// A worker of this library, which is there for all that is known.
    UnreadableWorker(WorkerRow, SkippedRow),
    ForeignWorker(ForeignWorker),
    LeaderLock(LeaderLock),
    /// A row of another library that does not matter here.
    Ignored,
    Skipped(SkippedRow),
}

impl Row {
    /// Reads an item by its type.
    pub(super) fn from_item(item: &Item) -> Self {
        Self::parse(item).unwrap_or_else(|reason| {
            let key = get::<String>(item, LEASE_KEY).ok().flatten().unwrap_or_default();
            Self::Skipped(SkippedRow { key, reason })
        })
    }

    fn parse(item: &Item) -> Result<Self, String> {
        match entity_type(item)?.as_str() {
            LEASE => to_lease(item).map(Self::Lease),
            WORKER if item.contains_key(INSTANCE) => match (to_worker(item), get_parsed::<WorkerId>(item, LEASE_KEY)) {
                (Err(reason), Ok(Some(id))) => {
                    let skipped = SkippedRow { key: id.to_string(), reason };
                    Ok(Self::UnreadableWorker(WorkerRow::unreadable(id, worker_version(item).ok()), skipped))
                }
                (worker, _) => worker.map(Self::Worker),
            },
            WORKER => {
                Ok(Self::ForeignWorker(ForeignWorker { id: require(item, LEASE_KEY)?, last_update: last_update(item).ok().flatten() }))
            }
            // The KCL deletes its lock to release it, but its lock library may also mark it.
            LEADER if item.contains_key(LOCK_RELEASED) => Ok(Self::Ignored),
            LEADER => Ok(Self::LeaderLock(LeaderLock { owner: require(item, LOCK_OWNER)?, version: require(item, LOCK_VERSION)? })),
            other if IGNORED.contains(&other) => Ok(Self::Ignored),
            unknown => Err(format!("unknown {ENTITY_TYPE} {unknown:?}")),
        }
    }
}

/// The type of a row; older KCL versions write none.
fn entity_type(item: &Item) -> Result<String, String> {
    if let Some(entity_type) = get(item, ENTITY_TYPE)? {
        return Ok(entity_type);
    }
    let key: String = require(item, LEASE_KEY)?;
    let known = if key == LEADER_KEY {
        LEADER
    } else if MIGRATION_KEYS.contains(&key.as_str()) {
        IGNORED[0]
    } else {
        LEASE
    };
    Ok(known.to_owned())
}

/// A value that is kept in an attribute of one type.
trait Attribute: Sized {
    /// As DynamoDB names the type.
    const TYPE: &'static str;
    fn read(value: &AttributeValue) -> Option<Self>;
}

impl Attribute for String {
    const TYPE: &'static str = "S";
    fn read(value: &AttributeValue) -> Option<Self> {
        value.as_s().ok().cloned()
    }
}

/// A number in its text form.
struct Number(String);

impl Attribute for Number {
    const TYPE: &'static str = "N";
    fn read(value: &AttributeValue) -> Option<Self> {
        value.as_n().ok().cloned().map(Self)
    }
}

impl Attribute for Vec<String> {
    const TYPE: &'static str = "SS";
    fn read(value: &AttributeValue) -> Option<Self> {
        value.as_ss().ok().cloned()
    }
}

impl Attribute for Bytes {
    const TYPE: &'static str = "B";
    fn read(value: &AttributeValue) -> Option<Self> {
        value.as_b().ok().map(|blob| Self::copy_from_slice(blob.as_ref()))
    }
}

impl Attribute for bool {
    const TYPE: &'static str = "BOOL";
    fn read(value: &AttributeValue) -> Option<Self> {
        value.as_bool().ok().copied()
    }
}

struct List(Vec<String>);

impl Attribute for List {
    const TYPE: &'static str = "L of S";
    fn read(value: &AttributeValue) -> Option<Self> {
        let members = value.as_l().ok()?.iter().map(|member| member.as_s().ok().cloned());
        members.collect::<Option<_>>().map(Self)
    }
}

fn get<T: Attribute>(item: &Item, name: &str) -> Result<Option<T>, String> {
    let Some(value) = item.get(name) else { return Ok(None) };
    T::read(value).map(Some).ok_or_else(|| format!("{name} is not of type {}", T::TYPE))
}

fn require<T: Attribute>(item: &Item, name: &str) -> Result<T, String> {
    get(item, name)?.ok_or_else(|| format!("{name} is missing"))
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

fn get_parsed<T: FromStr<Err: Display>>(item: &Item, name: &str) -> Result<Option<T>, String> {
    get::<String>(item, name)?.map(|text| parse(name, &text)).transpose()
}

fn get_number<T: FromStr<Err: Display>>(item: &Item, name: &str) -> Result<Option<T>, String> {
    get::<Number>(item, name)?.map(|Number(text)| parse(name, &text)).transpose()
}

fn require_number<T: FromStr<Err: Display>>(item: &Item, name: &str) -> Result<T, String> {
    get_number(item, name)?.ok_or_else(|| format!("{name} is missing"))
}

fn get_set<T: FromStr<Err: Display> + Ord>(item: &Item, name: &str) -> Result<BTreeSet<T>, String> {
    get::<Vec<String>>(item, name)?.unwrap_or_default().iter().map(|text| parse(name, text)).collect()
}

fn get_timestamp(item: &Item, name: &str) -> Result<Option<Timestamp>, String> {
    Ok(get_number(item, name)?.map(Timestamp::from_millis))
}

fn last_update(item: &Item) -> Result<Option<Timestamp>, String> {
    Ok(get_number::<i64>(item, LAST_UPDATE)?.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000))))
}

fn get_checkpoint(item: &Item, name: &str, sub_name: &str) -> Result<Option<Checkpoint>, String> {
    let Some(text) = get::<String>(item, name)? else { return Ok(None) };
    let sub = get_number(item, sub_name)?.unwrap_or(0);
    Checkpoint::parse(&text, sub).map(Some).map_err(|error| format!("{name}: {error}"))
}

/// Reads a lease.
pub(super) fn to_lease(item: &Item) -> Result<Lease, String> {
    let entity_type = entity_type(item)?;
    if entity_type != LEASE {
        return Err(format!("it is no lease: its {ENTITY_TYPE} is {entity_type}"));
    }
    let key: LeaseKey = get_parsed(item, LEASE_KEY)?.ok_or("leaseKey is missing")?;
    let stream = match get_parsed(item, STREAM_NAME)? {
        Some(stream) => Some(stream),
        None => key.stream_part(),
    };
    let shard_id = match get_parsed::<ShardId>(item, SHARD_ID)? {
        Some(shard_id) => shard_id,
        None => key.shard_id().map_err(|error| format!("{LEASE_KEY}: {error}"))?,
    };
    if let Some(stream) = &stream
        && LeaseKey::of(stream, &shard_id) != key
    {
        return Err(format!("{LEASE_KEY} does not belong to {STREAM_NAME} {stream} and {SHARD_ID} {shard_id}"));
    }
    let pending = match get_checkpoint(item, PENDING_CHECKPOINT, PENDING_CHECKPOINT_SUB)? {
        Some(checkpoint) => Some(PendingCheckpoint { checkpoint, state: get(item, PENDING_CHECKPOINT_STATE)? }),
        None => None,
    };
    let hash_key_range = match (get::<String>(item, STARTING_HASH_KEY)?, get::<String>(item, ENDING_HASH_KEY)?) {
        (Some(start), Some(end)) => Some(HashKeyRange::parse(&start, &end).map_err(|error| format!("{STARTING_HASH_KEY}: {error}"))?),
        // The KCL fills in what is missing; so does the caller.
        _ => None,
    };
    let counter = require_number(item, LEASE_COUNTER)?;
    if counter > Lease::MAX_COUNTER {
        return Err(format!("{LEASE_COUNTER} is {counter}, more than {}", Lease::MAX_COUNTER));
    }
    Ok(Lease {
        key,
        stream,
        shard_id,
        counter,
        owner: get_parsed(item, LEASE_OWNER)?,
        owner_instance: get_parsed(item, OWNER_INSTANCE)?,
        checkpoint_owner: get_parsed(item, CHECKPOINT_OWNER)?,
        owner_switches: require_number(item, OWNER_SWITCHES)?,
        checkpoint: get_checkpoint(item, CHECKPOINT, CHECKPOINT_SUB)?.ok_or_else(|| format!("{CHECKPOINT} is missing"))?,
        pending,
        parents: get_set(item, PARENT_SHARD_IDS)?,
        children: get_set(item, CHILD_SHARD_IDS)?,
        hash_key_range,
        throughput_kbps: get_number(item, THROUGHPUT)?,
        start_at: get_timestamp(item, START_AT)?,
        stream_created: get_timestamp(item, STREAM_CREATED)?,
        stream_arn: get_parsed(item, STREAM_ARN)?,
        write_id: get_parsed(item, WRITE_ID)?,
    })
}

fn worker_version(item: &Item) -> Result<WorkerVersion, String> {
    Ok(WorkerVersion {
        instance: get_parsed(item, INSTANCE)?.ok_or_else(|| format!("{INSTANCE} is missing"))?,
        heartbeat: require_number(item, HEARTBEAT)?,
    })
}

/// Reads a worker of this library.
pub(super) fn to_worker(item: &Item) -> Result<WorkerRow, String> {
    let signals = get::<Vec<String>>(item, SIGNALS)?.unwrap_or_default();
    let roster = get::<List>(item, ROSTER)?.map_or_else(Vec::new, |list| list.0);
    Ok(WorkerRow {
        id: get_parsed(item, LEASE_KEY)?.ok_or("leaseKey is missing")?,
        version: worker_version(item)?,
        state: get_parsed(item, STATE)?.ok_or_else(|| format!("{STATE} is missing"))?,
        leading: require(item, LEADING)?,
        roster: roster.iter().map(|id| parse(ROSTER, id)).collect::<Result<_, _>>()?,
        max_leases: get_number(item, MAX_LEASES)?,
        updated: last_update(item)?.unwrap_or_default(),
        signals: signals.iter().filter_map(|text| Signal::from_text(text)).collect(),
    })
}

pub(super) fn string(text: impl Display) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

pub(super) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A set of strings; DynamoDB knows no empty one.
pub(super) fn string_set(members: impl IntoIterator<Item = impl Display>) -> Option<AttributeValue> {
    let members: Vec<String> = members.into_iter().map(|m| m.to_string()).collect();
    (!members.is_empty()).then_some(AttributeValue::Ss(members))
}

/// Collects the attributes that are there.
fn present<const N: usize>(attributes: [(&str, Option<AttributeValue>); N]) -> Item {
    attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// KiB/s with six decimals, as the KCL keeps it.
fn throughput(kbps: f64) -> Option<AttributeValue> {
    // DynamoDB has no infinity, and no more than 38 digits.
    (kbps.is_finite() && kbps.abs() < 1e30).then(|| number((kbps * 1e6).round() / 1e6))
}

/// The attributes of a lease but its type, which only its creation writes.
pub(super) fn from_lease(lease: &Lease) -> Item {
    let pending = lease.pending.as_ref();
    // In a table of one stream the key is the shard id, and says it all.
    let stream = lease.stream.as_ref();
    present([
        (LEASE_KEY, Some(string(&lease.key))),
        (LEASE_COUNTER, Some(number(lease.counter))),
        (LEASE_OWNER, lease.owner.as_ref().map(string)),
        (CHECKPOINT_OWNER, lease.checkpoint_owner.as_ref().map(string)),
        (OWNER_SWITCHES, Some(number(lease.owner_switches))),
        (CHECKPOINT, Some(string(lease.checkpoint.text()))),
        (CHECKPOINT_SUB, Some(number(lease.checkpoint.sub_sequence_number()))),
        (PENDING_CHECKPOINT, pending.map(|p| string(p.checkpoint.text()))),
        (PENDING_CHECKPOINT_SUB, pending.map(|p| number(p.checkpoint.sub_sequence_number()))),
        (PENDING_CHECKPOINT_STATE, pending.and_then(|p| p.state.as_ref()).map(|s| AttributeValue::B(Blob::new(s.to_vec())))),
        (PARENT_SHARD_IDS, string_set(&lease.parents)),
        (CHILD_SHARD_IDS, string_set(&lease.children)),
        (STARTING_HASH_KEY, lease.hash_key_range.map(|r| string(r.start()))),
        (ENDING_HASH_KEY, lease.hash_key_range.map(|r| string(r.end()))),
        (THROUGHPUT, lease.throughput_kbps.and_then(throughput)),
        (STREAM_NAME, stream.map(string)),
        (SHARD_ID, stream.map(|_| string(&lease.shard_id))),
        (OWNER_INSTANCE, lease.owner_instance.map(string)),
        (START_AT, lease.start_at.map(|t| number(t.as_millis()))),
        (STREAM_CREATED, lease.stream_created.map(|t| number(t.as_millis()))),
        (STREAM_ARN, lease.stream_arn.as_ref().map(string)),
        (WRITE_ID, lease.write_id.map(string)),
    ])
}

/// A new lease with its type.
pub(super) fn from_new_lease(lease: &Lease) -> Item {
    let mut item = from_lease(lease);
    item.insert(ENTITY_TYPE.to_owned(), string(LEASE));
    item
}

fn seconds(moment: Timestamp) -> i64 {
    moment.as_millis().div_euclid(1000)
}

fn roster_list(roster: &[WorkerId]) -> Option<AttributeValue> {
    (!roster.is_empty()).then(|| AttributeValue::L(roster.iter().map(string).collect()))
}

/// A whole worker row, which Java workers read as that of a worker without metrics.
pub(super) fn from_worker(row: &WorkerRow) -> Item {
    let empty = || Some(AttributeValue::M(std::iter::empty().collect()));
    let mut item = present([
        (LEASE_KEY, Some(string(&row.id))),
        (ENTITY_TYPE, Some(string(WORKER))),
        (STATS, empty()),
        (OPERATING_RANGE, empty()),
        (SUPPORT_CODE, Some(number(SINGLE_TABLE_SUPPORT))),
        (INSTANCE, Some(string(row.version.instance))),
        (HEARTBEAT, Some(number(row.version.heartbeat))),
        (SIGNALS, string_set(row.signals.iter().map(Signal::to_text))),
    ]);
    let update = WorkerUpdate {
        state: row.state,
        leading: row.leading,
        roster: row.roster.clone(),
        max_leases: row.max_leases,
        updated: row.updated,
        handled: BTreeSet::new(),
    };
    item.extend(from_update(&update).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    item
}

/// What a heartbeat writes beside the heartbeat; `None` removes the attribute.
pub(super) fn from_update(update: &WorkerUpdate) -> [(&'static str, Option<AttributeValue>); 6] {
    [
        (LAST_UPDATE, Some(number(seconds(update.updated)))),
        (SUPPORT_UPDATED, Some(number(seconds(update.updated)))),
        (STATE, Some(string(update.state.as_str()))),
        (LEADING, Some(AttributeValue::Bool(update.leading))),
        (ROSTER, roster_list(&update.roster)),
        (MAX_LEASES, update.max_leases.map(number)),
    ]
}

#[cfg(test)]
#[path = "item_test.rs"]
mod tests;
