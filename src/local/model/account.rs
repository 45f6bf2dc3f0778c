//! UpdateAccountSettings and DescribeAccountSettings: the commitment to a least throughput of on-demand streams. There is no
//! bill here; what the commitment unlocks is warm throughput.

use std::time::Duration;

use super::{Model, change::Change};
use crate::types::Timestamp;

/// How long a commitment lasts at least.
const LEAST: Duration = Duration::from_secs(24 * 3600);

/// The lasting facts of the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::local) struct AccountFacts {
    started: Option<Timestamp>,
    /// When the commitment ends, or ended.
    ends: Option<Timestamp>,
}

/// Whether the account is committed to a least throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitmentStatus {
    /// It is not.
    Disabled,
    /// It is, until further notice.
    Enabled,
    /// It is to end as soon as it may.
    EnabledUntilEarliestAllowedEnd,
}

impl CommitmentStatus {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Enabled => "ENABLED",
            Self::EnabledUntilEarliestAllowedEnd => "ENABLED_UNTIL_EARLIEST_ALLOWED_END",
        }
    }
}

/// What `DescribeAccountSettings` says of the commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThroughputCommitment {
    /// Whether there is one.
    pub status: CommitmentStatus,
    /// When the last one began.
    pub started: Option<Timestamp>,
    /// When it ended; `None` while it lasts.
    pub ended: Option<Timestamp>,
    /// When it may end, 24 hours after it began; `None` when it has ended.
    pub earliest_allowed_end: Option<Timestamp>,
}

impl AccountFacts {
    pub(super) fn is_committed(&self, now: Timestamp) -> bool {
        self.started.is_some() && self.ends.is_none_or(|end| now < end)
    }

    fn commitment(&self, now: Timestamp) -> ThroughputCommitment {
        let (started, earliest) = (self.started, self.started.map(|at| at.plus(LEAST)));
        let (status, ended, earliest_allowed_end) = match (self.is_committed(now), self.ends) {
            (true, None) => (CommitmentStatus::Enabled, None, earliest),
            (true, Some(_)) => (CommitmentStatus::EnabledUntilEarliestAllowedEnd, None, earliest),
            (false, ended) => (CommitmentStatus::Disabled, ended, None),
        };
        ThroughputCommitment { status, started, ended, earliest_allowed_end }
    }
}

impl Model {
    /// `UpdateAccountSettings`: begins the commitment, or ends it, at once or 24 hours after it began. To begin it again
    /// before then keeps it.
    pub fn update_account_settings(&mut self, now: Timestamp, committed: bool) -> ThroughputCommitment {
        match (committed, self.account.is_committed(now)) {
            (true, true) => self.account.ends = None,
            (true, false) => self.account = AccountFacts { started: Some(now), ends: None },
            (false, true) => self.account.ends = self.account.started.map(|at| at.plus(LEAST).max(now)),
            (false, false) => {}
        }
        self.journal.note(|| Change::Account);
        self.account.commitment(now)
    }

    /// `DescribeAccountSettings`.
    #[must_use]
    pub fn describe_account_settings(&self, now: Timestamp) -> ThroughputCommitment {
        self.account.commitment(now)
    }
}
