//! The SDK's types to the crate's and back.

use aws_sdk_kinesis::types as sdk;
use aws_smithy_types::DateTime;

use crate::{
    error::{Error, ErrorKind, Result},
    stream::{ShardFilter, StreamDescription, StreamStatus},
    types::{HashKeyRange, InvalidText, SequenceNumber, Shard, ShardId, Timestamp},
};

/// What the service sent and the crate cannot hold; never the caller's input.
pub(super) fn unreadable(error: InvalidText) -> Error {
    Error::new(ErrorKind::InvalidData, "the service's answer cannot be read").with_source(error)
}

fn missing(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the service's answer has no {what}"))
}

pub(super) fn date_time(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millis())
}

/// Rounds to the millisecond, which is what the service stamps: JSON carries moments as floating-point seconds, in
/// which `.123` arrives as `.122999…`. Moments beyond 292 million years from now do not fit and count as the epoch.
pub(super) fn timestamp(at: DateTime) -> Timestamp {
    let millis = (at.as_nanos() + 500_000).div_euclid(1_000_000);
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(0))
}

fn hash_key_range(range: Option<sdk::HashKeyRange>) -> Result<HashKeyRange> {
    let range = range.ok_or_else(|| missing("hash key range"))?;
    HashKeyRange::parse(&range.starting_hash_key, &range.ending_hash_key).map_err(unreadable)
}

pub(super) fn shard(shard: sdk::Shard) -> Result<Shard> {
    let numbers = shard.sequence_number_range.ok_or_else(|| missing("sequence number range"))?;
    let parents = shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id);
    Ok(Shard {
        id: ShardId::new(shard.shard_id).map_err(unreadable)?,
        parents: parents.map(ShardId::new).collect::<Result<_, _>>().map_err(unreadable)?,
        hash_key_range: hash_key_range(shard.hash_key_range)?,
        starting_sequence_number: SequenceNumber::parse(&numbers.starting_sequence_number).map_err(unreadable)?,
        ending_sequence_number: numbers.ending_sequence_number.as_deref().map(SequenceNumber::parse).transpose().map_err(unreadable)?,
    })
}

pub(super) fn description(summary: sdk::StreamDescriptionSummary) -> Result<StreamDescription> {
    Ok(StreamDescription {
        name: summary.stream_name.parse().map_err(unreadable)?,
        arn: summary.stream_arn.parse().map_err(unreadable)?,
        status: match summary.stream_status {
            sdk::StreamStatus::Active => StreamStatus::Active,
            sdk::StreamStatus::Creating => StreamStatus::Creating,
            sdk::StreamStatus::Deleting => StreamStatus::Deleting,
            // A status that a later version of the service adds is a change in progress.
            _ => StreamStatus::Updating,
        },
        created: timestamp(summary.stream_creation_timestamp),
        retention_hours: u32::try_from(summary.retention_period_hours).map_err(|_| missing("retention period"))?,
        open_shard_count: u32::try_from(summary.open_shard_count).map_err(|_| missing("open shard count"))?,
        // Absent from answers of emulators that know no stream consumers.
        consumer_count: summary.consumer_count.map_or(Ok(0), u32::try_from).map_err(|_| missing("consumer count"))?,
    })
}

/// `None` lists all shards in retention, which is what no filter means.
pub(super) fn shard_filter(filter: &ShardFilter) -> Option<sdk::ShardFilter> {
    let builder = sdk::ShardFilter::builder();
    let builder = match filter {
        ShardFilter::All => return None,
        ShardFilter::AfterShardId(id) => builder.r#type(sdk::ShardFilterType::AfterShardId).shard_id(id.as_str()),
        ShardFilter::AtLatest => builder.r#type(sdk::ShardFilterType::AtLatest),
        ShardFilter::AtTrimHorizon => builder.r#type(sdk::ShardFilterType::AtTrimHorizon),
        ShardFilter::AtTimestamp(at) => builder.r#type(sdk::ShardFilterType::AtTimestamp).timestamp(date_time(*at)),
        ShardFilter::FromTimestamp(at) => builder.r#type(sdk::ShardFilterType::FromTimestamp).timestamp(date_time(*at)),
    };
    Some(builder.build().expect("the type is set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_millisecond() {
        for millis in [0, 1, 999, 1_795_262_400_122, 1_795_262_400_123, 1_795_262_400_999, -1] {
            #[expect(clippy::cast_precision_loss, reason = "what the wire does")]
            let on_the_wire = DateTime::from_secs_f64(millis as f64 / 1000.0);
            assert_eq!(timestamp(on_the_wire), Timestamp::from_millis(millis));
        }
    }

    #[test]
    fn nonsense_from_the_service_is_an_error_not_a_panic() {
        let bare = sdk::Shard::builder().shard_id("shardId-000000000000").build().expect("complete");
        assert_eq!(shard(bare).expect_err("no ranges").kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn a_merged_shard_names_both_parents() {
        let merged = sdk::Shard::builder()
            .shard_id("shardId-000000000002")
            .parent_shard_id("shardId-000000000000")
            .adjacent_parent_shard_id("shardId-000000000001")
            .hash_key_range(sdk::HashKeyRange::builder().starting_hash_key("0").ending_hash_key("9").build().expect("complete"))
            .sequence_number_range(sdk::SequenceNumberRange::builder().starting_sequence_number("7").build().expect("complete"))
            .build()
            .expect("complete");
        let merged = shard(merged).expect("valid");
        assert_eq!(merged.parents, [ShardId::from_index(0), ShardId::from_index(1)]);
        assert!(merged.is_open());
    }
}
