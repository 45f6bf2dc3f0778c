//! Settings of the coordination, and the timers derived from them.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Result},
    settings::{DAY, check_span},
};

/// How leases are kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// How long a worker may be silent before its leases go to others; default 10 s, from 1 s (KCL
    /// `failoverTimeMillis`). Shorter means faster recovery from a crash and more heartbeats: one per worker and
    /// quarter of it. The same for all workers of a fleet.
    pub lease_duration: Duration,
    /// Most leases this worker wants; `None` for no limit (KCL `maxLeasesForWorker`).
    pub max_leases: Option<u32>,
    /// How often a worker looks for signals and at the housekeeper's row: one small read; default 200 ms. Shorter
    /// makes planned moves faster. 10 ms up to a quarter of the lease duration.
    pub watch_interval: Duration,
    /// How long a shard may take to drain when it moves, or the worker stops; default 30 s, up to 24 h. Then others may
    /// take it.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(10),
            max_leases: None,
            watch_interval: Duration::from_millis(200),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Checks the settings and their relations.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fields and their values.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        check_span("lease_duration", self.lease_duration, Duration::from_secs(1)..=Duration::from_secs(3600))?;
        check_span("lease.drain_timeout", self.drain_timeout, Duration::ZERO..=DAY)?;
        if self.watch_interval < Duration::from_millis(10) || self.watch_interval > self.lease_duration / 4 {
            return refuse(format!(
                "watch_interval is {:?} with a lease_duration of {:?}: set it to 10 ms up to a quarter of lease_duration",
                self.watch_interval, self.lease_duration
            ));
        }
        if self.max_leases == Some(0) {
            return refuse("max_leases is 0: set it to at least 1, or leave it unset for no limit".to_owned());
        }
        Ok(())
    }

    /// Time between heartbeats: three may be lost before the fence lapses.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.lease_duration / 4
    }

    /// How much earlier than others a worker stops to believe in its leases: covers clocks that run at different
    /// rates and the time between the check and the call of user code.
    pub(crate) fn fence_margin(&self) -> Duration {
        self.lease_duration / 10
    }

    /// Limit of one call to the lease table.
    pub(crate) fn call_timeout(&self) -> Duration {
        (self.lease_duration / 5).clamp(Duration::from_millis(200), Duration::from_secs(2))
    }

    /// Limit of a scan of the lease table, which may be of many requests: each has the table's own limit, and a leader
    /// that has read nothing for a lease duration stands down.
    pub(crate) fn scan_timeout(&self) -> Duration {
        self.lease_duration.clamp(self.call_timeout(), Duration::from_secs(30))
    }
}
