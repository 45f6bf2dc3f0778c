//! What happens in a run, as the invariants see it and the timeline shows it.

use std::fmt::{self, Display};

use shardkeeper::{
    lease::{Lease, Signal, WorkerRow, WorkerVersion},
    types::{Checkpoint, ExtendedSequenceNumber, Shard, ShardId, StreamName, Timestamp, WorkerId},
};

/// One process: a new number with every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

impl Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:<3}", self.0)
    }
}

/// A shard of one of the streams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShardKey {
    /// The number of the stream, from 0.
    pub(crate) stream: u32,
    pub(crate) shard: ShardId,
}

impl ShardKey {
    /// The shard of a lease.
    pub(crate) fn of(lease: &Lease) -> Self {
        Self { stream: lease.stream.as_ref().map_or(0, |stream| stream_number(stream.name())), shard: lease.shard_id.clone() }
    }

    /// Another shard of the same stream.
    pub(crate) fn sibling(&self, shard: &ShardId) -> Self {
        Self { stream: self.stream, shard: shard.clone() }
    }
}

/// `s12` for `shardId-000000000012`, `2/s12` in stream 2.
impl Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.shard.as_str().trim_start_matches("shardId-").trim_start_matches('0');
        if self.stream > 0 {
            write!(f, "{}/", self.stream)?;
        }
        write!(f, "s{}", if digits.is_empty() { "0" } else { digits })
    }
}

/// The name of a stream by its number.
pub(crate) fn stream_name(number: u32) -> StreamName {
    let name = if number == 0 { crate::STREAM.to_owned() } else { format!("{}-{number}", crate::STREAM) };
    name.parse().expect("a valid name")
}

/// The number of a stream by its name.
pub(crate) fn stream_number(name: &StreamName) -> u32 {
    let number = name.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(0)
}

/// The low digits, which differ within a shard.
struct Tail(ExtendedSequenceNumber);

impl Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.sequence_number.to_string();
        write!(f, "..{}", &text[text.len().saturating_sub(12)..])?;
        if self.0.sub_sequence_number > 0 { write!(f, "/{}", self.0.sub_sequence_number) } else { Ok(()) }
    }
}

struct At<'a>(&'a Checkpoint);

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Checkpoint::Sequence(n) => Tail(*n).fmt(f),
            sentinel => write!(f, "{sentinel}"),
        }
    }
}

/// `s3#17 n2:ab12 at ..000123`.
pub(crate) struct Row<'a>(pub(crate) &'a Lease);

impl Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} ", ShardKey::of(self.0), self.0.counter)?;
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
    pub(crate) shard: ShardKey,
    /// The fencing token, the lease counter at acquisition.
    pub(crate) token: u64,
    /// Counts the processors of a run.
    pub(crate) processor: u64,
}

impl Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}#{}", self.node, self.shard, self.token)
    }
}

/// A call of user code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callback {
    Initialize(Checkpoint),
    Process(Vec<ExtendedSequenceNumber>),
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
    /// Somebody has paused or resumed the deliveries of a process, or those of one stream.
    Paused {
        node: NodeId,
        stream: Option<u32>,
        paused: bool,
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
        shard: ShardKey,
        records: Vec<ExtendedSequenceNumber>,
        arrival: Timestamp,
    },
    /// The service has shown this shard to somebody.
    ShardSeen(u32, Shard),
    /// The service has said that the shard is closed and at its end.
    EndSeen {
        shard: ShardKey,
    },
    /// A process asks for a subscription.
    Subscribes {
        node: NodeId,
        shard: ShardKey,
    },
    /// All that arrived before is past retention, and so are these shards.
    Trimmed {
        before: Timestamp,
        gone: Vec<ShardKey>,
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
    /// User code is done with a part of the batch in hand, and will say so in a checkpoint of its own.
    DoneByHand {
        by: Served,
        records: Vec<ExtendedSequenceNumber>,
    },
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted { node, slot, worker } => write!(f, "{node} BOOT slot {slot} as {worker}"),
            Self::Killed { node } => write!(f, "{node} KILL"),
            Self::Frozen { node } => write!(f, "{node} FREEZE"),
            Self::Resumed { node } => write!(f, "{node} RESUME"),
            Self::Paused { node, stream, paused } => {
                write!(f, "{node} deliveries {}", if *paused { "paused" } else { "resumed" })?;
                stream.map_or(Ok(()), |stream| write!(f, " of stream {stream}"))
            }
            Self::StopAsked { node } => write!(f, "{node} STOP asked"),
            Self::Exited { node, result: Ok(report) } => write!(f, "{node} EXIT {report}"),
            Self::Exited { node, result: Err(error) } => write!(f, "{node} EXIT with error: {error}"),
            Self::Fault(fault) => write!(f, "     FAULT {fault}"),
            Self::Healed => write!(f, "     HEAL"),
            Self::Put { shard, records, .. } => match (records.first(), records.last()) {
                (Some(first), Some(last)) => {
                    write!(f, "     put {} into {shard} from {} to {}", records.len(), Tail(*first), Tail(*last))
                }
                _ => Ok(()),
            },
            Self::ShardSeen(stream, shard) => {
                let key = ShardKey { stream: *stream, shard: shard.id.clone() };
                write!(f, "     shard {key} {}", if shard.is_open() { "open" } else { "closed" })?;
                for parent in &shard.parents {
                    write!(f, " < {}", key.sibling(parent))?;
                }
                Ok(())
            }
            Self::Subscribes { node, shard } => write!(f, "{node} subscribe to {shard}"),
            Self::EndSeen { shard } => write!(f, "     end of {shard} read"),
            Self::Trimmed { before, gone } => {
                write!(f, "     TRIM all before {before}, gone:")?;
                gone.iter().try_for_each(|shard| write!(f, " {shard}"))
            }
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
            Self::DoneByHand { by, records } => match records.last() {
                Some(last) => write!(f, "{by} checkpoints by hand at {}", Tail(*last)),
                None => Ok(()),
            },
        }
    }
}
