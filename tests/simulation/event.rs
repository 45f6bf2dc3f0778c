//! What happens in a run, as the invariants see it and the timeline shows it.

use std::fmt::{self, Display};

use shardkeeper::{
    lease::{Lease, Signal, WorkerRow, WorkerVersion},
    types::{Checkpoint, SequenceNumber, Shard, ShardId, Timestamp, WorkerId},
};

/// One process: a new number with every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:<3}", self.0)
    }
}

/// `s12` for `shardId-000000000012`.
pub(crate) struct Short<'a>(pub(crate) &'a ShardId);

impl Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.as_str().trim_start_matches("shardId-").trim_start_matches('0');
        write!(f, "s{}", if digits.is_empty() { "0" } else { digits })
    }
}

/// The low digits, which differ within a shard.
struct Tail(SequenceNumber);

impl Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        write!(f, "..{}", &text[text.len().saturating_sub(12)..])
    }
}

struct At<'a>(&'a Checkpoint);

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Checkpoint::Sequence(n) => Tail(n.sequence_number).fmt(f),
            sentinel => write!(f, "{sentinel}"),
        }
    }
}

/// `s3#17 n2:ab12 at ..000123`.
pub(crate) struct Row<'a>(pub(crate) &'a Lease);

impl Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} ", Short(&self.0.shard_id), self.0.counter)?;
        match (&self.0.owner, self.0.owner_instance) {
            (None, _) => f.write_str("free")?,
            (Some(owner), None) => write!(f, "for {owner}")?,
            (Some(owner), Some(instance)) => write!(f, "{owner}:{:04x}", instance.0 >> 48)?,
        }
        write!(f, " at {}", At(&self.0.checkpoint))
    }
}

/// A processor: the tenure it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
    /// The fencing token, the lease counter at acquisition.
    pub(crate) token: u64,
    /// Counts the processors of a run.
    pub(crate) processor: u64,
}

impl Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}#{}", self.node, Short(&self.shard), self.token)
    }
}

/// A call of user code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callback {
    Initialize(Checkpoint),
    Process(Vec<SequenceNumber>),
    LeaseLost,
    ShardEnded,
    ShutdownRequested,
}

impl Callback {
    /// Whether nothing may follow it.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::LeaseLost | Self::ShardEnded | Self::ShutdownRequested)
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Initialize(_) => "initialize",
            Self::Process(_) => "process_records",
            Self::LeaseLost => "lease_lost",
            Self::ShardEnded => "shard_ended",
            Self::ShutdownRequested => "shutdown_requested",
        }
    }
}

impl Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Initialize(checkpoint) => write!(f, " at {}", At(checkpoint)),
            Self::Process(records) => match (records.first(), records.last()) {
                (Some(first), Some(last)) => write!(f, " {} from {} to {}", records.len(), Tail(*first), Tail(*last)),
                _ => f.write_str(" nothing"),
            },
            Self::LeaseLost | Self::ShardEnded | Self::ShutdownRequested => Ok(()),
        }
    }
}

