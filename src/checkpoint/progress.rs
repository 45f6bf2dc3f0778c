//! What may be check-pointed: the marks of one tenure, and the rules between them. Pure.

use crate::{
    error::{Error, ErrorKind, Result},
    types::{Checkpoint, ExtendedSequenceNumber},
};

/// The marks of one tenure of one shard. `durable <= delivered` and `acknowledged <= delivered`, and none ever moves back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// What the lease row says, as far as is known.
    durable: Checkpoint,
    /// The last record of the last batch for which user code returned `Ok`.
    acknowledged: Checkpoint,
    /// The last record handed to user code.
    delivered: Checkpoint,
    /// The last record of the batch that user code has in hand. None between calls: a batch whose call failed is
    /// delivered, and not done.
    in_hand: Option<Checkpoint>,
    /// Two-phase checkpoints between their halves.
    prepared: u32,
}

/// What a checkpoint that is in order leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to be written.
    Write(Checkpoint),
    /// The row says so already.
    Durable,
}

impl Progress {
    pub(super) const fn starting_at(checkpoint: Checkpoint) -> Self {
        Self { durable: checkpoint, acknowledged: checkpoint, delivered: checkpoint, in_hand: None, prepared: 0 }
    }

    pub(super) const fn durable(&self) -> Checkpoint {
        self.durable
    }

    pub(super) const fn acknowledged(&self) -> Checkpoint {
        self.acknowledged
    }

    /// A batch that ends with `last` goes to user code, for the first time or again.
    pub(super) fn deliver(&mut self, last: ExtendedSequenceNumber) {
        self.delivered = self.delivered.max(last.into());
        self.in_hand = Some(last.into());
    }

    /// User code failed at the batch in hand.
    pub(super) const fn refuse(&mut self) {
        self.in_hand = None;
    }

    /// User code returned `Ok` for the batch that ends with `last`.
    ///
    /// # Panics
    /// When it was not delivered: then a checkpoint could pass records that nobody has seen.
    pub(super) fn acknowledge(&mut self, last: ExtendedSequenceNumber) {
        assert!(self.delivered >= last.into(), "only what was delivered can be acknowledged");
        self.acknowledged = self.acknowledged.max(last.into());
        self.in_hand = None;
    }

    /// Where a checkpoint of everything done is: with the batch in hand when its own call asks, `of_the_call`.
    pub(super) fn everything_done(&self, of_the_call: bool) -> Verdict {
        let in_hand = self.in_hand.filter(|_| of_the_call);
        self.verdict(self.acknowledged.max(in_hand.unwrap_or(self.acknowledged)))
    }

