//! Sequence numbers in the service's second shape: 56 decimal digits that say which shard, which place, and when.
//!
//! ```text
//! bits 187..184  183..148       147..144     143..80   79..72  71..36  35..4   3..0
//!      2         shard created  shard & 15   place     0       time    shard   2
//! ```
//! Created and time are seconds since the epoch. The place grows with every record of the stream, so the number grows
//! with every record of a shard, and leaves gaps; a child's numbers all lie above those of its parents.

use crate::types::{SequenceNumber, Timestamp};

/// The place that ends a closed shard: above any record's.
const LAST_PLACE: u64 = 0x7fff_ffff_ffff_ffff;

/// What a sequence number of a shard is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// Second in which the shard was made, or one later than its parents'.
    pub(super) created_secs: u64,
    pub(super) shard_index: u32,
    /// 0 begins the shard, records follow.
    pub(super) place: u64,
    pub(super) time_secs: u64,
}

/// Whole seconds, cut to the 36 bits they are given.
pub(super) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millis() / 1000).unwrap_or(0) & 0xf_ffff_ffff
}

impl Parts {
    pub(super) fn compose(self) -> SequenceNumber {
        let low =
            (u128::from(self.place) << 80) | (u128::from(self.time_secs & 0xf_ffff_ffff) << 36) | (u128::from(self.shard_index) << 4) | 2;
        let high = u128::from(self.place >> 48)
            | (u128::from(self.shard_index & 0xf) << 16)
            | (u128::from(self.created_secs & 0xf_ffff_ffff) << 20)
            | (2 << 56);
        SequenceNumber::from_parts(high, low)
    }

    /// Takes a number apart; `None` when it is not of this shape.
    pub(super) fn parse(number: SequenceNumber) -> Option<Self> {
        let (high, low) = number.parts();
        let place = ((low >> 80) as u64) | (((high & 0xffff) as u64) << 48);
        let parts = Self {
            created_secs: (high >> 20) as u64 & 0xf_ffff_ffff,
            shard_index: ((low >> 4) & 0xffff_ffff) as u32,
            place,
            time_secs: (low >> 36) as u64 & 0xf_ffff_ffff,
        };
        (place <= LAST_PLACE && parts.compose() == number).then_some(parts)
    }

    /// The first number of the shard.
    pub(super) const fn first(created_secs: u64, shard_index: u32) -> Self {
        Self { created_secs, shard_index, place: 0, time_secs: created_secs }
    }

    /// The last number of the shard, closed at `at`.
    pub(super) fn last(created_secs: u64, shard_index: u32, at: Timestamp) -> Self {
        Self { created_secs, shard_index, place: LAST_PLACE, time_secs: seconds(at) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_of_the_real_service_is_taken_apart() {
        // From the examples of the API reference of PutRecords, shardId-000000000001.
        let number: SequenceNumber = "49546986683135544286507457936321625675700192471156785154".parse().expect("digits");
        let parts = Parts::parse(number).expect("version 2");
        println!("{parts:?}");
        assert_eq!(parts.compose(), number);
        assert_eq!(parts.shard_index & 0xf, ((number.parts().0 >> 16) & 0xf) as u32);
    }

    proptest! {
        #[test]
        fn numbers_have_56_digits_and_come_apart_again(
            created_secs in 0..1u64 << 36, shard_index in 0..1u32 << 31, place in 0..=LAST_PLACE, time_secs in 0..1u64 << 36,
        ) {
            let parts = Parts { created_secs, shard_index, place, time_secs };
            let number = parts.compose();
            let text = number.to_string();
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(Parts::parse(number), Some(parts));
        }

        #[test]
        fn order_follows_creation_then_place(a in 0..1u64 << 36, b in 0..1u64 << 36, p in 0..LAST_PLACE, q in 0..LAST_PLACE, t: u32, u: u32) {
            let number = |created_secs, place, time: u32| {
                Parts { created_secs, shard_index: 7, place, time_secs: u64::from(time) }.compose()
            };
            prop_assume!(p != q);
            prop_assert_eq!(number(a, p, t) < number(a, q, u), p < q);
            prop_assume!(a != b);
            prop_assert_eq!(number(a, p, t) < number(b, q, u), a < b);
        }
    }
}
