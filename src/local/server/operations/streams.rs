//! Streams: make, delete, describe, list, retention.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{count, required, shard_id, stream, stream_name},
        protocol::Moment,
    },
    Call,
    settings::{WarmThroughputObject, warm_throughput},
    shards::ShardOutput,
};
use crate::local::{CreateStream, ListStreams, RecordDistributionStrategy, StreamMode, StreamSummary};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamModeDetails {
    stream_mode: String,
}

impl StreamModeDetails {
    pub(super) fn mode(self) -> Result<StreamMode, Fault> {
        [StreamMode::Provisioned, StreamMode::OnDemand].into_iter().find(|mode| mode.as_str() == self.stream_mode).ok_or_else(|| {
            let constraint = "Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]";
            Fault::validation(self.stream_mode, "streamModeDetails.streamMode", constraint)
        })
    }
}

impl From<StreamMode> for StreamModeDetails {
    fn from(mode: StreamMode) -> Self {
        Self { stream_mode: mode.as_str().to_owned() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateStreamInput {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: Option<i64>,
    tags: Option<BTreeMap<String, String>>,
}

pub(super) fn create_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: CreateStreamInput = call.input()?;
    let name = stream_name(required(input.stream_name, "streamName")?)?;
    let mode = input.stream_mode_details.map_or(Ok(StreamMode::Provisioned), StreamModeDetails::mode)?;
    let max_record_kib = count(input.max_record_size_in_kib, "maxRecordSizeInKiB")?;
    let max_record_bytes = max_record_kib.map(|kib| usize::try_from(kib).unwrap_or(usize::MAX).saturating_mul(1024));
    let shard_count = count(input.shard_count, "shardCount")?;
    let warm_throughput_mibps = warm_throughput(input.warm_throughput_mibps)?;
    let tags = input.tags.unwrap_or_default();
    call.kinesis.create_stream(&CreateStream { name, mode, shard_count, max_record_bytes, tags, warm_throughput_mibps })?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    enforce_consumer_deletion: Option<bool>,
}

pub(super) fn delete_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: DeleteStreamInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    match input.enforce_consumer_deletion {
        Some(true) => call.kinesis.delete_stream_with_consumers(&stream)?,
        Some(false) | None => call.kinesis.delete_stream(&stream)?,
    }
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RetentionInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: Option<i64>,
}

impl RetentionInput {
    fn hours(&self) -> Result<u32, Fault> {
        required(count(self.retention_period_hours, "retentionPeriodHours")?, "retentionPeriodHours")
    }
}

pub(super) fn increase_stream_retention_period(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: RetentionInput = call.input()?;
    let hours = input.hours()?;
    call.kinesis.increase_stream_retention_period(&stream(input.stream_name, input.stream_arn)?, hours)?;
    Ok(Bytes::new())
}

pub(super) fn decrease_stream_retention_period(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: RetentionInput = call.input()?;
    let hours = input.hours()?;
    call.kinesis.decrease_stream_retention_period(&stream(input.stream_name, input.stream_arn)?, hours)?;
    Ok(Bytes::new())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EnhancedMetrics {
    shard_level_metrics: Vec<&'static str>,
}

/// The service answers a list of one.
fn enhanced_monitoring(summary: &StreamSummary) -> [EnhancedMetrics; 1] {
    [EnhancedMetrics { shard_level_metrics: summary.shard_level_metrics.iter().map(|metric| metric.as_str()).collect() }]
}

fn encryption_type(summary: &StreamSummary) -> &'static str {
    if summary.encryption_key.is_some() { "KMS" } else { "NONE" }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStreamSummaryOutput {
    stream_description_summary: StreamDescriptionSummary,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamDescriptionSummary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: crate::stream::StreamStatus,
    stream_mode_details: StreamModeDetails,
    retention_period_hours: u32,
    stream_creation_timestamp: Moment,
    enhanced_monitoring: [EnhancedMetrics; 1],
    encryption_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    open_shard_count: u32,
    consumer_count: u32,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_distribution_strategy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warm_throughput: Option<WarmThroughputObject>,
}

pub(super) fn describe_stream_summary(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: StreamInput = call.input()?;
    let summary = call.kinesis.describe_stream_summary(&stream(input.stream_name, input.stream_arn)?)?;
    let (monitoring, encryption) = (enhanced_monitoring(&summary), encryption_type(&summary));
    let description = summary.description;
    call.output(&DescribeStreamSummaryOutput {
        stream_description_summary: StreamDescriptionSummary {
            stream_name: description.name.to_string(),
            stream_arn: description.arn.to_string(),
            stream_status: description.status,
            stream_mode_details: summary.mode.into(),
            retention_period_hours: description.retention_hours,
            stream_creation_timestamp: Moment(description.created),
            enhanced_monitoring: monitoring,
            encryption_type: encryption,
            key_id: summary.encryption_key,
            open_shard_count: description.open_shard_count,
            consumer_count: description.consumer_count,
            max_record_size_in_kib: summary.max_record_bytes / 1024,
            record_distribution_strategy: summary.record_distribution.map(RecordDistributionStrategy::as_str),
            warm_throughput: summary.warm_throughput.map(WarmThroughputObject::from),
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    exclusive_start_shard_id: Option<String>,
    limit: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStreamOutput {
    stream_description: StreamDescription,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamDescription {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: crate::stream::StreamStatus,
    stream_mode_details: StreamModeDetails,
    shards: Vec<ShardOutput>,
    has_more_shards: bool,
    retention_period_hours: u32,
    stream_creation_timestamp: Moment,
    enhanced_monitoring: [EnhancedMetrics; 1],
    encryption_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

pub(super) fn describe_stream(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: DescribeStreamInput = call.input()?;
    let stream = stream(input.stream_name, input.stream_arn)?;
    let start = input.exclusive_start_shard_id.map(|id| shard_id(Some(id), "exclusiveStartShardId")).transpose()?;
    let page = call.kinesis.describe_stream(&stream, start.as_ref(), count(input.limit, "limit")?)?;
    let (monitoring, encryption) = (enhanced_monitoring(&page.summary), encryption_type(&page.summary));
    let description = page.summary.description;
    call.output(&DescribeStreamOutput {
        stream_description: StreamDescription {
            stream_name: description.name.to_string(),
            stream_arn: description.arn.to_string(),
            stream_status: description.status,
            stream_mode_details: page.summary.mode.into(),
            shards: page.shards.into_iter().map(ShardOutput::from).collect(),
            has_more_shards: page.has_more_shards,
            retention_period_hours: description.retention_hours,
            stream_creation_timestamp: Moment(description.created),
            enhanced_monitoring: monitoring,
            encryption_type: encryption,
            key_id: page.summary.encryption_key,
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreamsInput {
    limit: Option<i64>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreamsOutput {
    stream_names: Vec<String>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    stream_summaries: Vec<StreamSummaryOutput>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamSummaryOutput {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: crate::stream::StreamStatus,
    stream_mode_details: StreamModeDetails,
    stream_creation_timestamp: Moment,
}

impl From<StreamSummary> for StreamSummaryOutput {
    fn from(summary: StreamSummary) -> Self {
        Self {
            stream_name: summary.description.name.to_string(),
            stream_arn: summary.description.arn.to_string(),
            stream_status: summary.description.status,
            stream_mode_details: summary.mode.into(),
            stream_creation_timestamp: Moment(summary.description.created),
        }
    }
}

pub(super) fn list_streams(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ListStreamsInput = call.input()?;
    let page = call.kinesis.list_streams(&ListStreams {
        exclusive_start_stream_name: input.exclusive_start_stream_name,
        limit: count(input.limit, "limit")?,
        next_token: input.next_token,
    })?;
    call.output(&ListStreamsOutput {
        stream_names: page.streams.iter().map(|summary| summary.description.name.to_string()).collect(),
        has_more_streams: page.next_token.is_some(),
        next_token: page.next_token,
        stream_summaries: page.streams.into_iter().map(StreamSummaryOutput::from).collect(),
    })
}
