//! A subscription as the body of an answer: one message at a time, made when the client has room for it.

use std::io;

use bytes::Bytes;
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;

use super::{
    event_stream::{event, exception},
    fault::Fault,
    faults::{Blow, Faults, Target},
    operations::{Batch, Next},
    protocol::Protocol,
};
use crate::{local::Subscription, stream::SubscriptionEvent};

/// What makes the messages.
pub(super) struct EventSource {
    pub(super) subscription: Subscription,
    pub(super) protocol: Protocol,
    pub(super) faults: Faults,
    pub(super) target: Target,
    /// The server is about to end.
    pub(super) stopping: CancellationToken,
}

enum State {
    /// The client waits for the first message before it calls the request answered.
    Begun,
    Running,
    Over,
}

impl EventSource {
    /// The messages; an error breaks the connection off, or only the stream of HTTP/2.
    pub(super) fn messages(self) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
        stream::unfold((self, State::Begun), |(mut source, state)| async move {
            match state {
                State::Begun => {
                    let first = event("initial-response", source.protocol, source.protocol.empty());
                    Some((Ok(first), (source, State::Running)))
                }
                State::Running => {
                    let (message, state) = source.next().await?;
                    Some((message, (source, state)))
                }
                State::Over => None,
            }
        })
    }

    async fn next(&mut self) -> Option<(Result<Bytes, io::Error>, State)> {
        loop {
            let changed = self.faults.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let delivered = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                () = changed => None,
                event = self.subscription.next() => Some(event?),
            };
            match self.faults.strikes(&self.target) {
                Some(Blow::Cut(error)) => return Some(self.cut(error)),
                // It keeps its place, and its client hears nothing of its end.
                Some(Blow::Freeze) => {
                    self.stopping.cancelled().await;
                    return None;
                }
                None => {}
            }
            let Some(event) = delivered else { continue };
            let message = event.map_err(Fault::from).and_then(|event| self.encode(&event));
            return Some(match message {
                Ok(message) => (Ok(message), State::Running),
                Err(fault) => (Ok(exception(self.protocol, &fault)), State::Over),
            });
        }
    }

    fn encode(&self, delivered: &SubscriptionEvent) -> Result<Bytes, Fault> {
        let batch = Batch {
            records: &delivered.records,
            millis_behind_latest: delivered.millis_behind_latest,
            next: delivered.continuation.map(Next::ContinuationSequenceNumber),
            // As in GetRecords, children come with the end of the shard only.
            child_shards: delivered.continuation.is_none().then_some(delivered.child_shards.as_slice()),
        };
        Ok(event("SubscribeToShardEvent", self.protocol, &batch.encode(self.protocol)?))
    }

    fn cut(&self, error: Option<String>) -> (Result<Bytes, io::Error>, State) {
        match error {
            Some(code) => (Ok(exception(self.protocol, &Fault::injected(400, code))), State::Over),
            None => (Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut by a fault rule")), State::Over),
        }
    }
}
