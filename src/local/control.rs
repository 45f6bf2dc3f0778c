//! The local stream under the conformance suite.

use async_trait::async_trait;

use super::{CreateStream, LocalKinesis, PutEntry};
use crate::{
    error::{Error, Result},
    stream::{
        StreamReference,
        conformance::{PutReceipt, PutRequest, StreamControl},
    },
    types::{ShardId, StreamName},
};

fn reference(stream: &StreamName) -> StreamReference {
    StreamReference::Name(stream.clone())
}

#[async_trait]
impl StreamControl for LocalKinesis {
    async fn create_stream(&self, stream: &StreamName, shard_count: u32) -> Result<()> {
        Ok(Self::create_stream(self, &CreateStream::provisioned(stream.clone(), shard_count))?)
    }

    async fn delete_stream(&self, stream: &StreamName) -> Result<()> {
        Ok(self.delete_stream_with_consumers(&reference(stream))?)
    }

    async fn put_records(&self, stream: &StreamName, records: Vec<PutRequest>) -> Result<Vec<Result<PutReceipt>>> {
        let entry = |request: PutRequest| PutEntry {
            data: request.data,
            partition_key: request.partition_key.into(),
            explicit_hash_key: request.explicit_hash_key,
        };
        let outcomes = Self::put_records(self, &reference(stream), records.into_iter().map(entry).collect())?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(put) => Ok(PutReceipt { shard_id: put.shard_id, sequence_number: put.sequence_number }),
                Err(error) => Err(Error::from(error)),
            })
            .collect())
    }

    async fn split_shard(&self, stream: &StreamName, shard: &ShardId, new_starting_hash_key: u128) -> Result<()> {
        Ok(Self::split_shard(self, &reference(stream), shard, new_starting_hash_key)?)
    }

    async fn merge_shards(&self, stream: &StreamName, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        Ok(Self::merge_shards(self, &reference(stream), shard, adjacent)?)
    }

    async fn update_shard_count(&self, stream: &StreamName, target: u32) -> Result<()> {
        Self::update_shard_count(self, &reference(stream), target)?;
        Ok(())
    }

    async fn increase_retention(&self, stream: &StreamName, hours: u32) -> Result<()> {
        Ok(self.increase_stream_retention_period(&reference(stream), hours)?)
    }
}
