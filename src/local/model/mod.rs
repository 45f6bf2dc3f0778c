//! The service as a pure state machine: every operation takes the time and returns at once.

mod api;
mod config;
mod error;

use crate::{random::Randomness, stream::*, types::*};
pub use api::{
    CreateStream, ListShards, ListStreams, PutEntry, PutOutcome, PutReceipt, StreamMode, StreamPage, StreamSummary, StreamsPage,
    UpdatedShardCount,
};
pub use config::{Config, Delays, Limits, Quirks};
pub use error::{ServiceError, ServiceErrorCode};
type Result<T, E = ServiceError> = std::result::Result<T, E>;

/// All streams of one account in one region.
#[derive(Debug)]
pub struct Model {
    config: Config,
    randomness: Randomness,
}
#[allow(clippy::todo, missing_docs, clippy::missing_errors_doc)]
impl Model {
    pub fn new(config: Config, randomness: Randomness) -> Self {
        Self { config, randomness }
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    pub fn create_stream(&mut self, _now: Timestamp, _: &CreateStream) -> Result<()> {
        todo!()
    }
    pub fn delete_stream(&mut self, _now: Timestamp, _: &StreamReference) -> Result<()> {
        todo!()
    }
    pub fn describe_stream_summary(&mut self, _now: Timestamp, _: &StreamReference) -> Result<StreamSummary> {
        todo!()
    }
    pub fn describe_stream(&mut self, _now: Timestamp, _: &StreamReference, _: Option<&ShardId>, _: Option<u32>) -> Result<StreamPage> {
        todo!()
    }
    pub fn list_streams(&mut self, _now: Timestamp, _: &ListStreams) -> Result<StreamsPage> {
        todo!()
    }
    pub fn put_record(&mut self, _now: Timestamp, _: &StreamReference, _: PutEntry, _: Option<SequenceNumber>) -> Result<PutReceipt> {
        todo!()
    }
    pub fn put_records(&mut self, _now: Timestamp, _: &StreamReference, _: Vec<PutEntry>) -> Result<Vec<PutOutcome>> {
        todo!()
    }
    pub fn split_shard(&mut self, _now: Timestamp, _: &StreamReference, _: &ShardId, _: u128) -> Result<()> {
        todo!()
    }
    pub fn merge_shards(&mut self, _now: Timestamp, _: &StreamReference, _: &ShardId, _: &ShardId) -> Result<()> {
        todo!()
    }
    pub fn update_shard_count(&mut self, _now: Timestamp, _: &StreamReference, _: u32) -> Result<UpdatedShardCount> {
        todo!()
    }
    pub fn increase_stream_retention_period(&mut self, _now: Timestamp, _: &StreamReference, _: u32) -> Result<()> {
        todo!()
    }
    pub fn decrease_stream_retention_period(&mut self, _now: Timestamp, _: &StreamReference, _: u32) -> Result<()> {
        todo!()
    }
    pub fn list_shards(&mut self, _now: Timestamp, _: &ListShards) -> Result<ShardPage> {
        todo!()
    }
    pub fn get_shard_iterator(&mut self, _now: Timestamp, _: &StreamReference, _: &ShardId, _: ShardPosition) -> Result<ShardIterator> {
        todo!()
    }
    pub fn get_records(&mut self, _now: Timestamp, _: &ShardIterator, _: Option<u32>) -> Result<RecordsPage> {
        todo!()
    }
}
