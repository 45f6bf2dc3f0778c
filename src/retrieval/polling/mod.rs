//! Reading with `GetRecords`: one task per shard fetches ahead of processing.
//!
//! ```text
//! fetch task: room in the queue? ─▶ due? (pacing) ─▶ bytes (budget) ─▶ iterator ─▶ GetRecords ─▶ queue ─▶ next()
//! ```

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Result},
    settings::{DAY, check_span},
};

mod fetch;
mod iterator;
mod pacing;
mod sharing;
mod source;

pub(crate) use iterator::{Cursor, earlier};
pub(crate) use source::{PollingSource, ShardReader};

/// Longest time between two calls: well within the five minutes that the iterator of the first one lives.
const LONGEST_PAUSE: Duration = Duration::from_secs(240);

/// How shards are polled. A shard gives 5 `GetRecords` calls and 2 MiB a second to all applications that poll it
/// (<https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Time between calls at the tip of a shard while records come in; default 250 ms. Shorter means less delay and
    /// more calls; below 200 ms it has no effect. Up to 4 min. A shard that is behind is read as fast as its limits allow,
    /// whatever this says. KCL: `idleTimeBetweenReadsInMillis`, 1500 ms, there for all calls.
    pub interval: Duration,
    /// Longest time between calls at the tip of a shard without records; default 1 s, reached by doubling. It is the
    /// delay of the first record after a quiet time, and bounds the calls that an idle shard costs. Up to 4 min.
    pub idle_interval: Duration,
    /// Most records of one call, 1 to 10,000; default 10,000. It is the largest batch that a processor gets. Calls ask
    /// for less than this when that fills the byte budget. KCL: `maxRecords`, 10,000.
    pub max_records: u32,
    /// Batches fetched ahead of processing, per shard; default 3. More evens out slow batches at the cost of memory,
    /// within the worker's byte budget. KCL: `maxPendingProcessRecordsInput`, 3.
    pub max_buffered_batches: usize,
    /// Calls per second and shard that this application allows itself; default 5, what the service allows. Less leaves
    /// room for other applications; without it they find a balance through throttling. More is for endpoints without
    /// limits, such as `shardkeeper local --no-limits`.
    pub calls_per_second: u32,
    /// Bytes per second and shard that this application allows itself; default 2 MiB, what the service allows. See
    /// [`calls_per_second`](Config::calls_per_second).
    pub bytes_per_second: u64,
    /// How long a shard that cannot be read for a reason that seldom passes by itself (stream not found, access
    /// denied) waits between attempts, once that is confirmed; default 30 s.
    pub blocked_retry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            idle_interval: Duration::from_secs(1),
            max_records: crate::limits::GET_RECORDS_MAX_RECORDS,
            max_buffered_batches: 3,
            calls_per_second: crate::limits::GET_RECORDS_CALLS_PER_SECOND,
            bytes_per_second: crate::limits::READ_BYTES_PER_SECOND,
            blocked_retry_interval: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fields and their values.
    pub fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.interval.is_zero() {
            return bad("polling interval is zero: the service allows 5 calls per second and shard, use 200 ms or more".to_owned());
        }
        check_span("polling interval", self.interval, Duration::from_nanos(1)..=LONGEST_PAUSE)?;
        check_span("polling idle_interval", self.idle_interval, Duration::from_nanos(1)..=LONGEST_PAUSE)?;
        check_span("polling blocked_retry_interval", self.blocked_retry_interval, Duration::ZERO..=DAY)?;
        if self.idle_interval < self.interval {
            return bad(format!(
                "polling idle_interval is {:?} and interval {:?}: raise idle_interval, or lower interval",
                self.idle_interval, self.interval
            ));
        }
        for (name, value, most) in [
            ("max_records", u64::from(self.max_records), u64::from(crate::limits::GET_RECORDS_MAX_RECORDS)),
            ("calls_per_second", u64::from(self.calls_per_second), u64::from(u32::MAX)),
            ("bytes_per_second", self.bytes_per_second, u64::MAX),
        ] {
            if !(1..=most).contains(&value) {
                return bad(format!("polling {name} is {value}, expected 1 to {most}"));
            }
        }
        if !(1..=1000).contains(&self.max_buffered_batches) {
            return bad(format!("polling max_buffered_batches is {}, expected 1 to 1000", self.max_buffered_batches));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        Config::default().validate().expect("the defaults are valid");
        for (field, config) in [
            ("interval", Config { interval: Duration::ZERO, ..Config::default() }),
            ("idle_interval", Config { idle_interval: Duration::from_millis(10), ..Config::default() }),
            ("idle_interval", Config { idle_interval: Duration::MAX, ..Config::default() }),
            ("blocked_retry_interval", Config { blocked_retry_interval: Duration::MAX, ..Config::default() }),
            ("max_records", Config { max_records: 10_001, ..Config::default() }),
            ("calls_per_second", Config { calls_per_second: 0, ..Config::default() }),
            ("bytes_per_second", Config { bytes_per_second: 0, ..Config::default() }),
            ("max_buffered_batches", Config { max_buffered_batches: 0, ..Config::default() }),
        ] {
            let error = config.validate().expect_err(field);
            assert!(error.message().contains(field), "{error}");
        }
    }
}
