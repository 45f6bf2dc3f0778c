//! The operations by name; one file per group.

mod records;
mod shards;
mod streams;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{fault::Fault, protocol::Protocol};
use crate::local::LocalKinesis;

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

    fn output<T: Serialize>(&self, output: &T) -> Result<Bytes, Fault> {
        self.protocol.encode(output)
    }
}

/// Runs a call and returns the body of its answer, which is empty for operations without output.
pub(super) type Handler = fn(&Call<'_>) -> Result<Bytes, Fault>;

/// Ordered by name.
pub(super) const TABLE: &[(&str, Handler)] = &[
    ("CreateStream", streams::create_stream),
    ("DecreaseStreamRetentionPeriod", streams::decrease_stream_retention_period),
    ("DeleteStream", streams::delete_stream),
    ("DescribeStream", streams::describe_stream),
    ("DescribeStreamSummary", streams::describe_stream_summary),
    ("GetRecords", records::get_records),
    ("GetShardIterator", records::get_shard_iterator),
    ("IncreaseStreamRetentionPeriod", streams::increase_stream_retention_period),
    ("ListShards", shards::list_shards),
    ("ListStreams", streams::list_streams),
    ("MergeShards", shards::merge_shards),
    ("PutRecord", records::put_record),
    ("PutRecords", records::put_records),
    ("SplitShard", shards::split_shard),
    ("UpdateShardCount", shards::update_shard_count),
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
