//! UpdateStreamWarmThroughput and UpdateStreamRecordDistributionStrategy, which are for on-demand streams.

use super::{
    Model, ServiceError, ServiceErrorCode, StreamMode,
    reshard::Reshape,
    stream::{Context, Stream},
};
use crate::{
    stream::StreamReference,
    types::{StreamArn, StreamName, Timestamp},
};

/// Shards of an on-demand stream at least.
const LEAST_SHARDS: u32 = 4;
/// Warm throughput of a stream at most: 10 GiB a second.
const MAX_WARM_MIBPS: u32 = 10 * 1024;

/// How records come to their shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecordDistributionStrategy {
    /// By their partition keys or explicit hash keys.
    #[default]
    UserPartitionKey,
    /// One shard after the other, whatever their keys; they need none.
    Auto,
}

impl RecordDistributionStrategy {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserPartitionKey => "USER_PARTITION_KEY",
            Self::Auto => "AUTO",
        }
    }
}

/// The write throughput for which a stream has shards, in MiB per second: one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmThroughput {
    /// What it is being scaled to.
    pub target_mibps: u32,
    /// What it has shards for now.
    pub current_mibps: u32,
}

/// What `UpdateStreamWarmThroughput` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedWarmThroughput {
    /// The stream.
    pub stream_name: StreamName,
    /// Its ARN.
    pub stream_arn: StreamArn,
    /// Its throughput.
    pub warm_throughput: WarmThroughput,
}

impl Model {
    /// `UpdateStreamWarmThroughput`: gives the stream a shard for each MiB per second, and never fewer than four.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is changing, `LimitExceeded` above 10 GiB per second or the
    /// account's shards, `InvalidArgument` for a provisioned stream or in an account without commitment.
    pub fn update_stream_warm_throughput(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        mibps: u32,
    ) -> Result<UpdatedWarmThroughput, ServiceError> {
        let (committed, in_use) = (self.account.is_committed(now), self.open_shards());
        self.on(now, stream, |stream, cx| {
            if stream.facts.mode != StreamMode::OnDemand {
                let message = "UpdateStreamWarmThroughput is only supported for data streams with the on-demand capacity mode.";
                return Err(ServiceError::invalid(message));
            }
            stream.require_active(cx)?;
            let shards = warm_shards(Some(mibps), committed)?;
            stream.warm(cx, mibps, shards, in_use)?;
            Ok(UpdatedWarmThroughput {
                stream_name: stream.facts.name.clone(),
                stream_arn: stream.facts.arn.clone(),
                warm_throughput: stream.warm_throughput(),
            })
        })
    }

    /// Whether its records need no partition key; no operation of the service.
    #[cfg(feature = "server")]
    pub(in crate::local) fn ignores_keys(&mut self, now: Timestamp, stream: &StreamReference) -> Result<bool, ServiceError> {
        self.on(now, stream, |stream, _| Ok(stream.ignores_keys()))
    }

    /// `UpdateStreamRecordDistributionStrategy`, from the next record on.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse` while the stream is changing, `InvalidArgument` for a provisioned stream.
    pub fn update_stream_record_distribution_strategy(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        strategy: RecordDistributionStrategy,
    ) -> Result<(), ServiceError> {
        self.on(now, stream, |stream, cx| {
            if stream.facts.mode != StreamMode::OnDemand {
                let message = "The record distribution strategy can only be set for data streams with the on-demand capacity mode.";
                return Err(ServiceError::invalid(message));
            }
            stream.require_active(cx)?;
            stream.facts.distribution = strategy;
            stream.note(cx);
            Ok(())
        })
    }
}

/// Shards of an on-demand stream with this warm throughput.
pub(super) fn warm_shards(mibps: Option<u32>, committed: bool) -> Result<u32, ServiceError> {
    match mibps {
        None => Ok(LEAST_SHARDS),
        Some(_) if !committed => {
            let message =
                "Warm throughput needs MinimumThroughputBillingCommitment to be enabled for the account: see UpdateAccountSettings.";
            Err(ServiceError::invalid(message))
        }
        Some(mibps) if mibps > MAX_WARM_MIBPS => {
            let message = format!("Warm throughput of {mibps} MiBps is above the limit of {MAX_WARM_MIBPS} MiBps for one stream.");
            Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
        }
        Some(mibps) => Ok(mibps.max(LEAST_SHARDS)),
    }
}

impl Stream {
    pub(super) fn warm(&mut self, cx: &mut Context<'_>, mibps: u32, shards: u32, in_use: u32) -> Result<(), ServiceError> {
        cx.check_shard_limit(in_use, shards.saturating_sub(self.open_count()))?;
        self.facts.warm_mibps = Some(mibps);
        self.begin(cx, Reshape::Scale { target: shards })
    }

    pub(super) fn warm_throughput(&self) -> WarmThroughput {
        let current_mibps = self.open_count();
        WarmThroughput { target_mibps: self.facts.warm_mibps.unwrap_or(current_mibps), current_mibps }
    }

    pub(super) const fn ignores_keys(&self) -> bool {
        matches!(self.facts.distribution, RecordDistributionStrategy::Auto)
    }

    /// Index of the open shard whose turn it is.
    pub(super) fn next_in_turn(&self) -> u32 {
        let turn = usize::try_from(self.facts.next_place).unwrap_or(0) % self.open.len();
        *self.open.values().nth(turn).expect("below their number")
    }
}
