//! Settings of streams on the handle: tags, encryption, metrics, mode, record size, policies, and the account's limits.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kinesis::{LocalKinesis, ServiceResult},
    model::{
        AccountLimits, Model, MonitoringChange, RecordDistributionStrategy, ResourceArn, ShardLevelMetric, StreamMode, TagsPage,
        ThroughputCommitment, UpdatedWarmThroughput,
    },
};
use crate::stream::StreamReference;

impl LocalKinesis {
    /// `AddTagsToStream`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument` beyond 50 tags or for characters that tags may not have, `Validation`.
    pub fn add_tags_to_stream(&self, stream: &StreamReference, tags: BTreeMap<String, String>) -> ServiceResult<()> {
        self.write(|model, now| model.add_tags_to_stream(now, stream, tags))
    }

    /// `RemoveTagsFromStream`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `Validation`.
    pub fn remove_tags_from_stream(&self, stream: &StreamReference, keys: &[String]) -> ServiceResult<()> {
        self.write(|model, now| model.remove_tags_from_stream(now, stream, keys))
    }

    /// `ListTagsForStream`: at most `limit` tags, 1 to 50, after `exclusive_start`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `Validation`.
    pub fn list_tags_for_stream(
        &self,
        stream: &StreamReference,
        exclusive_start: Option<&str>,
        limit: Option<u32>,
    ) -> ServiceResult<TagsPage> {
        self.read(|model, now| model.list_tags_for_stream(now, stream, exclusive_start, limit))
    }

    /// `TagResource`.
    ///
    /// # Errors
    /// As [`LocalKinesis::add_tags_to_stream`].
    pub fn tag_resource(&self, resource: &ResourceArn, tags: BTreeMap<String, String>) -> ServiceResult<()> {
        self.write(|model, now| model.tag_resource(now, resource, tags))
    }

    /// `UntagResource`.
    ///
    /// # Errors
    /// As [`LocalKinesis::remove_tags_from_stream`].
    pub fn untag_resource(&self, resource: &ResourceArn, keys: &[String]) -> ServiceResult<()> {
        self.write(|model, now| model.untag_resource(now, resource, keys))
    }

    /// `ListTagsForResource`.
    ///
    /// # Errors
    /// `ResourceNotFound`.
    pub fn list_tags_for_resource(&self, resource: &ResourceArn) -> ServiceResult<BTreeMap<String, String>> {
        self.read(|model, now| model.list_tags_for_resource(now, resource))
    }

    /// `StartStreamEncryption`: from now on records say that they are encrypted.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded`, `Validation`.
    pub fn start_stream_encryption(&self, stream: &StreamReference, key_id: &str) -> ServiceResult<()> {
        self.write(|model, now| model.start_stream_encryption(now, stream, key_id))
    }

    /// `StopStreamEncryption`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded`, `Validation`.
    pub fn stop_stream_encryption(&self, stream: &StreamReference, key_id: &str) -> ServiceResult<()> {
        self.write(|model, now| model.stop_stream_encryption(now, stream, key_id))
    }

    /// `EnableEnhancedMonitoring`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`.
    pub fn enable_enhanced_monitoring(
        &self,
        stream: &StreamReference,
        metrics: &BTreeSet<ShardLevelMetric>,
    ) -> ServiceResult<MonitoringChange> {
        self.write(|model, now| model.enable_enhanced_monitoring(now, stream, metrics))
    }

    /// `DisableEnhancedMonitoring`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`.
    pub fn disable_enhanced_monitoring(
        &self,
        stream: &StreamReference,
        metrics: &BTreeSet<ShardLevelMetric>,
    ) -> ServiceResult<MonitoringChange> {
        self.write(|model, now| model.disable_enhanced_monitoring(now, stream, metrics))
    }

    /// `UpdateStreamMode`, with warm throughput in MiB per second for the on-demand mode.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded`, `InvalidArgument`, `Validation`.
    pub fn update_stream_mode(&self, stream: &StreamReference, mode: StreamMode, warm_mibps: Option<u32>) -> ServiceResult<()> {
        self.write(|model, now| model.update_stream_mode(now, stream, mode, warm_mibps))
    }

    /// `UpdateStreamWarmThroughput`, in MiB per second: a shard for each.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded`, `InvalidArgument` for a provisioned stream or in an account
    /// without commitment.
    pub fn update_stream_warm_throughput(&self, stream: &StreamReference, mibps: u32) -> ServiceResult<UpdatedWarmThroughput> {
        self.write(|model, now| model.update_stream_warm_throughput(now, stream, mibps))
    }

    /// `UpdateStreamRecordDistributionStrategy`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument` for a provisioned stream.
    pub fn update_stream_record_distribution_strategy(
        &self,
        stream: &StreamReference,
        strategy: RecordDistributionStrategy,
    ) -> ServiceResult<()> {
        self.write(|model, now| model.update_stream_record_distribution_strategy(now, stream, strategy))
    }

    /// Whether records of the stream need no partition key.
    #[cfg(feature = "server")]
    pub(super) fn ignores_keys(&self, stream: &StreamReference) -> ServiceResult<bool> {
        self.read(|model, now| model.ignores_keys(now, stream))
    }

    /// `UpdateAccountSettings`: begins or ends the commitment to a least throughput.
    ///
    /// # Errors
    /// `InternalFailure` when it cannot be kept.
    pub fn update_account_settings(&self, committed: bool) -> ServiceResult<ThroughputCommitment> {
        self.write(|model, now| Ok(model.update_account_settings(now, committed)))
    }

    /// `DescribeAccountSettings`.
    ///
    /// # Errors
    /// None at present.
    pub fn describe_account_settings(&self) -> ServiceResult<ThroughputCommitment> {
        self.read(|model, now| Ok(model.describe_account_settings(now)))
    }

    /// `UpdateMaxRecordSize` to 1,024 to 10,240 KiB.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `Validation`.
    pub fn update_max_record_size(&self, stream: &StreamReference, max_record_kib: u32) -> ServiceResult<()> {
        self.write(|model, now| model.update_max_record_size(now, stream, max_record_kib))
    }

    /// `PutResourcePolicy`: kept and given back; nobody is refused anything by it.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument` when it is no JSON object.
    pub fn put_resource_policy(&self, resource: &ResourceArn, policy: &str) -> ServiceResult<()> {
        self.write(|model, now| model.put_resource_policy(now, resource, policy))
    }

    /// `GetResourcePolicy`.
    ///
    /// # Errors
    /// `ResourceNotFound`, also when the resource has no policy.
    pub fn get_resource_policy(&self, resource: &ResourceArn) -> ServiceResult<String> {
        self.read(|model, now| model.get_resource_policy(now, resource))
    }

    /// `DeleteResourcePolicy`.
    ///
    /// # Errors
    /// `ResourceNotFound`, also when the resource has no policy.
    pub fn delete_resource_policy(&self, resource: &ResourceArn) -> ServiceResult<()> {
        self.write(|model, now| model.delete_resource_policy(now, resource))
    }

    /// `DescribeLimits`.
    ///
    /// # Errors
    /// `LimitExceeded` above one call a second.
    pub fn describe_limits(&self) -> ServiceResult<AccountLimits> {
        self.read(Model::describe_limits)
    }
}
