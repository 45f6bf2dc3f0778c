//! The rows of a lease table and their transitions, as pure data.
//!
//! ```text
//!            take                 checkpoint, prepare
//! unowned ─────────▶ owned (worker, instance) ◀──┐
//!    ▲                 │   │    └────────────────┘
//!    │     release     │   │ hand over
//!    ├─────────────────┘   ▼
//!    │                 handed over (worker, no instance) ──▶ owned: take by the new owner
//!    │                     │
//!    └─────────────────────┘ take by anyone, when nobody accepts within the lease duration
//!
//! owned ── end ──▶ ended (checkpoint SHARD_END, no owner) ──▶ deleted, once its children are under way
//! ```
//!
//! Every transition raises the counter by one and is written on the condition that the row still has the counter
//! it was made from. That alone is the fence: neither a late checkpoint of the same tenure nor a worker that slept
//! can write anything once another write has been applied.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Signal;
use crate::{
    error::{Error, ErrorKind},
    types::{
        Checkpoint, ChildShard, HashKeyRange, InstanceId, InvalidText, ShardId, StreamArn, StreamIdentifier, Timestamp, WorkerId, text_id,
    },
};

text_id! {
    /// Primary key of a lease row: the shard id, or `<account>:<stream>:<epoch>:<shard id>` in a table of many streams.
    LeaseKey, "lease key", |value| {
        if value.is_empty() || value.len() > 512 {
            Err(InvalidText::new("lease key", value, "it must have 1 to 512 characters"))
        } else {
            Ok(())
        }
    }
}

impl LeaseKey {
    /// The key of a shard's lease.
    #[must_use]
    pub fn of(stream: &StreamIdentifier, shard: &ShardId) -> Self {
        match stream {
            StreamIdentifier::Single(_) => Self::new(shard.as_str()),
            StreamIdentifier::Multi { .. } => Self::new(format!("{stream}:{shard}")),
        }
        .expect("both parts are valid and short")
    }

    /// The stream part, for keys of a table of many streams.
    #[must_use]
    pub fn stream_part(&self) -> Option<StreamIdentifier> {
        self.as_str().rsplit_once(':')?.0.parse().ok()
    }

    /// The shard part.
    ///
    /// # Errors
    /// When what follows the last colon is no shard id.
    pub fn shard_id(&self) -> Result<ShardId, InvalidText> {
        ShardId::new(self.as_str().rsplit(':').next().unwrap_or_default())
    }
}

/// Random mark of one write, by which the writer recognises its own row after an ambiguous answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl std::fmt::Display for WriteId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for WriteId {
    type Err = InvalidText;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(Self).map_err(|_| InvalidText::new("write id", s, "expected up to 16 hexadecimal digits"))
    }
}

/// First half of a two-phase checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCheckpoint {
    /// Where the checkpoint will be once committed.
    pub checkpoint: Checkpoint,
    /// Opaque bytes of the application, handed to whoever initializes the shard next.
    pub state: Option<Bytes>,
}

