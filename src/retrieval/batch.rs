//! What a source delivers at a time, and how it is divided.

use std::ops::Range;

use super::Reservation;
use crate::types::{ExtendedSequenceNumber, Record};

/// Records of one shard in order, and the part of the byte budget that they take up until the batch is dropped. They are
/// processed as a whole, or in parts one after the other.
#[derive(Debug)]
pub(crate) struct Batch {
    records: Vec<Record>,
    /// Which of them are to be processed next; not empty.
    part: Range<usize>,
    /// How far the batch was behind the tip of the shard when it was read.
    pub(crate) millis_behind_latest: u64,
    _reservation: Reservation,
}

impl Batch {
    /// A batch, unless there are no records.
    pub(crate) fn new(records: Vec<Record>, millis_behind_latest: u64, reservation: Reservation) -> Option<Self> {
        let part = 0..records.len();
        (!records.is_empty()).then_some(Self { records, part, millis_behind_latest, _reservation: reservation })
    }

    /// Those to be processed next, at least one.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records[self.part.clone()]
    }

    /// Position of the last of them.
    pub(crate) fn last(&self) -> ExtendedSequenceNumber {
        self.records[self.part.end - 1].position()
    }

    /// Payload and keys.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.records().iter().map(|r| r.size_bytes() as u64).sum()
    }

    /// Leaves all but the first `records` of them for later.
    pub(crate) fn divide(&mut self, records: usize) {
        self.part.end = self.part.end.min(self.part.start + records.max(1));
    }

    /// What was left for later, now that the part before it is processed.
    pub(crate) fn rest(mut self) -> Option<Self> {
        self.part = self.part.end..self.records.len();
        (!self.part.is_empty()).then_some(self)
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{retrieval::ByteBudget, testing::record};

    #[test]
    fn a_batch_in_parts_is_the_batch_in_order_and_keeps_its_memory_to_the_end() {
        let budget = ByteBudget::new(1024 * 1024);
        let reservation = budget.shard().reserve(1000).now_or_never().expect("there is room");
        let records: Vec<Record> = (1..=10).map(|n| record(n, "x")).collect();
        let mut left = Batch::new(records.clone(), 7, reservation);
        let (mut processed, mut sizes) = (Vec::new(), Vec::new());
        while let Some(mut batch) = left {
            batch.divide(4);
            assert_eq!(Some(batch.last()), batch.records().last().map(Record::position));
            assert_eq!(budget.used(), 1000);
            processed.extend(batch.records().iter().map(Record::position));
            sizes.push((batch.records().len(), batch.size_bytes()));
            left = batch.rest();
        }
        assert_eq!(processed, records.iter().map(Record::position).collect::<Vec<_>>());
        let one = records[0].size_bytes() as u64;
        assert_eq!(sizes, [(4, 4 * one), (4, 4 * one), (2, 2 * one)]);
        assert_eq!(budget.used(), 0);
        let reservation = budget.shard().reserve(1000).now_or_never().expect("there is room");
        assert!(Batch::new(Vec::new(), 0, reservation).is_none());
    }
}
