//! What became of the records.

/// Counts of what de-aggregation took in and what became of it: `received = delivered + filtered + quarantined`, always.
///
/// They count on every stream, also where nothing is aggregated: then `aggregates` stays 0, and `received` and `delivered` are
/// the records fetched, which run ahead of those processed by what is buffered.
///
/// The unit is the record as the processor would see it: a plain record counts as 1, and so does an aggregate that
/// could not be taken apart; one that was taken apart counts as its user records. What was processed before a restart
/// and is read again is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct KplCounts {
    /// Aggregates that were taken apart.
    pub aggregates: u64,
    /// Records that began as aggregates and could not be taken apart, wholly or in part.
    pub malformed: u64,
    /// Records in, plain ones included.
    pub received: u64,
    /// Records that go to the processor, plain ones included.
    pub delivered: u64,
    /// Records that the policy leaves out.
    pub filtered: u64,
    /// Records that went to the quarantine.
    pub quarantined: u64,
}

impl KplCounts {
    /// Adds those of `other`.
    pub const fn add(&mut self, other: &Self) {
        self.aggregates += other.aggregates;
        self.malformed += other.malformed;
        self.received += other.received;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
    }
}
