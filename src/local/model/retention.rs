//! Retention: how long records and closed shards stay, and how to change it.

use std::time::Duration;

use super::{
    Model, ServiceError,
    change::Change,
    stream::{Context, Stream},
};
use crate::{limits, stream::StreamReference, types::Timestamp};

const MIN_HOURS: u32 = (limits::RETENTION_MIN.as_secs() / 3600) as u32;
const MAX_HOURS: u32 = (limits::RETENTION_MAX.as_secs() / 3600) as u32;

impl Model {
    /// `IncreaseStreamRetentionPeriod`.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument` outside 24 to 8,760 hours or below the present period.
    pub fn increase_stream_retention_period(&mut self, now: Timestamp, stream: &StreamReference, hours: u32) -> Result<(), ServiceError> {
        self.on(now, stream, |stream, cx| {
            check_hours(hours)?;
            let (name, present) = (&stream.facts.name, stream.facts.retention_hours);
            if hours < present {
                return Err(ServiceError::invalid(format!(
                    "Requested retention period ({hours} hours) for stream {name} can not be shorter than existing retention period \
                     ({present} hours). Use DecreaseRetentionPeriod API."
                )));
            }
            stream.set_retention(cx, hours)
        })
    }

    /// `DecreaseStreamRetentionPeriod`: what is older than the new period is gone at once.
    ///
    /// # Errors
    /// `ResourceNotFound`, `ResourceInUse`, `InvalidArgument` outside 24 to 8,760 hours or above the present period.
    pub fn decrease_stream_retention_period(&mut self, now: Timestamp, stream: &StreamReference, hours: u32) -> Result<(), ServiceError> {
        self.on(now, stream, |stream, cx| {
            check_hours(hours)?;
            let (name, present) = (&stream.facts.name, stream.facts.retention_hours);
            if hours > present {
                return Err(ServiceError::invalid(format!(
                    "Requested retention period ({hours} hours) for stream {name} can not be longer than existing retention period \
                     ({present} hours). Use IncreaseRetentionPeriod API."
                )));
            }
            stream.set_retention(cx, hours)
        })
    }
}

fn check_hours(hours: u32) -> Result<(), ServiceError> {
    let (bound, limit, how) = match hours {
        0..MIN_HOURS => ("Minimum", MIN_HOURS, "short"),
        MIN_HOURS..=MAX_HOURS => return Ok(()),
        _ => ("Maximum", MAX_HOURS, "long"),
    };
    Err(ServiceError::invalid(format!(
        "{bound} allowed retention period is {limit} hours. Requested retention period ({hours} hours) is too {how}."
    )))
}

impl Stream {
    fn set_retention(&mut self, cx: &mut Context<'_>, hours: u32) -> Result<(), ServiceError> {
        self.require_active(cx)?;
        // Trimming is lazy: trim by the old period first, or a longer one would bring back what was gone.
        self.retain_all(cx);
        self.facts.retention_hours = hours;
        self.retain_all(cx);
        self.note(cx);
        Ok(())
    }

    /// The oldest moment whose records are kept.
    pub(super) fn trim_horizon(&self, now: Timestamp) -> Timestamp {
        now.minus(Duration::from_secs(u64::from(self.facts.retention_hours) * 3600)).max(self.facts.created)
    }

    /// Trims one shard, and drops it when it was closed before the horizon.
    pub(super) fn retain(&mut self, cx: &mut Context<'_>, index: u32) {
        let horizon = self.trim_horizon(cx.now);
        let Some(shard) = self.shards.get_mut(&index) else { return };
        let trimmed = shard.trim(horizon);
        let expired = shard.facts.closed.is_some_and(|closed| closed < horizon);
        if expired {
            self.shards.remove(&index);
            self.seats.wake_shard(cx, index);
            self.seats.forget_shard(index);
            cx.journal.note(|| Change::ShardRemoved(self.facts.name.clone(), index));
        } else if let Some(place) = trimmed {
            cx.journal.note(|| Change::Trimmed(self.facts.name.clone(), index, place));
        }
        if expired || trimmed.is_some() {
            // The stream's row carries the next place, which must outlive the records that it follows from.
            self.note(cx);
        }
    }

    /// Trims every shard.
    pub(super) fn retain_all(&mut self, cx: &mut Context<'_>) {
        let horizon = self.trim_horizon(cx.now);
        let due: Vec<u32> = self
            .shards
            .values()
            .filter(|shard| {
                shard.facts.closed.is_some_and(|closed| closed < horizon) || shard.records().front().is_some_and(|r| r.arrival < horizon)
            })
            .map(|shard| shard.facts.index)
            .collect();
        for index in due {
            self.retain(cx, index);
        }
    }
}
