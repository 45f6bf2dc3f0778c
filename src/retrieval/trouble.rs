//! Trouble that seldom passes by itself: missing streams, denied permissions.

use crate::error::ErrorKind;

/// How often in a row it is met before it is believed and reported: services have been seen to answer so by mistake, and
/// permissions take a while to spread.
pub(super) const CONFIRMATIONS: u32 = 5;

/// What somebody can do about an error, in whichever way a shard is read.
pub(super) const fn fix(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "check that the stream was not re-created since the lease table was written",
        ErrorKind::Unavailable | ErrorKind::Timeout => "check the region, the endpoint and the network",
        ErrorKind::NotFound
        | ErrorKind::AccessDenied
        | ErrorKind::Throttled
        | ErrorKind::LimitExceeded
        | ErrorKind::ResourceInUse
        | ErrorKind::ExpiredIterator
        | ErrorKind::ExpiredToken
        | ErrorKind::InvalidData
        | ErrorKind::Mismatch
        | ErrorKind::LeaseLost
        | ErrorKind::Shutdown
        | ErrorKind::Processor
        | ErrorKind::Internal => "it is tried again",
    }
}

/// The trouble met in a row, and how often.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<(ErrorKind, u32)>);

impl Trouble {
    /// Notes trouble; returns how often it was met in a row.
    pub(super) fn met(&mut self, kind: ErrorKind) -> u32 {
        let met = match self.0 {
            Some((before, met)) if before == kind => met.saturating_add(1),
            Some(_) | None => 1,
        };
        self.0 = Some((kind, met));
        met
    }

    /// Notes that something else happened.
    pub(super) fn over(&mut self) {
        self.0 = None;
    }
}