/// How a call of user code ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Failed,
    Panicked,
    /// The framework dropped it.
    Dropped,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Booted {
        node: NodeId,
        slot: u32,
        worker: WorkerId,
    },
    Killed {
        node: NodeId,
    },
    Frozen {
        node: NodeId,
    },
    Resumed {
        node: NodeId,
    },
    StopAsked {
        node: NodeId,
    },
    Exited {
        node: NodeId,
        result: Result<String, String>,
    },
    /// The nemesis strikes.
    Fault(String),
    /// All faults are off from here on.
    Healed,
    /// A producer has put records.
    Put {
        shard: ShardId,
        records: Vec<SequenceNumber>,
        arrival: Timestamp,
    },
    /// The service has shown this shard to somebody.
    ShardSeen(Shard),
    /// The service has said that the shard is closed and at its end.
    EndSeen {
        shard: ShardId,
    },
    /// A conditional write of a lease leaves a worker.
    LeaseSent {
        node: NodeId,
        from: Lease,
        to: Lease,
    },
    LeaseCreated {
        node: NodeId,
        lease: Lease,
    },
    LeaseUpdated {
        node: NodeId,
        from: Lease,
        to: Lease,
    },
    LeaseDeleted {
        node: NodeId,
        from: Lease,
    },
    WorkerPut {
        node: NodeId,
        row: WorkerRow,
    },
    WorkerRenewed {
        node: NodeId,
        worker: WorkerId,
        version: WorkerVersion,
        stamp: Timestamp,
    },
    WorkerDeleted {
        node: NodeId,
        worker: WorkerId,
        version: WorkerVersion,
    },
    /// A heartbeat, or the registration that is the first one, leaves a worker.
    HeartbeatSent {
        node: NodeId,
        version: WorkerVersion,
        stamp: Timestamp,
    },
    /// Signals were left in a worker's row.
    Signalled {
        node: NodeId,
        to: WorkerId,
        signals: Vec<Signal>,
    },
    CallStarted {
        by: Served,
        call: Callback,
    },
    CallEnded {
        by: Served,
        call: Callback,
        ending: Ending,
    },
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted { node, slot, worker } => write!(f, "{node} BOOT slot {slot} as {worker}"),
            Self::Killed { node } => write!(f, "{node} KILL"),
            Self::Frozen { node } => write!(f, "{node} FREEZE"),
            Self::Resumed { node } => write!(f, "{node} RESUME"),
            Self::StopAsked { node } => write!(f, "{node} STOP asked"),
            Self::Exited { node, result: Ok(report) } => write!(f, "{node} EXIT {report}"),
            Self::Exited { node, result: Err(error) } => write!(f, "{node} EXIT with error: {error}"),
            Self::Fault(fault) => write!(f, "     FAULT {fault}"),
            Self::Healed => write!(f, "     HEAL"),
            Self::Put { shard, records, .. } => match (records.first(), records.last()) {
                (Some(first), Some(last)) => {
                    write!(f, "     put {} into {} from {} to {}", records.len(), Short(shard), Tail(*first), Tail(*last))
                }
                _ => Ok(()),
            },
            Self::ShardSeen(shard) => {
                write!(f, "     shard {} {}", Short(&shard.id), if shard.is_open() { "open" } else { "closed" })?;
                for parent in &shard.parents {
                    write!(f, " < {}", Short(parent))?;
                }
                Ok(())
            }
            Self::EndSeen { shard } => write!(f, "     end of {} read", Short(shard)),
            Self::LeaseSent { node, to, .. } => write!(f, "{node} send {}", Row(to)),
            Self::LeaseCreated { node, lease } => write!(f, "{node} CREATE {}", Row(lease)),
            Self::LeaseUpdated { node, to, .. } => write!(f, "{node} WRITE {}", Row(to)),
            Self::LeaseDeleted { node, from } => write!(f, "{node} DELETE {}", Row(from)),
            Self::WorkerPut { node, row } => write!(f, "{node} join {} {} beat {}", row.id, row.version.instance, row.version.heartbeat),
            Self::WorkerRenewed { node, worker, version, .. } => write!(f, "{node} beat {worker} {}", version.heartbeat),
            Self::WorkerDeleted { node, worker, version } => write!(f, "{node} remove {worker} {}", version.instance),
            Self::HeartbeatSent { node, version, .. } => write!(f, "{node} send beat {}", version.heartbeat),
            Self::Signalled { node, to, signals } => {
                write!(f, "{node} signal to {to}:")?;
                signals.iter().try_for_each(|signal| write!(f, " {}", signal.to_text()))
            }
            Self::CallStarted { by, call } => write!(f, "{by} {call}"),
            Self::CallEnded { by, call, ending } => write!(f, "{by} {} {ending:?}", call.name()),
        }
    }
}
