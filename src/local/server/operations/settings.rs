//! Settings of streams and consumers: tags, encryption, metrics, mode, throughput, record size, policies; and limits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{count, required, resource, stream},
    },
    Call,
    streams::StreamModeDetails,
};
use crate::{
    local::{LocalKinesis, MonitoringChange, RecordDistributionStrategy, ServiceError, ShardLevelMetric, WarmThroughput},
    stream::StreamReference,
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

fn tags(tags: impl IntoIterator<Item = (String, String)>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key, value }).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamTagsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
    exclusive_start_tag_key: Option<String>,
    limit: Option<i64>,
}

pub(super) fn add_tags_to_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: StreamTagsInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    call.kinesis.add_tags_to_stream(&stream, required(input.tags, "tags")?)?;
    Ok(Bytes::new())
}

pub(super) fn remove_tags_from_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: StreamTagsInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    call.kinesis.remove_tags_from_stream(&stream, &required(input.tag_keys, "tagKeys")?)?;
    Ok(Bytes::new())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamTagsOutput {
    tags: Vec<Tag>,
    has_more_tags: bool,
}

pub(super) fn list_tags_for_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: StreamTagsInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let limit = count(input.limit, "limit")?;
    let page = call.kinesis.list_tags_for_stream(&stream, input.exclusive_start_tag_key.as_deref(), limit)?;
    call.output(&StreamTagsOutput { tags: tags(page.tags), has_more_tags: page.has_more_tags })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceInput {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
    policy: Option<String>,
}

pub(super) fn tag_resource(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.kinesis.tag_resource(&resource(input.resource_arn)?, required(input.tags, "tags")?)?;
    Ok(Bytes::new())
}