/// One lease row.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Primary key.
    pub key: LeaseKey,
    /// The stream, in a table of many streams; `None` in a table of one.
    pub stream: Option<StreamIdentifier>,
    /// The shard.
    pub shard_id: ShardId,
    /// Raised by one with every write: the fencing token.
    pub counter: u64,
    /// Who owns it; `None` when it is free.
    pub owner: Option<WorkerId>,
    /// The life of the owner that has accepted the lease. With it, the lease lives as long as the worker row of that
    /// instance; without it, as long as the counter moves.
    pub owner_instance: Option<InstanceId>,
    /// In a hand-over directed by a Java leader, the previous owner, who may still write.
    pub checkpoint_owner: Option<WorkerId>,
    /// Changes of owner since the last checkpoint.
    pub owner_switches: u64,
    /// How far the shard is processed.
    pub checkpoint: Checkpoint,
    /// First half of a two-phase checkpoint.
    pub pending: Option<PendingCheckpoint>,
    /// The shards it came from.
    pub parents: BTreeSet<ShardId>,
    /// The shards that follow it, once known.
    pub children: BTreeSet<ShardId>,
    /// Hash keys of the shard.
    pub hash_key_range: Option<HashKeyRange>,
    /// Measured load in KiB/s.
    pub throughput_kbps: Option<f64>,
    /// Where `Latest` and `AtTimestamp` begin: frozen when the lease was made. Beside `TrimHorizon` the epoch, as a sign
    /// that no absent parent is to be waited for.
    pub start_at: Option<Timestamp>,
    /// Creation time of the stream the lease was made for.
    pub stream_created: Option<Timestamp>,
    /// The stream the lease was made for. A table of one stream says nowhere else which it is.
    pub stream_arn: Option<StreamArn>,
    /// Mark of the last write by this library.
    pub write_id: Option<WriteId>,
}

impl Lease {
    /// Largest counter of a row that is worked with, 2^62: no tenure comes near it, and each transition adds one. A row
    /// above it was not written by a lease table of this library or the KCL, and counts as `InvalidData`.
    pub const MAX_COUNTER: u64 = 1 << 62;

    /// A new lease that nobody owns.
    #[must_use]
    pub fn new(stream: &StreamIdentifier, shard_id: ShardId, checkpoint: Checkpoint) -> Self {
        Self {
            key: LeaseKey::of(stream, &shard_id),
            stream: match stream {
                StreamIdentifier::Single(_) => None,
                multi @ StreamIdentifier::Multi { .. } => Some(multi.clone()),
            },
            shard_id,
            counter: 0,
            owner: None,
            owner_instance: None,
            checkpoint_owner: None,
            owner_switches: 0,
            checkpoint,
            pending: None,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            hash_key_range: None,
            throughput_kbps: None,
            start_at: None,
            stream_created: None,
            stream_arn: None,
            write_id: None,
        }
    }

    /// The lease of a shard that follows this one: it starts at its oldest record, whatever the application's initial
    /// position, since everything put after the parent closed went there.
    #[must_use]
    pub fn for_child(&self, child: &ChildShard) -> Self {
        let key = match &self.stream {
            Some(stream) => LeaseKey::of(stream, &child.id),
            None => LeaseKey::new(child.id.as_str()).expect("a shard id is a valid key"),
        };
        Self {
            key,
            shard_id: child.id.clone(),
            counter: 0,
            owner: None,
            owner_instance: None,
            checkpoint_owner: None,
            owner_switches: 0,
            checkpoint: Checkpoint::TrimHorizon,
            pending: None,
            parents: child.parents.iter().cloned().collect(),
            children: BTreeSet::new(),
            hash_key_range: Some(child.hash_key_range),
            throughput_kbps: None,
            start_at: None,
            write_id: None,
            stream: self.stream.clone(),
            stream_created: self.stream_created,
            stream_arn: self.stream_arn.clone(),
        }
    }

    /// The key of the lease of a shard of the same stream.
    #[must_use]
    pub fn sibling_key(&self, shard: &ShardId) -> LeaseKey {
        match &self.stream {
            Some(stream) => LeaseKey::of(stream, shard),
            None => LeaseKey::new(shard.as_str()).expect("a shard id is a valid key"),
        }
    }

    /// Whether the row proves that ancestors of the shard which have no row are finished, or are not to be read: it has
    /// begun, or was made or confirmed by a shard sync, which leaves a `start_at`. A child made at the end of one parent
    /// proves nothing yet: the row of another parent may still have to be made, or have been lost.
    #[must_use]
    pub fn vouches_for_ancestors(&self) -> bool {
        self.checkpoint != Checkpoint::TrimHorizon || self.start_at.is_some()
    }

