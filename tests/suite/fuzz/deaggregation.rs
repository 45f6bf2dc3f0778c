//! De-aggregation of records that somebody put into the stream.

use bytes::Bytes;
use md5::{Digest, Md5};
use proptest::{collection::vec, prelude::*};
use shardkeeper::{
    retrieval::kpl::{Deaggregated, MAGIC, Policy, deaggregate},
    testing::{Aggregator, RecordBuilder},
    types::HashKeyRange,
};

use super::{
    fuzz,
    mutation::{Edit, apply, edits},
};

const DIGEST_BYTES: usize = 16;

#[derive(Debug, Clone)]
struct Input {
    users: Vec<(String, Option<u128>, Vec<u8>)>,
    /// Of the message, which then gets its right digest.
    inside: Vec<Edit>,
    /// Of the whole record.
    outside: Vec<Edit>,
    policy: Policy,
    upper_half: bool,
}

fn input() -> impl Strategy<Value = Input> {
    let user = ("[a-c]|\\PC{1,9}", prop::option::of(any::<u128>()), vec(any::<u8>(), 0..40));
    let policies = [Policy::DeliverAll, Policy::DeliverInRange, Policy::Quarantine, Policy::KclCompatible];
    (vec(user, 1..9), edits(), prop_oneof![4 => Just(Vec::new()), 1 => edits()], prop::sample::select(policies.to_vec()), any::<bool>())
        .prop_map(|(users, inside, outside, policy, upper_half)| Input { users, inside, outside, policy, upper_half })
}

fn record(input: &Input) -> Bytes {
    let mut aggregator = Aggregator::default();
    for (partition_key, explicit_hash_key, data) in &input.users {
        match explicit_hash_key {
            Some(hash_key) => aggregator.add_with_explicit_hash_key(partition_key, *hash_key, data),
            None => aggregator.add(partition_key, data),
        }
    }
    let whole = aggregator.finish().data;
    let mut message = whole[MAGIC.len()..whole.len() - DIGEST_BYTES].to_vec();
    apply(&input.inside, &mut message);
    let digest = Md5::digest(&message);
    let mut record = [&MAGIC[..], &message, &digest].concat();
    apply(&input.outside, &mut record);
    record.into()
}

#[test]
fn nothing_vanishes_uncounted_and_nothing_is_made_up() {
    fuzz(
        input(),
        || {},
        |input| {
            let data = record(&input);
            let range =
                input.upper_half.then(|| HashKeyRange::parse(&(1_u128 << 127).to_string(), &u128::MAX.to_string()).expect("a range"));
            let fetched = RecordBuilder::new(7).data(data.clone()).build();
            let Deaggregated { records, quarantined, counts, .. } = deaggregate(fetched, range, input.policy);
            prop_assert_eq!(counts.received, counts.delivered + counts.filtered + counts.quarantined);
            prop_assert_eq!((counts.delivered, counts.quarantined), (records.len() as u64, quarantined.len() as u64));
            prop_assert!(counts.received >= 1 && counts.received <= data.len().max(1) as u64);
            let all = || records.iter().chain(quarantined.iter().map(|held| &held.record));
            let inside = data.as_ptr_range();
            for record in all() {
                let slice = record.data().as_ptr_range();
                prop_assert!(
                    record.data().is_empty() || (inside.start <= slice.start && slice.end <= inside.end),
                    "a payload from elsewhere"
                );
            }
            prop_assert!(records.is_sorted_by(|a, b| a.position() < b.position()));
            if input.inside.is_empty() && input.outside.is_empty() && range.is_none() {
                prop_assert_eq!(counts.received, input.users.len() as u64);
                for (record, (key, _, payload)) in records.iter().zip(&input.users) {
                    prop_assert!(record.partition_key() == key && record.data()[..] == payload[..]);
                }
            }
            Ok(())
        },
    );
}
