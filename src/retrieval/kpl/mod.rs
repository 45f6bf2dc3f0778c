//! Records that the Kinesis Producer Library (KPL) has packed together. Pure: a fetched record in, user records out.
//!
//! The KPL, and libraries that write its format, pack many *user records* into one record of the stream, an *aggregate*:
//! it costs less and travels faster. [`deaggregate`] takes one apart without copying: payloads and keys are slices
//! of what was fetched. A user record has the sequence number and arrival time of its aggregate, its own keys, and its
//! index as [sub-sequence number](Record::sub_sequence_number), so that a checkpoint can lie inside an aggregate.
//! A record that does not begin as an aggregate passes untouched.
//!
//! The bytes are whatever somebody put into the stream. The digest is compared before anything else is looked at;
//! declared lengths allocate nothing; user records are not searched for aggregates in turn; and one record gives at most
//! [`MAX_USER_RECORDS`].
//!
//! # Policies
//!
//! An aggregate is routed as one record. When a shard was split after the producer last looked, it can lie in a
//! child with user records whose hash keys belong to the other child. And what begins as an aggregate may not be one.
//! [`Policy`] says what happens then. `n` is the number of user records, `k` of those outside of the shard:
//!
//! | | `DeliverAll` | `DeliverInRange` | `Quarantine` | `KclCompatible` |
//! |---|---|---|---|---|
//! | all in range | `n` delivered | `n` delivered | `n` delivered | `n` delivered |
//! | some outside | `n` delivered | `k` filtered, the rest delivered | `k` quarantined, the rest delivered | `n` filtered |
//! | digest or message bad, too many | as fetched | as fetched | quarantined | as fetched |
//! | no records | as fetched | as fetched | quarantined | filtered |
//! | key of a record missing or bad | as fetched | as fetched | quarantined | those before delivered, the rest filtered |
//! | user record is an aggregate | delivered | delivered | delivered | delivered |
//!
//! A hash key beyond 2^128-1 is a bad key; for `KclCompatible`, as for KCL, it is one outside of the shard.
//! "As fetched" is the record as it is on the wire, delivered once, not [aggregated](Record::is_aggregated).
//! [`KplCounts`] tells what became of each: nothing vanishes uncounted.

use crate::types::{ExtendedSequenceNumber, HashKeyRange, Record};

mod counts;
mod format;
mod quarantine;
mod wire;

pub use counts::KplCounts;
pub use format::{MAGIC, MAX_USER_RECORDS};
pub use quarantine::{Defect, Quarantine, QuarantineInput, QuarantineReason, Quarantined};

use format::{Aggregate, UserRecord};

/// What to do with user records outside of their shard, and with aggregates that cannot be taken apart; see
/// [the table](self#policies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Policy {
    /// Delivers every user record, wherever it belongs: the default, since it loses nothing whoever the producer is. A
    /// producer that puts records again which went to a wrong shard, as the KPL itself does, thereby repeats them.
    #[default]
    DeliverAll,
    /// Leaves out user records that do not belong to the shard. For producers that put exactly those again; with
    /// any other it loses them.
    DeliverInRange,
    /// Holds back what `DeliverInRange` leaves out and what cannot be taken apart, for a [`Quarantine`] to keep.
    Quarantine,
    /// Does what KCL does: an aggregate with any user record that does not belong to the shard is left out as a
    /// whole, and so is all that follows a user record with a bad key.
    KclCompatible,
}

/// What records became: output of [`Deaggregator`], appended to by each.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Deaggregated {
    /// For the processor, in order.
    pub records: Vec<Record>,
    /// For the quarantine, in order.
    pub quarantined: Vec<Quarantined>,
    /// What became of all that went in.
    pub counts: KplCounts,
}

/// Takes one fetched record apart. `shard_range` is the range of the shard it was fetched from; without it, every hash
/// key belongs to the shard.
///
/// # Examples
/// ```
/// # #[cfg(feature = "test-util")] {
/// use shardkeeper::{
///     retrieval::kpl::{Policy, deaggregate},
///     testing::{Aggregator, RecordBuilder},
/// };
///
/// let mut aggregator = Aggregator::default();
/// aggregator.add("user-7", "first");
/// aggregator.add("user-8", "second");
/// let fetched = RecordBuilder::new(1).data(aggregator.finish().data).build();
///
/// let output = deaggregate(fetched, None, Policy::default());
/// assert_eq!(output.records[1].partition_key(), "user-8");
/// assert_eq!(output.records[1].sub_sequence_number(), 1);
/// assert_eq!(output.counts.delivered, 2);
/// # }
/// ```
#[must_use]
pub fn deaggregate(record: Record, shard_range: Option<HashKeyRange>, policy: Policy) -> Deaggregated {
    let mut output = Deaggregated::default();
    Deaggregator::new(Some(policy), shard_range).take_apart(record, &mut output);
    output
}

/// Takes the records of one shard apart, from a position on.
#[derive(Debug, Clone, Copy)]
pub struct Deaggregator {
    policy: Option<Policy>,
    range: HashKeyRange,
    processed: Option<ExtendedSequenceNumber>,
}