    /// The row as created by a worker that owns it from the start.
    #[must_use]
    pub fn owned_from_start(&self, write: WriteId, owner: &WorkerId, instance: InstanceId) -> Self {
        Self { owner: Some(owner.clone()), owner_instance: Some(instance), write_id: Some(write), ..self.clone() }
    }

    /// Whether the row is a tenure of this life of this worker.
    #[must_use]
    pub fn is_held_by(&self, owner: &WorkerId, instance: InstanceId) -> bool {
        self.owner.as_ref() == Some(owner) && self.owner_instance == Some(instance)
    }

    /// Whether this is the row that a write marked `id` has made.
    #[must_use]
    pub fn was_written_by(&self, id: WriteId) -> bool {
        self.write_id == Some(id)
    }

    /// Panics unless `self` is a transition of `current`, as [`LeaseTable::update_lease`](super::LeaseTable::update_lease)
    /// demands; for implementations of the trait.
    ///
    /// # Panics
    /// When the key differs, the counter is not greater by one, or the write id is missing or the same.
    pub fn assert_succeeds(&self, current: &Self) {
        let succeeds = self.key == current.key
            && current.counter.checked_add(1) == Some(self.counter)
            && self.write_id.is_some()
            && self.write_id != current.write_id;
        assert!(succeeds, "lease {} at counter {} is no successor of {} at {}", self.key, self.counter, current.key, current.counter);
    }

    fn successor(&self, write: WriteId) -> Self {
        Self { counter: self.counter.saturating_add(1), write_id: Some(write), ..self.clone() }
    }

    /// The row after `owner` takes or accepts it.
    #[must_use]
    pub fn taken(&self, write: WriteId, owner: &WorkerId, instance: InstanceId) -> Self {
        let previous = self.checkpoint_owner.as_ref().or(self.owner.as_ref());
        let switched = previous.is_some_and(|p| p != owner);
        Self {
            owner: Some(owner.clone()),
            owner_instance: Some(instance),
            checkpoint_owner: None,
            owner_switches: self.owner_switches.saturating_add(u64::from(switched)),
            ..self.successor(write)
        }
    }

    /// The row after progress; never backwards.
    #[must_use]
    pub fn checkpointed(&self, write: WriteId, checkpoint: Checkpoint) -> Self {
        Self { checkpoint: checkpoint.max(self.checkpoint), pending: None, owner_switches: 0, ..self.successor(write) }
    }

    /// The row after the first half of a two-phase checkpoint.
    #[must_use]
    pub fn prepared(&self, write: WriteId, pending: PendingCheckpoint) -> Self {
        Self { pending: Some(pending), ..self.successor(write) }
    }

    /// The row after the owner gives it to `to`, with its last checkpoint.
    #[must_use]
    pub fn handed_over(&self, write: WriteId, to: &WorkerId, checkpoint: Checkpoint) -> Self {
        Self {
            owner: Some(to.clone()),
            owner_instance: None,
            owner_switches: self.owner_switches.saturating_add(1),
            checkpoint: checkpoint.max(self.checkpoint),
            ..self.successor(write)
        }
    }

    /// The row after the owner gives it up, with its last checkpoint.
    #[must_use]
    pub fn released(&self, write: WriteId, checkpoint: Checkpoint) -> Self {
        Self { owner: None, owner_instance: None, checkpoint: checkpoint.max(self.checkpoint), ..self.successor(write) }
    }

    /// The row after the last record of a closed shard is processed. Nobody owns an ended lease.
    #[must_use]
    pub fn ended(&self, write: WriteId, children: impl IntoIterator<Item = ShardId>) -> Self {
        let mut next = self.released(write, Checkpoint::ShardEnd);
        next.pending = None;
        next.children.extend(children);
        next
    }