pub(super) fn untag_resource(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.kinesis.untag_resource(&resource(input.resource_arn)?, &required(input.tag_keys, "tagKeys")?)?;
    Ok(Bytes::new())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceTagsOutput {
    tags: Vec<Tag>,
}

pub(super) fn list_tags_for_resource(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.output(&ResourceTagsOutput { tags: tags(call.kinesis.list_tags_for_resource(&resource(input.resource_arn)?)?) })
}

pub(super) fn put_resource_policy(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.kinesis.put_resource_policy(&resource(input.resource_arn)?, &required(input.policy, "policy")?)?;
    Ok(Bytes::new())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyOutput {
    policy: String,
}

pub(super) fn get_resource_policy(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.output(&PolicyOutput { policy: call.kinesis.get_resource_policy(&resource(input.resource_arn)?)? })
}

pub(super) fn delete_resource_policy(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ResourceInput = call.input()?;
    call.kinesis.delete_resource_policy(&resource(input.resource_arn)?)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptionInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    encryption_type: Option<String>,
    key_id: Option<String>,
}

impl EncryptionInput {
    fn checked(self) -> Result<(StreamReference, String), Fault> {
        let stream = stream(self.stream_name, self.stream_arn)?;
        match required(self.encryption_type, "encryptionType")?.as_str() {
            "KMS" => Ok((stream, required(self.key_id, "keyId")?)),
            "NONE" => Err(Fault::invalid_argument("The only valid EncryptionType is KMS.")),
            other => Err(Fault::validation(other, "encryptionType", "Member must satisfy enum value set: [KMS, NONE]")),
        }
    }
}

pub(super) fn start_stream_encryption(call: &Call<'_>) -> Result<Bytes, Fault> {
    let (stream, key) = call.input::<EncryptionInput>()?.checked()?;
    call.kinesis.start_stream_encryption(&stream, &key)?;
    Ok(Bytes::new())
}

pub(super) fn stop_stream_encryption(call: &Call<'_>) -> Result<Bytes, Fault> {
    let (stream, key) = call.input::<EncryptionInput>()?.checked()?;
    call.kinesis.stop_stream_encryption(&stream, &key)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MonitoringInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_level_metrics: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MonitoringOutput {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_shard_level_metrics: Vec<&'static str>,
    desired_shard_level_metrics: Vec<&'static str>,
}

fn change_metrics(
    call: &Call<'_>,
    change: impl FnOnce(&LocalKinesis, &StreamReference, &BTreeSet<ShardLevelMetric>) -> Result<MonitoringChange, ServiceError>,
) -> Result<Bytes, Fault> {
    let input: MonitoringInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let mut metrics = BTreeSet::new();
    for name in required(input.shard_level_metrics, "shardLevelMetrics")? {
        match name.parse() {
            _ if name == "ALL" => metrics.extend(ShardLevelMetric::ALL),
            Ok(metric) => drop(metrics.insert(metric)),
            Err(_) => {
                let all: Vec<&str> = ShardLevelMetric::ALL.iter().map(|metric| metric.as_str()).collect();
                let constraint = format!("Member must satisfy constraint: [Member must satisfy enum value set: [{}, ALL]]", all.join(", "));
                return Err(Fault::validation(name, "shardLevelMetrics", &constraint));
            }
        }
    }
    if metrics.is_empty() {
        return Err(Fault::validation("[]", "shardLevelMetrics", "Member must have length greater than or equal to 1"));
    }
    let answer = change(call.kinesis, &stream, &metrics)?;
    let names = |metrics: BTreeSet<ShardLevelMetric>| metrics.into_iter().map(ShardLevelMetric::as_str).collect();
    call.output(&MonitoringOutput {
        stream_name: answer.stream_name.to_string(),
        stream_arn: answer.stream_arn.to_string(),
        current_shard_level_metrics: names(answer.current),
        desired_shard_level_metrics: names(answer.desired),
    })
}

pub(super) fn enable_enhanced_monitoring(call: &Call<'_>) -> Result<Bytes, Fault> {
    change_metrics(call, LocalKinesis::enable_enhanced_monitoring)
}

pub(super) fn disable_enhanced_monitoring(call: &Call<'_>) -> Result<Bytes, Fault> {
    change_metrics(call, LocalKinesis::disable_enhanced_monitoring)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamModeInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: Option<i64>,
}

pub(super) fn update_stream_mode(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: StreamModeInput = call.input()?;
    let stream = stream(None, Some(required(input.stream_arn, "streamARN")?))?;
    let mode = required(input.stream_mode_details, "streamModeDetails")?.mode()?;
    call.kinesis.update_stream_mode(&stream, mode, warm_throughput(input.warm_throughput_mibps)?)?;
    Ok(Bytes::new())
}

/// In MiB per second.
pub(super) fn warm_throughput(value: Option<i64>) -> Result<Option<u32>, Fault> {
    let Some(value) = value else { return Ok(None) };
    let constraint = "Member must have value greater than or equal to 0";
    u32::try_from(value).map(Some).map_err(|_| Fault::validation(value, "warmThroughputMiBps", constraint))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WarmThroughputInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct WarmThroughputObject {
    #[serde(rename = "TargetMiBps")]
    target: u32,
    #[serde(rename = "CurrentMiBps")]
    current: u32,
}

impl From<WarmThroughput> for WarmThroughputObject {
    fn from(warm: WarmThroughput) -> Self {
        Self { target: warm.target_mibps, current: warm.current_mibps }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WarmThroughputOutput {
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_name: String,
    warm_throughput: WarmThroughputObject,
}

pub(super) fn update_stream_warm_throughput(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: WarmThroughputInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let mibps = required(warm_throughput(input.warm_throughput_mibps)?, "warmThroughputMiBps")?;
    let updated = call.kinesis.update_stream_warm_throughput(&stream, mibps)?;
    call.output(&WarmThroughputOutput {
        stream_arn: updated.stream_arn.to_string(),
        stream_name: updated.stream_name.to_string(),
        warm_throughput: updated.warm_throughput.into(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DistributionInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    record_distribution_strategy: Option<String>,
}

pub(super) fn update_stream_record_distribution_strategy(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: DistributionInput = call.input()?;
    let stream = stream(None, Some(required(input.stream_arn, "streamARN")?))?;
    let name = required(input.record_distribution_strategy, "recordDistributionStrategy")?;
    let all = [RecordDistributionStrategy::Auto, RecordDistributionStrategy::UserPartitionKey];
    let strategy = all.into_iter().find(|strategy| strategy.as_str() == name).ok_or_else(|| {
        let constraint = "Member must satisfy enum value set: [AUTO, USER_PARTITION_KEY]";
        Fault::validation(&name, "recordDistributionStrategy", constraint)
    })?;
    call.kinesis.update_stream_record_distribution_strategy(&stream, strategy)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MaxRecordSizeInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
}

pub(super) fn update_max_record_size(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: MaxRecordSizeInput = call.input()?;
    let stream = stream(None, Some(required(input.stream_arn, "streamARN")?))?;
    let kib = required(count(input.max_record_size_in_kib, "maxRecordSizeInKiB")?, "maxRecordSizeInKiB")?;
    call.kinesis.update_max_record_size(&stream, kib)?;
    Ok(Bytes::new())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LimitsOutput {
    shard_limit: u32,
    open_shard_count: u32,
    on_demand_stream_count: u32,
    on_demand_stream_count_limit: u32,
}

pub(super) fn describe_limits(call: &Call<'_>) -> Result<Bytes, Fault> {
    let limits = call.kinesis.describe_limits()?;
    call.output(&LimitsOutput {
        shard_limit: limits.shard_limit,
        open_shard_count: limits.open_shard_count,
        on_demand_stream_count: limits.on_demand_stream_count,
        on_demand_stream_count_limit: limits.on_demand_stream_count_limit,
    })
}
