//! The operations by name; one file per group.

mod account;
mod batch;
mod consumers;
mod records;
mod settings;
mod shards;
mod streams;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::Handler::{Events, Whole};
pub(super) use self::batch::{Batch, Next};
use super::{fault::Fault, faults::Target, protocol::Protocol};
use crate::{
    local::{LocalKinesis, Subscription},
    stream::ShardIterator,
};

/// A request whose operation is known.
pub(super) struct Call<'a> {
    pub(super) kinesis: &'a LocalKinesis,
    pub(super) protocol: Protocol,
    pub(super) body: Bytes,
}

impl Call<'_> {
    fn input<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.protocol.decode(&self.body)
    }

    /// What the call is about.
    pub(super) fn target(&self) -> Target {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Names {
            stream_name: Option<String>,
            #[serde(rename = "StreamARN")]
            stream_arn: Option<String>,
            #[serde(rename = "ConsumerARN")]
            consumer_arn: Option<String>,
            #[serde(rename = "ResourceARN")]
            resource_arn: Option<String>,
            shard_id: Option<String>,
            shard_iterator: Option<String>,
        }
        let Ok(names) = self.input::<Names>() else { return Target::default() };
        if let Some((stream, shard)) = names.shard_iterator.and_then(|text| LocalKinesis::place_of(&ShardIterator(text))) {
            return Target { stream: Some(stream.into()), shard: Some(shard.into()) };
        }
        let of_arn = |arn: &str| arn.split_once(":stream/").map(|(_, rest)| rest.split('/').next().unwrap_or(rest).to_owned());
        let arn = names.stream_arn.or(names.consumer_arn).or(names.resource_arn);
        Target { stream: names.stream_name.or_else(|| arn.as_deref().and_then(of_arn)), shard: names.shard_id }
    }

    fn output<T: Serialize>(&self, output: &T) -> Result<Bytes, Fault> {
        self.protocol.encode(output)
    }
}

/// How an operation answers.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// With a body, which is empty for operations without output.
    Whole(fn(&Call<'_>) -> Result<Bytes, Fault>),
    /// With events.
    Events(fn(&Call<'_>) -> Result<Subscription, Fault>),
}

/// Ordered by name.
pub(super) const TABLE: &[(&str, Handler)] = &[
    ("AddTagsToStream", Whole(settings::add_tags_to_stream)),
    ("CreateStream", Whole(streams::create_stream)),
    ("DecreaseStreamRetentionPeriod", Whole(streams::decrease_stream_retention_period)),
    ("DeleteResourcePolicy", Whole(settings::delete_resource_policy)),
    ("DeleteStream", Whole(streams::delete_stream)),
    ("DeregisterStreamConsumer", Whole(consumers::deregister_stream_consumer)),
    ("DescribeAccountSettings", Whole(account::describe_account_settings)),
    ("DescribeLimits", Whole(settings::describe_limits)),
    ("DescribeStream", Whole(streams::describe_stream)),
    ("DescribeStreamConsumer", Whole(consumers::describe_stream_consumer)),
    ("DescribeStreamSummary", Whole(streams::describe_stream_summary)),
    ("DisableEnhancedMonitoring", Whole(settings::disable_enhanced_monitoring)),
    ("EnableEnhancedMonitoring", Whole(settings::enable_enhanced_monitoring)),
    ("GetRecords", Whole(records::get_records)),
    ("GetResourcePolicy", Whole(settings::get_resource_policy)),
    ("GetShardIterator", Whole(records::get_shard_iterator)),
    ("IncreaseStreamRetentionPeriod", Whole(streams::increase_stream_retention_period)),
    ("ListShards", Whole(shards::list_shards)),
    ("ListStreamConsumers", Whole(consumers::list_stream_consumers)),
    ("ListStreams", Whole(streams::list_streams)),
    ("ListTagsForResource", Whole(settings::list_tags_for_resource)),
    ("ListTagsForStream", Whole(settings::list_tags_for_stream)),
    ("MergeShards", Whole(shards::merge_shards)),
    ("PutRecord", Whole(records::put_record)),
    ("PutRecords", Whole(records::put_records)),
    ("PutResourcePolicy", Whole(settings::put_resource_policy)),
    ("RegisterStreamConsumer", Whole(consumers::register_stream_consumer)),
    ("RemoveTagsFromStream", Whole(settings::remove_tags_from_stream)),
    ("SplitShard", Whole(shards::split_shard)),
    ("StartStreamEncryption", Whole(settings::start_stream_encryption)),
    ("StopStreamEncryption", Whole(settings::stop_stream_encryption)),
    ("SubscribeToShard", Events(consumers::subscribe_to_shard)),
    ("TagResource", Whole(settings::tag_resource)),
    ("UntagResource", Whole(settings::untag_resource)),
    ("UpdateAccountSettings", Whole(account::update_account_settings)),
    ("UpdateMaxRecordSize", Whole(settings::update_max_record_size)),
    ("UpdateShardCount", Whole(shards::update_shard_count)),
    ("UpdateStreamMode", Whole(settings::update_stream_mode)),
    ("UpdateStreamRecordDistributionStrategy", Whole(settings::update_stream_record_distribution_strategy)),
    ("UpdateStreamWarmThroughput", Whole(settings::update_stream_warm_throughput)),
];

/// The handler of the operation.
pub(super) fn find(name: &str) -> Option<Handler> {
    TABLE.binary_search_by_key(&name, |(name, _)| name).ok().map(|index| TABLE[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_so_that_every_name_is_found() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TABLE.iter().all(|(name, _)| find(name).is_some()));
        assert!(find("DropTable").is_none() && find("").is_none());
    }
}