    /// Refuses a counter that cannot be one.
    ///
    /// # Errors
    /// `InvalidData` above [`Lease::MAX_COUNTER`].
    pub fn check_counter(&self) -> crate::error::Result<()> {
        if self.counter <= Self::MAX_COUNTER {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidData,
            format!("lease {} has counter {}, more than {}: restore or delete the row", self.key, self.counter, Self::MAX_COUNTER),
        ))
    }

    /// The row with metadata filled in that was missing.
    #[must_use]
    pub fn annotated(&self, write: WriteId, annotate: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.successor(write);
        annotate(&mut next);
        next
    }
}

/// Which state of a worker row a write expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerVersion {
    /// The life of the worker.
    pub instance: InstanceId,
    /// Its heartbeat.
    pub heartbeat: u64,
}

impl WorkerVersion {
    /// Of a row whose version cannot be read.
    pub const UNKNOWN: Self = Self { instance: InstanceId(0), heartbeat: 0 };
}

/// What a worker is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkerState {
    /// Takes leases.
    #[default]
    Active,
    /// Hands its leases over before it stops.
    Leaving,
    /// Its row cannot be read, as one that a later version wrote. Never written. The worker counts as alive and is left
    /// alone: it keeps its leases and gets none.
    Unreadable,
}

impl WorkerState {
    /// The text kept in the row.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Leaving => "LEAVING",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

impl std::str::FromStr for WorkerState {
    type Err = InvalidText;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "ACTIVE" => Ok(Self::Active),
            "LEAVING" => Ok(Self::Leaving),
            _ => Err(InvalidText::new("worker state", s, "expected ACTIVE or LEAVING")),
        }
    }
}

/// One worker row: alive while its heartbeat moves.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRow {
    /// Primary key.
    pub id: WorkerId,
    /// Life and heartbeat.
    pub version: WorkerVersion,
    /// What it is up to.
    pub state: WorkerState,
    /// Whether it does the housekeeping.
    pub leading: bool,
    /// The live workers as the housekeeper sees them, in the order in which they would succeed it.
    pub roster: Vec<WorkerId>,
    /// Most leases it wants; `None` for no limit.
    pub max_leases: Option<u32>,
    /// When it last wrote, by its own clock; for people and Java peers, never for decisions.
    pub updated: Timestamp,
    /// Messages not yet handled.
    pub signals: BTreeSet<Signal>,
}

/// What a heartbeat writes beside the heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerUpdate {
    /// What the worker is up to.
    pub state: WorkerState,
    /// Whether it does the housekeeping.
    pub leading: bool,
    /// The live workers, where it leads; else empty.
    pub roster: Vec<WorkerId>,
    /// Most leases it wants.
    pub max_leases: Option<u32>,
    /// Its wall time.
    pub updated: Timestamp,
    /// Signals that are done with.
    pub handled: BTreeSet<Signal>,
}

impl WorkerRow {
    /// A row that is there and cannot be read; with its version, if that much can be.
    #[must_use]
    pub fn unreadable(id: WorkerId, version: Option<WorkerVersion>) -> Self {
        Self {
            id,
            version: version.unwrap_or(WorkerVersion::UNKNOWN),
            state: WorkerState::Unreadable,
            leading: false,
            roster: Vec::new(),
            max_leases: None,
            updated: Timestamp::default(),
            signals: BTreeSet::new(),
        }
    }

    /// Whether it may be the row of this life of the worker.
    #[must_use]
    pub fn may_be(&self, instance: InstanceId) -> bool {
        self.version.instance == instance || self.version == WorkerVersion::UNKNOWN
    }

    /// The row after a heartbeat.
    #[must_use]
    pub fn renewed(&self, update: &WorkerUpdate) -> Self {
        Self {
            id: self.id.clone(),
            version: WorkerVersion { heartbeat: self.version.heartbeat + 1, ..self.version },
            state: update.state,
            leading: update.leading,
            roster: update.roster.clone(),
            max_leases: update.max_leases,
            updated: update.updated,
            signals: self.signals.difference(&update.handled).cloned().collect(),
        }
    }
}
