//! Stream consumers and subscriptions.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        fault::Fault,
        member::{consumer, consumer_arn, count, position, required, shard_id, stream},
        protocol::Moment,
    },
    Call,
};
use crate::{
    local::{ListStreamConsumers, StreamConsumer, Subscription},
    stream::ConsumerStatus,
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumerOutput {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    consumer_status: ConsumerStatus,
    consumer_creation_timestamp: Moment,
    /// Only where one consumer is described.
    #[serde(rename = "StreamARN", skip_serializing_if = "Option::is_none")]
    stream_arn: Option<String>,
}

impl From<StreamConsumer> for ConsumerOutput {
    fn from(consumer: StreamConsumer) -> Self {
        Self {
            consumer_arn: consumer.arn.to_string(),
            consumer_name: consumer.name,
            consumer_status: consumer.status,
            consumer_creation_timestamp: Moment(consumer.created),
            stream_arn: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterOutput {
    consumer: ConsumerOutput,
}

pub(super) fn register_stream_consumer(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: RegisterInput = call.input()?;
    let stream = stream(None, Some(required(input.stream_arn, "streamARN")?))?;
    let name = required(input.consumer_name, "consumerName")?;
    let consumer = call.kinesis.register_stream_consumer(&stream, &name, input.tags.unwrap_or_default())?;
    call.output(&RegisterOutput { consumer: consumer.into() })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumerInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeOutput {
    consumer_description: ConsumerOutput,
}

pub(super) fn describe_stream_consumer(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ConsumerInput = call.input()?;
    let consumer = call.kinesis.describe_stream_consumer(&consumer(input.consumer_arn, input.stream_arn, input.consumer_name)?)?;
    let stream_arn = Some(consumer.arn.stream_arn().to_string());
    call.output(&DescribeOutput { consumer_description: ConsumerOutput { stream_arn, ..consumer.into() } })
}

pub(super) fn deregister_stream_consumer(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ConsumerInput = call.input()?;
    call.kinesis.deregister_stream_consumer(&consumer(input.consumer_arn, input.stream_arn, input.consumer_name)?)?;
    Ok(Bytes::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Moment>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListOutput {
    consumers: Vec<ConsumerOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn list_stream_consumers(call: &Call<'_>) -> Result<Bytes, Fault> {
    let input: ListInput = call.input()?;
    let page = call.kinesis.list_stream_consumers(&ListStreamConsumers {
        stream: stream(None, Some(required(input.stream_arn, "streamARN")?))?,
        next_token: input.next_token,
        max_results: count(input.max_results, "maxResults")?,
        stream_creation_timestamp: input.stream_creation_timestamp.map(|Moment(at)| at),
    })?;
    call.output(&ListOutput { consumers: page.consumers.into_iter().map(ConsumerOutput::from).collect(), next_token: page.next_token })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: Option<String>,
    sequence_number: Option<String>,
    timestamp: Option<Moment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SubscribeInput {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
    dry_run: Option<bool>,
}

pub(super) fn subscribe_to_shard(call: &Call<'_>) -> Result<Subscription, Fault> {
    let input: SubscribeInput = call.input()?;
    let consumer = consumer_arn(input.consumer_arn)?;
    let shard = shard_id(input.shard_id, "shardId")?;
    let start = required(input.starting_position, "startingPosition")?;
    let timestamp = start.timestamp.map(|Moment(at)| at);
    let position = position(start.r#type, "startingPosition.type", start.sequence_number.as_deref(), timestamp)?;
    if input.dry_run == Some(true) {
        call.kinesis.check_subscribe_to_shard(&consumer, &shard, position)?;
        let text = "The request would have succeeded, but the DryRun parameter was specified.";
        return Err(Fault::new(400, "DryRunOperationException", text));
    }
    Ok(call.kinesis.subscribe_to_shard(&consumer, &shard, position)?)
}