    /// Checks a checkpoint that user code asks for.
    pub(super) fn validate(&self, at: ExtendedSequenceNumber) -> Result<Verdict> {
        let asked = Checkpoint::from(at);
        if asked < self.durable {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("checkpoint at {at} is behind the last one, {}: checkpoints cannot move back", self.durable),
            ));
        }
        if asked > self.delivered {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("checkpoint at {at} is ahead of the last record delivered, {}: check-point a record that was delivered", {
                    self.delivered
                }),
            ));
        }
        Ok(self.verdict(asked))
    }

    fn verdict(&self, checkpoint: Checkpoint) -> Verdict {
        if checkpoint > self.durable { Verdict::Write(checkpoint) } else { Verdict::Durable }
    }

    /// What the automatic checkpoint is to write now. It waits while a two-phase checkpoint is between its halves,
    /// since writing would wipe the first half.
    pub(super) fn due(&self) -> Option<Checkpoint> {
        (self.acknowledged > self.durable && self.prepared == 0).then_some(self.acknowledged)
    }

    /// A checkpoint was written.
    pub(super) fn written(&mut self, checkpoint: Checkpoint) {
        self.durable = self.durable.max(checkpoint);
    }

    pub(super) fn begin_prepared(&mut self) {
        self.prepared += 1;
    }

    pub(super) fn end_prepared(&mut self) {
        self.prepared = self.prepared.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::SequenceNumber;

    fn at(n: u128) -> ExtendedSequenceNumber {
        ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, n / 4), (n % 4) as u64)
    }

    #[test]
    fn a_checkpoint_lies_between_the_last_one_and_what_was_delivered() {
        let mut progress = Progress::starting_at(Checkpoint::Sequence(at(10)));
        assert_eq!(progress.everything_done(true), Verdict::Durable, "nothing was delivered yet");
        progress.deliver(at(20));
        assert_eq!(progress.validate(at(10)).expect("equal to the last"), Verdict::Durable);
        assert_eq!(progress.validate(at(11)).expect("within"), Verdict::Write(at(11).into()));
        assert_eq!(progress.validate(at(20)).expect("within"), Verdict::Write(at(20).into()));
        for (value, bound) in [(9, 10), (21, 20)] {
            let error = progress.validate(at(value)).expect_err("outside");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains(&at(value).to_string()) && error.message().contains(&at(bound).to_string()), "{error}");
        }
    }

    #[test]
    fn a_batch_whose_call_failed_is_not_done() {
        let mut progress = Progress::starting_at(Checkpoint::TrimHorizon);
        progress.deliver(at(4));
        assert_eq!(progress.everything_done(true), Verdict::Write(at(4).into()), "the call under way may say so");
        assert_ne!(progress.everything_done(false), Verdict::Write(at(4).into()), "a clone in a task may not");
        progress.acknowledge(at(4));
        progress.deliver(at(8));
        progress.refuse();
        assert_eq!(progress.everything_done(true), Verdict::Write(at(4).into()));
        assert_eq!(progress.validate(at(6)).expect("what was done of it can be named"), Verdict::Write(at(6).into()));
    }

    #[test]
    fn nothing_is_automatic_between_the_halves_of_a_two_phase_checkpoint() {
        let mut progress = Progress::starting_at(Checkpoint::TrimHorizon);
        progress.deliver(at(4));
        progress.acknowledge(at(4));
        progress.begin_prepared();
        assert_eq!(progress.due(), None);
        progress.end_prepared();
        assert_eq!(progress.due(), Some(at(4).into()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver(u128),
        AcknowledgeLast,
        Refuse,
        ByHand(u128),
        ByHandAll,
        Automatic,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u128..12).prop_map(Step::Deliver),
            Just(Step::AcknowledgeLast),
            Just(Step::Refuse),
            (0u128..400).prop_map(Step::ByHand),
            Just(Step::ByHandAll),
            Just(Step::Automatic),
        ]
    }

    proptest! {
        #[test]
        fn checkpoints_never_move_back_nor_ahead_of_what_is_done(steps in prop::collection::vec(step(), 1..80), start in 0u128..20) {
            let mut progress = Progress::starting_at(Checkpoint::Sequence(at(start)));
            let (mut tip, mut last_ok, mut by_hand, mut in_hand) = (start, start, start, false);
            for step in steps {
                let before = progress.durable();
                match step {
                    Step::Deliver(n) => {
                        tip += n;
                        in_hand = true;
                        progress.deliver(at(tip));
                    }
                    Step::AcknowledgeLast => {
                        last_ok = tip;
                        in_hand = false;
                        progress.acknowledge(at(tip));
                    }
                    Step::Refuse => {
                        in_hand = false;
                        progress.refuse();
                    }
                    Step::ByHand(n) => {
                        let verdict = progress.validate(at(n));
                        prop_assert_eq!(verdict.is_ok(), Checkpoint::from(at(n)) >= before && n <= tip);
                        if let Ok(Verdict::Write(checkpoint)) = verdict {
                            prop_assert!(checkpoint > before);
                            by_hand = n;
                            progress.written(checkpoint);
                        }
                    }
                    Step::ByHandAll => {
                        if let Verdict::Write(checkpoint) = progress.everything_done(true) {
                            by_hand = by_hand.max(if in_hand { tip } else { last_ok });
                            progress.written(checkpoint);
                        }
                    }
                    Step::Automatic => {
                        if let Some(checkpoint) = progress.due() {
                            prop_assert!(checkpoint > before);
                            prop_assert_eq!(checkpoint, Checkpoint::from(at(last_ok)), "only what returned Ok is automatic");
                            progress.written(checkpoint);
                        }
                    }
                }
                prop_assert!(progress.durable() >= before, "never back");
                prop_assert!(progress.durable() <= Checkpoint::from(at(last_ok.max(by_hand))), "never ahead");
            }
        }
    }
}
