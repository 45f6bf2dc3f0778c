//! UpdateStreamMode, UpdateMaxRecordSize and DescribeLimits.

use super::{
    Model, RatedCall, RecordDistributionStrategy, ServiceError, ServiceErrorCode, StreamMode, encryption::count, on_demand::warm_shards,
};
use crate::{limits, stream::StreamReference, types::Timestamp};

/// Open shards or streams of an account where the limit is lifted.
const MANY: u32 = 1_000_000;

/// What `DescribeLimits` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountLimits {
    /// Open shards that the account may have.
    pub shard_limit: u32,
    /// Open shards that it has.
    pub open_shard_count: u32,
    /// On-demand streams that it has.
    pub on_demand_stream_count: u32,
    /// On-demand streams that it may have.
    pub on_demand_stream_count_limit: u32,
}

impl Model {
    /// `UpdateStreamMode`. The shards stay as they are, unless the stream is given warm throughput with the on-demand mode.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `LimitExceeded` at the third call of a day or beyond the on-demand streams of the
    /// account, `InvalidArgument` when the stream has the mode already, or for warm throughput in an account without
    /// commitment; `Validation` for warm throughput of a provisioned stream.
    pub fn update_stream_mode(
        &mut self,
        now: Timestamp,
        stream: &StreamReference,
        mode: StreamMode,
        warm_mibps: Option<u32>,
    ) -> Result<(), ServiceError> {
        if mode == StreamMode::Provisioned && warm_mibps.is_some() {
            let message = "WarmThroughputMiBps must not be given for the provisioned capacity mode.";
            return Err(ServiceError::new(ServiceErrorCode::Validation, message));
        }
        let (committed, in_use) = (self.account.is_committed(now), self.open_shards());
        let places = if mode == StreamMode::OnDemand { self.check_on_demand_streams() } else { Ok(()) };
        self.on(now, stream, |stream, cx| {
            stream.require_active(cx)?;
            if stream.facts.mode == mode {
                let message = format!("Stream {} is in the capacity mode {} already.", stream.facts.name, mode.as_str());
                return Err(ServiceError::invalid(message));
            }
            let shards = warm_shards(warm_mibps, committed)?;
            // Without warm throughput the shards stay.
            let more = warm_mibps.map_or(0, |_| shards.saturating_sub(stream.open_count()));
            cx.check_shard_limit(in_use, more)?;
            places?;
            count("UpdateStreamMode", &mut stream.facts.mode_updates, now, cx.config.limits.update_stream_mode_calls_per_day)?;
            stream.facts.mode = mode;
            // Both are of on-demand streams only.
            stream.facts.distribution = RecordDistributionStrategy::default();
            stream.facts.warm_mibps = None;
            match warm_mibps {
                Some(mibps) => stream.warm(cx, mibps, shards, in_use)?,
                None => stream.changed(cx),
            }
            Ok(())
        })
    }

    /// `UpdateMaxRecordSize` to 1,024 to 10,240 KiB.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `Validation`.
    pub fn update_max_record_size(&mut self, now: Timestamp, stream: &StreamReference, max_record_kib: u32) -> Result<(), ServiceError> {
        let bytes = check_max_record_bytes((max_record_kib as usize).saturating_mul(1024))?;
        self.on(now, stream, |stream, cx| {
            stream.require_active(cx)?;
            stream.facts.max_record_bytes = bytes;
            stream.changed(cx);
            Ok(())
        })
    }

    /// `DescribeLimits`.
    ///
    /// # Errors
    /// `LimitExceeded` above one call a second.
    pub fn describe_limits(&mut self, now: Timestamp) -> Result<AccountLimits, ServiceError> {
        self.count(now, RatedCall::DescribeLimits, None)?;
        self.settle_all(now);
        Ok(AccountLimits {
            shard_limit: self.config.limits.shards_per_account.unwrap_or(MANY),
            open_shard_count: self.open_shards(),
            on_demand_stream_count: self.on_demand_streams(),
            on_demand_stream_count_limit: self.config.limits.on_demand_streams.unwrap_or(MANY),
        })
    }

    fn on_demand_streams(&self) -> u32 {
        let count = self.streams.values().filter(|stream| stream.facts.mode == StreamMode::OnDemand).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Refuses one more on-demand stream than the account may have.
    pub(super) fn check_on_demand_streams(&self) -> Result<(), ServiceError> {
        let (most, has) = (self.config.limits.on_demand_streams, self.on_demand_streams());
        if most.is_none_or(|most| has < most) {
            return Ok(());
        }
        let message = format!(
            "This request would exceed the on-demand stream limit for the account {} in {}. Current on-demand stream count for the \
             account: {has}. Limit: {}.",
            self.config.account_id,
            self.config.region,
            most.unwrap_or(has)
        );
        Err(ServiceError::new(ServiceErrorCode::LimitExceeded, message))
    }
}

/// Refuses a largest payload outside 1 to 10 MiB.
pub(super) fn check_max_record_bytes(bytes: usize) -> Result<usize, ServiceError> {
    if (limits::RECORD_DEFAULT_MAX_BYTES..=limits::RECORD_MAX_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    Err(ServiceError::validation(bytes / 1024, "maxRecordSizeInKiB", "Member must have value between 1024 and 10240"))
}
