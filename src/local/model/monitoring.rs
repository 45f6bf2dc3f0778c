//! EnableEnhancedMonitoring and DisableEnhancedMonitoring. No metric is kept: the stream says which would be.

use std::{collections::BTreeSet, str::FromStr};

use super::{Model, ServiceError, stream::Stream};
use crate::{
    stream::StreamReference,
    types::{InvalidText, StreamArn, StreamName, Timestamp},
};

/// A metric that the service keeps for each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ShardLevelMetric {
    /// Bytes put.
    IncomingBytes,
    /// Records put.
    IncomingRecords,
    /// Age of the last record read.
    IteratorAgeMilliseconds,
    /// Bytes read.
    OutgoingBytes,
    /// Records read.
    OutgoingRecords,
    /// Reads refused for the rate.
    ReadProvisionedThroughputExceeded,
    /// Writes refused for the rate.
    WriteProvisionedThroughputExceeded,
}

impl ShardLevelMetric {
    /// All of them; the service knows the set as `ALL`.
    pub const ALL: [Self; 7] = [
        Self::IncomingBytes,
        Self::IncomingRecords,
        Self::IteratorAgeMilliseconds,
        Self::OutgoingBytes,
        Self::OutgoingRecords,
        Self::ReadProvisionedThroughputExceeded,
        Self::WriteProvisionedThroughputExceeded,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IncomingBytes => "IncomingBytes",
            Self::IncomingRecords => "IncomingRecords",
            Self::IteratorAgeMilliseconds => "IteratorAgeMilliseconds",
            Self::OutgoingBytes => "OutgoingBytes",
            Self::OutgoingRecords => "OutgoingRecords",
            Self::ReadProvisionedThroughputExceeded => "ReadProvisionedThroughputExceeded",
            Self::WriteProvisionedThroughputExceeded => "WriteProvisionedThroughputExceeded",
        }
    }
}

impl FromStr for ShardLevelMetric {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let found = Self::ALL.into_iter().find(|metric| metric.as_str() == text);
        found.ok_or_else(|| InvalidText::new("shard-level metric", text, "expected such as IncomingBytes"))
    }
}

/// What a change of the metrics answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitoringChange {
    /// The stream's name.
    pub stream_name: StreamName,
    /// The stream's ARN.
    pub stream_arn: StreamArn,
    /// The metrics before.
    pub current: BTreeSet<ShardLevelMetric>,
    /// The metrics after.
    pub desired: BTreeSet<ShardLevelMetric>,
}

impl Model {
    /// `EnableEnhancedMonitoring`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`.
    pub fn enable_enhanced_monitoring(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        metrics: &BTreeSet<ShardLevelMetric>,
    ) -> Result<MonitoringChange, ServiceError> {
        self.change_metrics(now, stream, |current| current | metrics)
    }

    /// `DisableEnhancedMonitoring`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`.
    pub fn disable_enhanced_monitoring(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        metrics: &BTreeSet<ShardLevelMetric>,
    ) -> Result<MonitoringChange, ServiceError> {
        self.change_metrics(now, stream, |current| current - metrics)
    }

    fn change_metrics(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        change: impl FnOnce(&BTreeSet<ShardLevelMetric>) -> BTreeSet<ShardLevelMetric>,
    ) -> Result<MonitoringChange, ServiceError> {
        self.on(now, stream, |stream, cx| {
            stream.require_active(cx)?;
            let Stream { facts, .. } = stream;
            let desired = change(&facts.metrics);
            let current = std::mem::replace(&mut facts.metrics, desired.clone());
            let answer = MonitoringChange { stream_name: facts.name.clone(), stream_arn: facts.arn.clone(), current, desired };
            stream.changed(cx);
            Ok(answer)
        })
    }
}
