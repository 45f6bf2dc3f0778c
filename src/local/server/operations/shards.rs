//! Shards: list, split, merge, change their number.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{count, hash_key, required, shard_id, stream, stream_if_any},
        protocol::Moment,
    },
    Call,
};
use crate::{
    local::ListShards,
    stream::{PageToken, ShardFilter},
    types::{HashKeyRange, Shard},
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HashKeyRangeOutput {
    starting_hash_key: String,
    ending_hash_key: String,
}

impl From<HashKeyRange> for HashKeyRangeOutput {
    fn from(range: HashKeyRange) -> Self {
        Self { starting_hash_key: range.start().to_string(), ending_hash_key: range.end().to_string() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRangeOutput {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

/// A shard as `ListShards` and `DescribeStream` show it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardOutput {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRangeOutput,
    sequence_number_range: SequenceNumberRangeOutput,
}

impl From<Shard> for ShardOutput {
    fn from(shard: Shard) -> Self {
        let mut parents = shard.parents.into_iter().map(String::from);
        Self {
            shard_id: shard.id.to_string(),
            parent_shard_id: parents.next(),
            adjacent_parent_shard_id: parents.next(),
            hash_key_range: shard.hash_key_range.into(),
            sequence_number_range: SequenceNumberRangeOutput {
                starting_sequence_number: shard.starting_sequence_number.to_string(),
                ending_sequence_number: shard.ending_sequence_number.map(String::from),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilterInput {
    r#type: Option<String>,
    shard_id: Option<String>,
    timestamp: Option<Moment>,
}

impl ShardFilterInput {
    fn filter(self) -> Result<ShardFilter, Fault> {
        let moment = |name: &str| match self.timestamp {
            Some(Moment(at)) => Ok(at),
            None => Err(Fault::invalid_argument(format!("A ShardFilter of type {name} needs a Timestamp."))),
        };
        match required(self.r#type, "shardFilter.type")?.as_str() {
            "FROM_TRIM_HORIZON" => Ok(ShardFilter::All),
            "AT_TRIM_HORIZON" => Ok(ShardFilter::AtTrimHorizon),
            "AT_LATEST" => Ok(ShardFilter::AtLatest),
            "AT_TIMESTAMP" => Ok(ShardFilter::AtTimestamp(moment("AT_TIMESTAMP")?)),
            "FROM_TIMESTAMP" => Ok(ShardFilter::FromTimestamp(moment("FROM_TIMESTAMP")?)),
            "AFTER_SHARD_ID" => match self.shard_id {
                Some(id) => Ok(ShardFilter::AfterShardId(shard_id(Some(id), "shardFilter.shardId")?)),
                None => Err(Fault::invalid_argument("A ShardFilter of type AFTER_SHARD_ID needs a ShardId.")),
            },
            other => Err(Fault::validation(
                other,
                "shardFilter.type",
                "Member must satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListShardsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Moment>,
    shard_filter: Option<ShardFilterInput>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListShardsOutput {
    shards: Vec<ShardOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn list_shards(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ListShardsInput = call.input()?;
    let named = input.stream_name.is_some();
    let stream = stream_if_any(input.stream_name, input.stream_arn)?;
    // Beside a token the service takes an ARN, which it needs for streams of other accounts, but no name.
    let stream = if input.next_token.is_some() && !named { None } else { stream };
    let page = call.kinesis.list_shards(&ListShards {
        stream,
        next_token: input.next_token.map(PageToken),
        exclusive_start_shard_id: input.exclusive_start_shard_id.map(|id| shard_id(Some(id), "exclusiveStartShardId")).transpose()?,
        max_results: count(input.max_results, "maxResults")?,
        filter: input.shard_filter.map(ShardFilterInput::filter).transpose()?,
        stream_creation_timestamp: input.stream_creation_timestamp.map(|Moment(at)| at),
    })?;
    call.output(&ListShardsOutput {
        shards: page.shards.into_iter().map(ShardOutput::from).collect(),
        next_token: page.next.map(|PageToken(token)| token),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SplitShardInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}

pub(super) fn split_shard(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: SplitShardInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let shard = shard_id(input.shard_to_split, "shardToSplit")?;
    let key = hash_key(&required(input.new_starting_hash_key, "newStartingHashKey")?, "newStartingHashKey")?;
    call.kinesis.split_shard(&stream, &shard, key)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MergeShardsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}

pub(super) fn merge_shards(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: MergeShardsInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let shard = shard_id(input.shard_to_merge, "shardToMerge")?;
    let adjacent = shard_id(input.adjacent_shard_to_merge, "adjacentShardToMerge")?;
    call.kinesis.merge_shards(&stream, &shard, &adjacent)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateShardCountInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateShardCountOutput {
    stream_name: String,
    current_shard_count: u32,
    target_shard_count: u32,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
}

pub(super) fn update_shard_count(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: UpdateShardCountInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let target = required(count(input.target_shard_count, "targetShardCount")?, "targetShardCount")?;
    let scaling = required(input.scaling_type, "scalingType")?;
    if scaling != "UNIFORM_SCALING" {
        return Err(Fault::validation(scaling, "scalingType", "Member must satisfy enum value set: [UNIFORM_SCALING]"));
    }
    let updated = call.kinesis.update_shard_count(&stream, target)?;
    call.output(&UpdateShardCountOutput {
        stream_name: updated.stream_name.to_string(),
        current_shard_count: updated.current_shard_count,
        target_shard_count: updated.target_shard_count,
        stream_arn: updated.stream_arn.to_string(),
    })
}
