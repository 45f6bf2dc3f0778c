//! The way between a worker and a service, as a test shapes it.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    error::{Error, ErrorKind, Result},
    task::Spawner,
    types::{ConsumerArn, ShardId},
};

/// What a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The stream.
    Stream,
    /// The lease table.
    LeaseTable,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the methods of StreamClient and LeaseTable")]
pub enum Operation {
    DescribeStream,
    ListShards,
    ShardIterator,
    GetRecords,
    Initialize,
    Scan,
    GetLease,
    CreateLease,
    UpdateLease,
    DeleteLease,
    GetWorkers,
    PutWorker,
    Heartbeat,
    Signal,
    DeleteWorker,
    RegisterStreamConsumer,
    DescribeStreamConsumer,
    ListStreamConsumers,
    DeregisterStreamConsumer,
    SubscribeToShard,
    /// An event of a subscription, on its way to the worker.
    SubscriptionEvent,
}

impl Operation {
    /// What it goes to.
    #[must_use]
    pub const fn service(self) -> Service {
        match self {
            Self::DescribeStream
            | Self::ListShards
            | Self::ShardIterator
            | Self::GetRecords
            | Self::RegisterStreamConsumer
            | Self::DescribeStreamConsumer
            | Self::ListStreamConsumers
            | Self::DeregisterStreamConsumer
            | Self::SubscribeToShard
            | Self::SubscriptionEvent => Service::Stream,
            Self::Initialize
            | Self::Scan
            | Self::GetLease
            | Self::CreateLease
            | Self::UpdateLease
            | Self::DeleteLease
            | Self::GetWorkers
            | Self::PutWorker
            | Self::Heartbeat
            | Self::Signal
            | Self::DeleteWorker => Service::LeaseTable,
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Counts the requests of one wrapper, from 1.
    pub number: u64,
    /// What it asks for.
    pub operation: Operation,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the worker to the service.
    Request,
    /// From the service to the worker.
    Response,
}

/// What becomes of a request before it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// It arrives.
    #[default]
    Delivered,
    /// It is lost: silence, until the time limit.
    Lost,
    /// It is lost, and the caller sees the connection break.
    Reset,
    /// The service turns it down, without effect, with an error of this kind.
    Refused(ErrorKind),
}

/// What becomes of the response, after the request took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// It arrives.
    #[default]
    Delivered,
    /// It is lost: silence, until the time limit.
    Lost,
    /// It is lost, and the caller sees the connection break.
    Reset,
    /// The service says that it failed, though it did not.
    Failed,
}

/// A request that arrives twice, as a retry below the application makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Time between the two.
    pub after: Duration,
    /// Whether the caller gets the answer to the second one; then it waits for it. Else it gets that to the first.
    pub answers: bool,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// Time on the way there.
    pub request_delay: Duration,
    /// How it ends there.
    pub arrival: Arrival,
    /// Whether it arrives twice.
    pub repeat: Option<Repeat>,
    /// Time on the way back.
    pub response_delay: Duration,
    /// How it ends there.
    pub answer: Answer,
}

/// Decides over requests. A [`Fate`] in a closure is a network: `|call: &Call| Fate { .. }`.
pub trait Network: Send + Sync + 'static {
    /// What happens to this request, asked when it leaves.
    fn fate(&self, call: &Call) -> Fate;

    /// Whether the way is cut at this moment, asked when a message would arrive. A message that meets a cut is lost.
    fn is_cut(&self, call: &Call, direction: Direction) -> bool;

    /// Told of each `SubscribeToShard` before its fate is asked for, for those who count them.
    fn subscribes(&self, _consumer: &ConsumerArn, _shard: &ShardId) {}
}

impl<F: Fn(&Call) -> Fate + Send + Sync + 'static> Network for F {
    fn fate(&self, call: &Call) -> Fate {
        self(call)
    }

    fn is_cut(&self, _call: &Call, _direction: Direction) -> bool {
        false
    }
}

/// Carries requests. They belong to the network: once sent they take effect, whether or not the caller still waits,
/// is frozen or dead.
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) network: Arc<dyn Network>,
    pub(super) spawner: Spawner,
    /// The caller's time limit.
    pub(super) timeout: Duration,
}

impl Carrier {
    pub(super) async fn carry<T: Send + 'static>(
        &self,
        call: Call,
        apply: impl Fn() -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let network = Arc::clone(&self.network);
        let fate = network.fate(&call);
        self.spawner.spawn("network", travel(network, call, fate, apply, reply)).detach();
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(reset(call)),
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("{:?} was not answered within {} ms", call.operation, self.timeout.as_millis())))
            }
        }
    }
}

async fn travel<T: Send + 'static>(
    network: Arc<dyn Network>,
    call: Call,
    fate: Fate,
    apply: impl Fn() -> BoxFuture<'static, Result<T>> + Send + 'static,
    reply: oneshot::Sender<Result<T>>,
) {
    wait(fate.request_delay).await;
    match fate.arrival {
        _ if network.is_cut(&call, Direction::Request) => return silence(reply).await,
        Arrival::Lost => return silence(reply).await,
        Arrival::Reset => return answer_with(reply, Err(reset(call))),
        Arrival::Refused(kind) => {
            wait(fate.response_delay).await;
            return answer_with(reply, Err(Error::new(kind, format!("{:?} was refused by the test's network", call.operation))));
        }
        Arrival::Delivered => {}
    }
    let first = apply().await;
    let result = match fate.repeat {
        None => first,
        Some(Repeat { after, answers: true }) => {
            wait(after).await;
            apply().await
        }
        Some(Repeat { after, answers: false }) => {
            respond(&network, call, fate, first, reply).await;
            wait(after).await;
            drop(apply().await);
            return;
        }
    };
    respond(&network, call, fate, result, reply).await;
}

async fn respond<T>(network: &Arc<dyn Network>, call: Call, fate: Fate, result: Result<T>, reply: oneshot::Sender<Result<T>>) {
    wait(fate.response_delay).await;
    match fate.answer {
        _ if network.is_cut(&call, Direction::Response) => silence(reply).await,
        Answer::Delivered => answer_with(reply, result),
        Answer::Lost => silence(reply).await,
        Answer::Reset => answer_with(reply, Err(reset(call))),
        Answer::Failed => answer_with(
            reply,
            Err(Error::new(ErrorKind::Unavailable, format!("{:?} failed after it took effect, by the test's network", call.operation))),
        ),
    }
}

/// A timer takes at least a millisecond, even for no time at all.
pub(super) async fn wait(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

async fn silence<T>(mut reply: oneshot::Sender<T>) {
    reply.closed().await;
}

fn answer_with<T>(reply: oneshot::Sender<T>, answer: T) {
    // Nobody listens any more when the caller gave up.
    drop(reply.send(answer));
}

pub(super) fn reset(call: Call) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the connection broke during {:?}", call.operation))
}
