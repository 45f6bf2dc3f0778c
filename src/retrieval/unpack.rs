//! From what was fetched to batches: aggregates are taken apart, a batch at a time.

use std::{fmt, sync::Arc};

use super::{
    Reservation,
    kpl::{Deaggregated, Deaggregator, Policy, Quarantine},
};
use crate::types::Record;

/// What a record takes in memory beside payload and key.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 160;

/// How the aggregates of a stream are taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Unpacking {
    /// `None` leaves them as they are.
    pub(crate) policy: Option<Policy>,
    /// Where records held back go.
    pub(crate) quarantine: Option<Arc<dyn Quarantine>>,
}

impl Default for Unpacking {
    fn default() -> Self {
        Self { policy: Some(Policy::default()), quarantine: None }
    }
}

/// Fetched records on their way into batches. Few fetched records can be very many user records, which are not all
/// made at once.
pub(crate) struct OpenPage {
    records: std::vec::IntoIter<Record>,
    pub(crate) millis_behind_latest: u64,
    reservation: Reservation,
}

impl OpenPage {
    /// `reservation` is for the records as they were fetched.
    pub(crate) fn new(records: Vec<Record>, millis_behind_latest: u64, reservation: Reservation) -> Self {
        Self { records: records.into_iter(), millis_behind_latest, reservation }
    }

    /// The next records, and their part of the byte budget: at least `max_records` of them, unless the page ends, and not
    /// more than the last aggregate adds to that. `None` at the end of the page.
    pub(crate) fn next(&mut self, deaggregator: &Deaggregator, max_records: usize) -> Option<(Deaggregated, Reservation)> {
        if self.records.as_slice().is_empty() {
            return None;
        }
        if self.records.len() <= max_records && deaggregator.passes(self.records.as_slice()) {
            // Most pages are such: the list that the client made goes on as it is.
            let records: Vec<_> = std::mem::take(&mut self.records).collect();
            let all = self.reservation.bytes();
            return Some((Deaggregated::passed(records), self.reservation.split(all)));
        }
        let mut output = Deaggregated::default();
        output.records.reserve(self.records.len().min(max_records));
        let (mut fetched, mut bytes) = (0, 0);
        while output.records.len() < max_records
            && let Some(record) = self.records.next()
        {
            fetched += 1;
            bytes += record.size_bytes() as u64;
            deaggregator.take_apart(record, &mut output);
        }
        let mut reservation = self.reservation.split(bytes + RECORD_OVERHEAD_BYTES * fetched);
        reservation.resize(bytes + RECORD_OVERHEAD_BYTES * output.records.len() as u64);
        Some((output, reservation))
    }
}

impl fmt::Debug for OpenPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPage({} records)", self.records.len())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        retrieval::ByteBudget,
        testing::{Aggregator, RecordBuilder},
        types::{ExtendedSequenceNumber, SequenceNumber},
    };

    fn page_of(count: u128, data: &'static str) -> Vec<Record> {
        (1..=count).map(|n| RecordBuilder::new(n).data(data).build()).collect()
    }

    /// A page whose reservation is right.
    fn open(page: Vec<Record>, budget: &ByteBudget) -> OpenPage {
        let bytes = page.iter().map(|r| r.size_bytes() as u64 + RECORD_OVERHEAD_BYTES).sum();
        let mut reservation = budget.shard().reserve(bytes).now_or_never().expect("there is room");
        reservation.resize(bytes);
        OpenPage::new(page, 0, reservation)
    }

    #[test]
    fn a_page_without_aggregates_goes_on_as_it_is() {
        let budget = ByteBudget::new(64 * 1024 * 1024);
        let page = page_of(100, "plain");
        let address = page.as_ptr();
        let mut open = open(page, &budget);
        let held = budget.used();
        let (output, part) = open.next(&Deaggregator::new(Some(Policy::default()), None), 100).expect("a batch");
        assert_eq!(output.records.as_ptr(), address, "neither moved nor copied");
        assert_eq!((output.counts.received, output.counts.delivered, part.bytes()), (100, 100, held));
        assert!(open.next(&Deaggregator::new(Some(Policy::default()), None), 100).is_none());
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_was_processed_is_left_out_of_a_page_without_aggregates() {
        let budget = ByteBudget::new(64 * 1024 * 1024);
        for (processed, first) in [(0_u128, 1_u128), (1, 2), (40, 41)] {
            let processed = ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, processed), 0);
            let deaggregator = Deaggregator::new(Some(Policy::default()), None).resuming_after(Some(processed));
            let (output, _) = open(page_of(100, "plain"), &budget).next(&deaggregator, 100).expect("a batch");
            assert_eq!(output.records[0].sequence_number(), SequenceNumber::from_parts(0, first));
            assert_eq!(output.counts.received, 101 - u64::try_from(first).expect("small"));
        }
    }

    #[test]
    fn a_page_of_large_aggregates_is_taken_apart_by_and_by_within_the_budget() {
        let mut aggregator = Aggregator::default();
        let page: Vec<_> = (0..20)
            .map(|n| {
                (0..100).for_each(|_| aggregator.add("k", "x"));
                RecordBuilder::new(n).data(aggregator.finish().data).build()
            })
            .collect();
        let bytes: u64 = page.iter().map(|r| r.size_bytes() as u64).sum();
        let budget = ByteBudget::new(64 * 1024 * 1024);
        let mut open = open(page, &budget);
        let deaggregator = Deaggregator::new(Some(Policy::default()), None);
        let mut parts = Vec::new();
        let mut held = Vec::new();
        while let Some((output, part)) = open.next(&deaggregator, 250) {
            parts.push(output.records.len());
            held.push(part);
        }
        assert_eq!(parts, [300, 300, 300, 300, 300, 300, 200]);
        drop(open);
        assert_eq!(budget.used(), bytes + 2000 * RECORD_OVERHEAD_BYTES);
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