impl Deaggregator {
    /// For the shard with this range. Without a policy every record passes untouched.
    #[must_use]
    pub fn new(policy: Option<Policy>, shard_range: Option<HashKeyRange>) -> Self {
        Self { policy, range: shard_range.unwrap_or(HashKeyRange::FULL), processed: None }
    }

    /// Leaves out what was processed before: everything up to the checkpoint `processed`, also inside of its aggregate.
    #[must_use]
    pub const fn resuming_after(mut self, processed: Option<ExtendedSequenceNumber>) -> Self {
        self.processed = processed;
        self
    }

    /// Whether [`take_apart`](Deaggregator::take_apart) would pass each of these, which are in order, untouched.
    pub(crate) fn passes(&self, records: &[Record]) -> bool {
        let begins_after = |record: &Record| self.processed.is_none_or(|processed| record.sequence_number() > processed.sequence_number);
        records.first().is_none_or(begins_after)
            && (self.policy.is_none() || !records.iter().any(|record| record.data().starts_with(&MAGIC)))
    }

    /// Takes one record apart.
    pub fn take_apart(&self, record: Record, output: &mut Deaggregated) {
        if self.processed.is_some_and(|p| record.sequence_number() < p.sequence_number) {
            return;
        }
        let Some(policy) = self.policy else { return self.pass(record, output) };
        match Aggregate::parse(record.data()) {
            None => self.pass(record, output),
            Some(Err(defect)) => self.refuse(record, defect, policy, output),
            Some(Ok(aggregate)) if aggregate.user_records == 0 => self.refuse(record, Defect::NoRecords, policy, output),
            Some(Ok(aggregate)) => self.expand(record, aggregate, policy, output),
        }
    }

    fn expand(&self, record: Record, mut aggregate: Aggregate, policy: Policy, output: &mut Deaggregated) {
        let like_kcl = policy == Policy::KclCompatible;
        if policy != Policy::DeliverAll && self.range != HashKeyRange::FULL {
            aggregate.hash_partition_keys();
        }
        let belongs = |user: &UserRecord<'_>| policy == Policy::DeliverAll || aggregate.belongs(user, self.range);

        // All of them are looked at before the first is delivered: what follows may be a reason to deliver none.
        let mut kept = aggregate.user_records;
        let mut sound = true;
        for (index, user) in aggregate.user_records().enumerate() {
            match user {
                Ok(user) if like_kcl && !belongs(&user) => {
                    kept = 0;
                    break;
                }
                Ok(user) if like_kcl || user.has_valid_keys() => {}
                Err(_) if like_kcl => {
                    kept = index;
                    sound = false;
                    break;
                }
                Ok(_) => return self.refuse(record, Defect::ExplicitHashKey, policy, output),
                Err(defect) => return self.refuse(record, defect, policy, output),
            }
        }

        let before = output.counts.received;
        output.records.reserve(kept);
        let carrier = record.into_parts();
        for (index, user) in (0u64..).zip(aggregate.user_records()) {
            let position = ExtendedSequenceNumber::new(carrier.sequence_number, index);
            if self.processed.is_some_and(|p| position <= p) {
                continue;
            }
            output.counts.received += 1;
            match user {
                Ok(user) if index < kept as u64 && belongs(&user) => output.deliver(aggregate.record(&carrier, index, &user)),
                Ok(user) if policy == Policy::Quarantine => {
                    output.quarantine(aggregate.record(&carrier, index, &user), QuarantineReason::OutsideShard);
                }
                _ => output.counts.filtered += 1,
            }
        }
        if output.counts.received > before {
            output.counts.aggregates += u64::from(sound);
            output.counts.malformed += u64::from(!sound);
        }
    }

    /// An aggregate that cannot be taken apart.
    fn refuse(&self, record: Record, defect: Defect, policy: Policy, output: &mut Deaggregated) {
        if self.was_processed(&record) {
            return;
        }
        output.counts.malformed += 1;
        output.counts.received += 1;
        match policy {
            Policy::Quarantine => output.quarantine(record, QuarantineReason::Malformed(defect)),
            Policy::KclCompatible if defect == Defect::NoRecords => output.counts.filtered += 1,
            Policy::DeliverAll | Policy::DeliverInRange | Policy::KclCompatible => output.deliver(record),
        }
    }

    fn pass(&self, record: Record, output: &mut Deaggregated) {
        if !self.was_processed(&record) {
            output.counts.received += 1;
            output.deliver(record);
        }
    }

    /// Whether a record that is not taken apart was processed. With a checkpoint inside of it, it was taken apart then,
    /// under another policy, and the rest of it was not processed.
    fn was_processed(&self, record: &Record) -> bool {
        self.processed.is_some_and(|p| record.position() == p)
    }
}

impl Deaggregated {
    /// Records that [pass](Deaggregator::passes).
    pub(crate) fn passed(records: Vec<Record>) -> Self {
        let count = records.len() as u64;
        let counts = KplCounts { received: count, delivered: count, ..KplCounts::default() };
        Self { records, quarantined: Vec::new(), counts }
    }

    fn deliver(&mut self, record: Record) {
        self.counts.delivered += 1;
        self.records.push(record);
    }

    fn quarantine(&mut self, record: Record, reason: QuarantineReason) {
        self.counts.quarantined += 1;
        self.quarantined.push(Quarantined { record, reason });
    }
}

#[cfg(test)]
mod tests;
