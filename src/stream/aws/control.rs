//! The producer's and operator's calls that the conformance suite makes.

use async_trait::async_trait;
use aws_sdk_kinesis::{
    primitives::Blob,
    types::{PutRecordsRequestEntry, ScalingType},
};

use super::{AwsStreamClient, error::Call};
use crate::{
    error::Result,
    stream::{
        StreamReference,
        conformance::{PutReceipt, PutRequest, StreamControl},
    },
    types::{SequenceNumber, ShardId, StreamName},
};

fn entry(request: PutRequest) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder()
        .data(Blob::from_maybe_shared(request.data))
        .partition_key(request.partition_key)
        .set_explicit_hash_key(request.explicit_hash_key.map(|key| key.to_string()))
        .build()
        .expect("payload and key are set")
}

#[async_trait]
impl StreamControl for AwsStreamClient {
    async fn create_stream(&self, stream: &StreamName, shard_count: u32) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let request = self.session.client().create_stream().stream_name(stream.as_str()).shard_count(count(shard_count));
        self.attempt(self.config.call_timeout, self.call("CreateStream", &reference), request.send()).await?;
        Ok(())
    }

    async fn delete_stream(&self, stream: &StreamName) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let request = self.session.client().delete_stream().stream_name(stream.as_str()).enforce_consumer_deletion(true);
        self.attempt(self.config.call_timeout, self.call("DeleteStream", &reference), request.send()).await?;
        Ok(())
    }

    async fn put_records(&self, stream: &StreamName, records: Vec<PutRequest>) -> Result<Vec<Result<PutReceipt>>> {
        let reference = StreamReference::Name(stream.clone());
        let call = self.call("PutRecords", &reference);
        let entries = records.into_iter().map(entry).collect();
        let request = self.session.client().put_records().stream_name(stream.as_str()).set_records(Some(entries));
        let answer = self.attempt(self.config.call_timeout, call, request.send()).await?;
        let outcomes = answer.records.into_iter().map(|outcome| match (outcome.sequence_number, outcome.shard_id, outcome.error_code) {
            (Some(number), Some(shard), None) => {
                Ok(PutReceipt { shard_id: ShardId::new(shard)?, sequence_number: SequenceNumber::parse(&number)? })
            }
            (_, _, Some(code)) => Err(call.refused(400, &code, outcome.error_message.as_deref().unwrap_or(""))),
            (_, _, None) => Err(call.unreadable("an entry has neither a sequence number nor an error")),
        });
        Ok(outcomes.collect())
    }

    async fn split_shard(&self, stream: &StreamName, shard: &ShardId, new_starting_hash_key: u128) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let call = Call { shard: Some(shard), ..self.call("SplitShard", &reference) };
        let request = self.session.client().split_shard().stream_name(stream.as_str()).shard_to_split(shard.as_str());
        let request = request.new_starting_hash_key(new_starting_hash_key.to_string());
        self.attempt(self.config.call_timeout, call, request.send()).await?;
        Ok(())
    }

    async fn merge_shards(&self, stream: &StreamName, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let call = Call { shard: Some(shard), ..self.call("MergeShards", &reference) };
        let request = self.session.client().merge_shards().stream_name(stream.as_str()).shard_to_merge(shard.as_str());
        let request = request.adjacent_shard_to_merge(adjacent.as_str());
        self.attempt(self.config.call_timeout, call, request.send()).await?;
        Ok(())
    }

    async fn update_shard_count(&self, stream: &StreamName, target: u32) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let request = self.session.client().update_shard_count().stream_name(stream.as_str()).target_shard_count(count(target));
        let request = request.scaling_type(ScalingType::UniformScaling);
        self.attempt(self.config.call_timeout, self.call("UpdateShardCount", &reference), request.send()).await?;
        Ok(())
    }

    async fn increase_retention(&self, stream: &StreamName, hours: u32) -> Result<()> {
        let reference = StreamReference::Name(stream.clone());
        let request =
            self.session.client().increase_stream_retention_period().stream_name(stream.as_str()).retention_period_hours(count(hours));
        self.attempt(self.config.call_timeout, self.call("IncreaseStreamRetentionPeriod", &reference), request.send()).await?;
        Ok(())
    }
}

/// The service refuses the largest numbers anyway.
fn count(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
