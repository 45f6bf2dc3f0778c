//! Where in the shard reading begins, and where it goes on when an iterator is lost. Pure.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Result},
    lease::Lease,
    stream::ShardPosition,
    types::{Checkpoint, ExtendedSequenceNumber, Record, SequenceNumber, Timestamp},
};

/// A moment, and ever earlier ones, from one second before it to more than an hour: what to try in turn when the service
/// refuses it as a moment to come, since the clock that froze it is ahead of the service's.
pub(crate) fn earlier(moment: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::once(moment).chain((0..13).map(move |doublings| moment.minus(Duration::from_secs(1 << doublings))))
}

/// Place in a shard up to which it was fetched. It outlives iterators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    start: ShardPosition,
    /// Everything up to here was processed before this tenure.
    processed: Option<ExtendedSequenceNumber>,
    /// Everything up to here was fetched in this tenure.
    fetched: Option<SequenceNumber>,
    /// Whether reading begins at the tip as it was at the first start.
    from_tip: bool,
    /// How many of the moments from that one back the service has refused as still to come.
    refused: usize,
}

impl Cursor {
    /// Where the lease's checkpoint says. `now` stands in for the frozen moment of a `Latest` lease that has none,
    /// as another library may have made it.
    ///
    /// # Errors
    /// `InvalidData` for a lease to start at a moment that names none, and for one that has ended.
    pub(crate) fn starting_at(lease: &Lease, now: Timestamp) -> Result<Self> {
        let (start, processed) = match lease.checkpoint {
            Checkpoint::TrimHorizon => (ShardPosition::TrimHorizon, None),
            // An iterator of the kind LATEST must not be used: what was put between the first start of the
            // application and now, or between two iterators, would be lost.
            Checkpoint::Latest => (ShardPosition::AtTimestamp(lease.start_at.unwrap_or(now)), None),
            Checkpoint::AtTimestamp => {
                let start_at = lease.start_at.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidData, format!("lease {} is to start at a moment and does not say which", lease.key))
                })?;
                (ShardPosition::AtTimestamp(start_at), None)
            }
            // The record of the checkpoint is read again: it may be an aggregate of which this was not the last user
            // record, which cannot be told from here. What was processed is left out when it is taken apart.
            Checkpoint::Sequence(n) => (ShardPosition::AtSequenceNumber(n.sequence_number), Some(n)),
            Checkpoint::ShardEnd => {
                return Err(Error::new(ErrorKind::InvalidData, format!("lease {} has ended: there is nothing to read", lease.key)));
            }
        };
        Ok(Self { start, processed, fetched: None, from_tip: lease.checkpoint == Checkpoint::Latest, refused: 0 })
    }

    /// Where the next iterator is to be opened: after the last record fetched. Until there was one, at the start,
    /// which does not move: a timestamp stays the same timestamp.
    pub(crate) fn position(&self) -> ShardPosition {
        match (self.fetched, self.start) {
            (Some(fetched), _) => ShardPosition::AfterSequenceNumber(fetched),
            (None, ShardPosition::AtTimestamp(moment)) => ShardPosition::AtTimestamp(earlier(moment).nth(self.refused).unwrap_or(moment)),
            (None, start) => start,
        }
    }

    /// Notes that an iterator at `position` was refused. True when another position is to be tried at once: the clock of
    /// the worker that froze the moment runs ahead of the service's, and an earlier moment will do. An iterator that is lost
    /// later is opened there again: at the tip of then, what was put meanwhile would be left out.
    pub(in crate::retrieval) fn refused(&mut self) -> bool {
        let (true, None, ShardPosition::AtTimestamp(moment)) = (self.from_tip, self.fetched, self.start) else { return false };
        self.refused += 1;
        let retry = self.refused < earlier(moment).count();
        if !retry {
            // It is another trouble.
            self.refused = 0;
        }
        retry
    }

    /// Up to where everything was processed before, also inside of an aggregate. What is fetched begins with the record
    /// of this position.
    pub(crate) const fn processed(&self) -> Option<ExtendedSequenceNumber> {
        self.processed
    }

    /// Notes a page as fetched and returns those of its records that were not fetched before. To be called with
    /// records as the service has them, before aggregates are taken apart.
    pub(crate) fn advance(&mut self, mut records: Vec<Record>) -> Vec<Record> {
        let fetched = self.fetched;
        let is_old = |r: &Record| fetched.is_some_and(|f| r.sequence_number() <= f);
        if let Some(last) = records.last() {
            self.fetched = self.fetched.max(Some(last.sequence_number()));
        }
        // Records are in order, so that the first new one ends the old ones.
        let old = records.iter().take_while(|r| is_old(r)).count();
        if old > 0 {
            records.drain(..old);
        }
        records
    }

    /// Goes back to what was delivered, when fetching has to begin anew.
    pub(in crate::retrieval) const fn delivered_up_to(&mut self, last: ExtendedSequenceNumber) {
        self.fetched = Some(last.sequence_number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EncryptionType, RecordParts, ShardId, StreamIdentifier};

    fn n(low: u128) -> SequenceNumber {
        SequenceNumber::from_parts(0, low)
    }

    fn record(sequence: u128) -> Record {
        Record::from_parts(RecordParts {
            sequence_number: n(sequence),
            sub_sequence_number: 0,
            partition_key: "k".into(),
            explicit_hash_key: None,
            data: bytes::Bytes::new(),
            approximate_arrival: None,
            encryption_type: EncryptionType::None,
            aggregated: false,
        })
    }

    fn lease(checkpoint: Checkpoint, start_at: Option<i64>) -> Lease {
        let stream = StreamIdentifier::Single("clicks".parse().expect("valid"));
        Lease { start_at: start_at.map(Timestamp::from_millis), ..Lease::new(&stream, ShardId::from_index(0), checkpoint) }
    }

    const NOW: Timestamp = Timestamp::from_millis(9000);

    #[test]
    fn a_tip_frozen_by_a_clock_that_runs_ahead_is_read_from_an_earlier_moment_which_stays() {
        let mut cursor = Cursor::starting_at(&lease(Checkpoint::Latest, Some(9_000)), NOW).expect("can be opened");
        let at = |millis| ShardPosition::AtTimestamp(Timestamp::from_millis(millis));
        assert_eq!(cursor.position(), at(9_000));
        for back in [1_000, 2_000, 4_000] {
            assert!(cursor.refused());
            assert_eq!(cursor.position(), at(9_000 - back));
        }
        assert_eq!(cursor.advance(vec![]).len(), 0);
        assert_eq!(cursor.position(), at(5_000), "a lost iterator is not to skip what was put meanwhile");
        assert_eq!(cursor.advance(vec![record(3)]).len(), 1);
        assert!(!cursor.refused());

        let mut cursor = Cursor::starting_at(&lease(Checkpoint::Latest, Some(9_000)), NOW).expect("can be opened");
        let tries = 1 + (0..1000).take_while(|_| cursor.refused()).count();
        assert!((10..20).contains(&tries), "refused everywhere, it is another trouble: {tries}");
        assert_eq!(cursor.position(), at(9_000));
        let mut at = Cursor::starting_at(&lease(Checkpoint::AtTimestamp, Some(9_000)), NOW).expect("can be opened");
        assert!(!at.refused(), "a moment that the application has chosen is waited for");
    }

    #[test]
    fn each_checkpoint_opens_where_it_should() {
        let sequence = |low, sub| Checkpoint::Sequence(ExtendedSequenceNumber::new(n(low), sub));
        for (checkpoint, start_at, expected) in [
            (Checkpoint::TrimHorizon, None, ShardPosition::TrimHorizon),
            (Checkpoint::TrimHorizon, Some(5), ShardPosition::TrimHorizon),
            (Checkpoint::Latest, Some(5), ShardPosition::AtTimestamp(Timestamp::from_millis(5))),
            (Checkpoint::Latest, None, ShardPosition::AtTimestamp(NOW)),
            (Checkpoint::AtTimestamp, Some(5), ShardPosition::AtTimestamp(Timestamp::from_millis(5))),
            (sequence(7, 0), Some(5), ShardPosition::AtSequenceNumber(n(7))),
            (sequence(7, 2), None, ShardPosition::AtSequenceNumber(n(7))),
        ] {
            let cursor = Cursor::starting_at(&lease(checkpoint, start_at), NOW).expect("can be opened");
            assert_eq!(cursor.position(), expected, "{checkpoint}");
        }
        for (checkpoint, start_at) in [(Checkpoint::AtTimestamp, None), (Checkpoint::ShardEnd, Some(5))] {
            let error = Cursor::starting_at(&lease(checkpoint, start_at), NOW).expect_err("cannot be opened");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn reading_goes_on_after_the_last_record_fetched_and_else_at_the_same_start() {
        let mut cursor = Cursor::starting_at(&lease(Checkpoint::Latest, Some(5)), NOW).expect("can be opened");
        assert_eq!(cursor.advance(vec![]).len(), 0);
        assert_eq!(cursor.position(), ShardPosition::AtTimestamp(Timestamp::from_millis(5)), "empty pages do not move it");
        assert_eq!(cursor.advance(vec![record(3), record(4)]).len(), 2);
        assert_eq!(cursor.position(), ShardPosition::AfterSequenceNumber(n(4)));
    }

    #[test]
    fn records_fetched_before_are_left_out() {
        let checkpoint = Checkpoint::Sequence(ExtendedSequenceNumber::new(n(7), 1));
        let mut cursor = Cursor::starting_at(&lease(checkpoint, None), NOW).expect("can be opened");
        let fresh = cursor.advance(vec![record(7), record(8)]);
        assert_eq!(fresh.iter().map(|r| r.position().to_string()).collect::<Vec<_>>(), ["7", "8"], "7 may hold more");
        let fresh = cursor.advance(vec![record(8), record(9)]);
        assert_eq!(fresh.iter().map(|r| r.position().to_string()).collect::<Vec<_>>(), ["9"]);
        assert_eq!(cursor.processed(), Some(ExtendedSequenceNumber::new(n(7), 1)));
    }
}
