//! How each stream of a worker is read, settled when it starts.

use std::sync::Arc;

use super::streams::KnownStream;
use crate::{
    error::{Error, Result},
    random::Randomness,
    retrieval::{Consumer, Retrieval, fan_out::Registration},
    stream::StreamClient,
    types::ConsumerName,
};

/// The stream consumer to read this stream with, active; `None` when it is to be polled.
///
/// # Errors
/// What keeps the stream consumer from being used and will not go away by itself: told at once and by name.
pub(super) async fn resolve(
    client: &Arc<dyn StreamClient>,
    stream: &KnownStream,
    application: &str,
    retrieval: &Retrieval,
    random: &Randomness,
) -> Result<Option<Registration>> {
    let by_name = |name| Registration::by_name(Arc::clone(client), stream.arn.clone(), name, random.clone());
    let registration = match retrieval {
        Retrieval::Polling => return Ok(None),
        Retrieval::FanOut(Consumer::Arn(arn)) => Registration::by_arn(Arc::clone(client), arn.clone(), random.clone()),
        Retrieval::FanOut(Consumer::Name(name)) => by_name(name.clone()),
        Retrieval::FanOut(Consumer::OfApplication) => by_name(ConsumerName::new(application)?),
        Retrieval::Automatic => match ConsumerName::new(application) {
            Ok(name) => by_name(name),
            Err(error) => return Ok(polled(stream, &error.into())),
        },
    };
    match registration.arn().await {
        Ok(consumer) => {
            tracing::info!(stream = %stream.reference, %consumer, "the stream is read by enhanced fan-out");
            Ok(Some(registration))
        }
        Err(error) if *retrieval == Retrieval::Automatic => Ok(polled(stream, &error)),
        // Shards subscribe as soon as it is there, and their status says what they wait for.
        Err(error) if error.is_retryable() => {
            tracing::warn!(stream = %stream.reference, error = format!("{error:#}"), "the stream consumer cannot be used yet");
            Ok(Some(registration))
        }
        Err(error) => Err(error.context(format!("cannot read stream {} by enhanced fan-out", stream.reference))),
    }
}

/// Says once why a stream is polled that would better not be.
fn polled(stream: &KnownStream, why: &Error) -> Option<Registration> {
    tracing::warn!(stream = %stream.reference, error = format!("{why:#}"), "no enhanced fan-out: the stream is polled");
    None
}
