//! Lists all shards of a stream, page by page.

use std::collections::BTreeMap;

use crate::{
    error::{Error, ErrorKind, Result},
    retry::Backoff,
    stream::{PageToken, ShardFilter, StreamClient, StreamReference},
    types::{Shard, ShardId},
};

/// All shards that match `filter`, in the order of their ids. Tries again as long as `backoff` allows; a page token
/// that expired on the way starts the listing anew.
///
/// # Errors
/// Those of the client that trying again cannot mend, and the last one when the attempts are used up. `InvalidData`
/// when the service hands out the same page token twice.
pub(super) async fn list_all(
    client: &dyn StreamClient,
    stream: &StreamReference,
    filter: &ShardFilter,
    mut backoff: Backoff,
) -> Result<Vec<Shard>> {
    let mut shards: BTreeMap<ShardId, Shard> = BTreeMap::new();
    let mut token: Option<PageToken> = None;
    loop {
        match client.list_shards(stream, filter, token.as_ref()).await {
            Ok(page) => {
                shards.extend(page.shards.into_iter().map(|shard| (shard.id.clone(), shard)));
                match page.next {
                    None => return Ok(shards.into_values().collect()),
                    next if next == token => {
                        return Err(Error::new(
                            ErrorKind::InvalidData,
                            format!("ListShards of stream {stream} gave the same page token twice, and would never end"),
                        ));
                    }
                    next => token = next,
                }
            }
            Err(error) => {
                if error.kind() == ErrorKind::ExpiredToken {
                    shards.clear();
                    token = None;
                }
                if !error.is_retryable() || !backoff.wait().await {
                    return Err(error.context(format_args!("cannot list the shards of stream {stream}")));
                }
                tracing::debug!(%stream, %error, "ListShards failed, trying again");
            }
        }
    }
}
