//! Messages between workers, left in the receiver's worker row.

use serde::{Deserialize, Serialize};

use super::LeaseKey;
use crate::types::WorkerId;

/// A message to a worker. Signals are advice: they may come late, twice or not at all, and every act they lead to
/// is a conditional write of its own. A set of them lies in the receiver's row until it has read them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// To the housekeeper: workers or leases have changed, plan now.
    Plan {
        /// Who says so.
        from: WorkerId,
        /// Grows with each such signal of one sender, so that two of them are two members of the set.
        number: u64,
    },
    /// To an owner: hand this lease over as soon as the batch in hand is done.
    HandOver {
        /// The lease.
        lease: LeaseKey,
        /// Its counter when this was decided; of an older tenure, it is void.
        counter: u64,
        /// The next owner.
        to: WorkerId,
    },
    /// To a worker: this lease has no living owner, take it.
    Take {
        /// The lease.
        lease: LeaseKey,
        /// Its counter when this was decided.
        counter: u64,
    },
    /// To the next owner: the lease has been handed over to you.
    Accept {
        /// The lease.
        lease: LeaseKey,
        /// Its counter after the hand-over.
        counter: u64,
    },
    /// To the owner of a waiting child: a parent of this lease has ended.
    ParentEnded {
        /// The child's lease.
        lease: LeaseKey,
        /// The counter of the parent's row when it ended.
        counter: u64,
    },
}

impl Signal {
    /// The text kept in the row.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a signal is plain data")
    }

    /// Reads the text of a row; `None` for a signal this version does not know, which is then ignored.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
