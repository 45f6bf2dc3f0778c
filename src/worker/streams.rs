//! The streams of a worker: described at start, named in leases.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    error::{Error, ErrorKind, Result},
    lease::Lease,
    random::Randomness,
    retry::{Obstacle, RetryConfig},
    stream::{StreamClient, StreamDescription, StreamReference, StreamStatus},
    types::{StreamArn, StreamIdentifier},
};

/// A stream of this worker, as leases name it.
#[derive(Debug, Clone)]
pub(super) struct KnownStream {
    pub(super) reference: StreamReference,
    pub(super) identifier: StreamIdentifier,
    pub(super) arn: StreamArn,
}

impl KnownStream {
    /// As lease rows name it: not at all where it is the only one.
    pub(super) fn in_leases(&self) -> Option<StreamIdentifier> {
        match &self.identifier {
            StreamIdentifier::Single(_) => None,
            multi @ StreamIdentifier::Multi { .. } => Some(multi.clone()),
        }
    }
}

/// Describes each stream, so that a wrong name, region or permission is told at once and by name.
pub(super) async fn resolve(
    client: &Arc<dyn StreamClient>,
    references: &[StreamReference],
    random: &Randomness,
    obstacle: &Obstacle,
) -> Result<Vec<KnownStream>> {
    let mut known = Vec::new();
    for reference in references {
        let description = describe(client, reference, random, obstacle).await?;
        let arn = description.arn.clone();
        if let Some(twin) = known.iter().find(|stream: &&KnownStream| stream.arn == arn) {
            let message = format!("streams {} and {reference} are the same one, {arn}: name each stream once", twin.reference);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let identifier = if references.len() == 1 {
            StreamIdentifier::Single(description.name)
        } else {
            StreamIdentifier::Multi {
                account_id: description.arn.account_id().to_owned(),
                name: description.name,
                epoch: u64::try_from(description.created.as_millis() / 1000).unwrap_or(0).max(1),
            }
        };
        known.push(KnownStream { reference: reference.clone(), identifier, arn });
    }
    Ok(known)
}

async fn describe(
    client: &Arc<dyn StreamClient>,
    reference: &StreamReference,
    random: &Randomness,
    obstacle: &Obstacle,
) -> Result<StreamDescription> {
    let mut backoff = RetryConfig::default().backoff(random);
    loop {
        match client.describe_stream(reference).await {
            Ok(description) if description.status == StreamStatus::Deleting => {
                return Err(Error::new(ErrorKind::NotFound, format!("stream {reference} is being deleted")));
            }
            Ok(description) if description.status == StreamStatus::Creating => {
                obstacle.waits(format_args!("stream {reference} is being made: reading begins when it is active"));
            }
            Ok(description) => {
                obstacle.passed();
                return Ok(description);
            }
            Err(error) if error.is_retryable() => obstacle.met(format_args!("find stream {reference}"), &error),
            Err(error) => return Err(error.context(format!("cannot read stream {reference}"))),
        }
        backoff.wait().await;
    }
}

/// Finds the stream of a lease.
pub(super) fn stream_of<'a, T>(streams: &'a BTreeMap<StreamIdentifier, T>, lease: &Lease) -> Option<&'a T> {
    match &lease.stream {
        Some(identifier) => streams.get(identifier),
        None => streams.iter().find(|(id, _)| matches!(id, StreamIdentifier::Single(_))).map(|(_, stream)| stream),
    }
}
