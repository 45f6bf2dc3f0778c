//! What holds for all bytes.

use proptest::prelude::*;

use super::*;
use crate::{random::Randomness, testing::sealed, types::SequenceNumber};

#[derive(Debug, Clone)]
struct User {
    partition_key: String,
    explicit_hash_key: Option<u128>,
    data: Vec<u8>,
}

fn user() -> impl Strategy<Value = User> {
    let key = prop_oneof![4 => "[a-e]", 1 => "\\PC{1,40}"];
    (key, prop::option::weighted(0.3, any::<u128>()), prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(partition_key, explicit_hash_key, data)| User { partition_key, explicit_hash_key, data })
}

fn aggregate(users: &[User]) -> Bytes {
    let mut aggregator = Aggregator::default();
    for user in users {
        match user.explicit_hash_key {
            Some(key) => aggregator.add_with_explicit_hash_key(&user.partition_key, key, &user.data),
            None => aggregator.add(&user.partition_key, &user.data),
        }
    }
    aggregator.finish().data
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// What must hold for any record, any range and any policy.
fn check(data: &Bytes, range: Option<HashKeyRange>, policy: Policy) -> Deaggregated {
    let output = deaggregate(fetched(data.clone()), range, policy);
    let counts = output.counts;
    assert_eq!(counts.received, counts.delivered + counts.filtered + counts.quarantined);
    assert_eq!((counts.delivered, counts.quarantined), (output.records.len() as u64, output.quarantined.len() as u64));
    assert!(counts.received >= 1 && counts.aggregates + counts.malformed <= 1);
    assert!(counts.filtered == 0 || matches!(policy, Policy::DeliverInRange | Policy::KclCompatible), "{policy:?} leaves nothing out");
    assert!(counts.quarantined == 0 || policy == Policy::Quarantine);
    if counts.aggregates == 0 && counts.filtered == 0 {
        let whole = output.records.iter().chain(output.quarantined.iter().map(|q| &q.record)).collect::<Vec<_>>();
        assert!(whole.len() == 1 && whole[0].data() == data && !whole[0].is_aggregated(), "untouched");
    }
    for record in output.records.iter().chain(output.quarantined.iter().map(|q| &q.record)) {
        assert!(is_slice_of(record.data(), data));
    }
    assert!(output.records.is_sorted_by(|a, b| a.position() < b.position()));
    output
}

proptest! {
    #[test]
    fn what_is_packed_comes_out_again(users in prop::collection::vec(user(), 1..40)) {
        let output = check(&aggregate(&users), None, Policy::DeliverAll);
        prop_assert_eq!(output.records.len(), users.len());
        for (record, user) in output.records.iter().zip(&users) {
            prop_assert_eq!(record.partition_key(), &user.partition_key);
            prop_assert_eq!(record.explicit_hash_key(), user.explicit_hash_key);
            prop_assert_eq!(record.data(), &user.data);
        }
    }

    #[test]
    fn every_record_is_accounted_for(users in prop::collection::vec(user(), 1..40), ends: (u128, u128)) {
        let range = HashKeyRange::new(ends.0.min(ends.1), ends.0.max(ends.1)).expect("in order");
        let data = aggregate(&users);
        let belongs = |user: &&User| range.contains(user.explicit_hash_key.unwrap_or_else(|| hash_key(&user.partition_key)));
        let inside = users.iter().filter(belongs).count() as u64;
        let all = users.len() as u64;
        for policy in POLICIES {
            let counts = check(&data, Some(range), policy).counts;
            prop_assert_eq!(counts.received, all);
            prop_assert_eq!(counts.delivered, match policy {
                Policy::DeliverAll => all,
                Policy::DeliverInRange | Policy::Quarantine => inside,
                Policy::KclCompatible => if inside == all { all } else { 0 },
            });
        }
    }

    #[test]
    fn unknown_fields_are_read_over(users in prop::collection::vec(user(), 1..10), number in 4u64..100_000, unknown: Vec<u8>) {
        let data = aggregate(&users);
        let message = &data[MAGIC.len()..data.len() - 16];
        let mut field = varint(number << 3 | 2);
        field.extend(varint(unknown.len() as u64));
        field.extend(&unknown);
        for message in [[message, &field].concat(), [&field, message].concat()] {
            prop_assert_eq!(check(&sealed(&message), None, Policy::DeliverAll).records.len(), users.len());
        }
    }

    #[test]
    fn any_bytes_pass_or_are_held_back(bytes: Vec<u8>) {
        for policy in POLICIES {
            check(&Bytes::from(bytes.clone()), None, policy);
            // And again as the message of an aggregate, so that the bytes get past the digest.
            check(&sealed(&bytes), None, policy);
        }
    }

    #[test]
    fn a_restart_at_any_position_continues_with_the_next(users in prop::collection::vec(user(), 1..20), at: u64) {
        let data = aggregate(&users);
        let last = ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 77), at % users.len() as u64);
        let mut output = Deaggregated::default();
        Deaggregator::new(Some(Policy::DeliverAll), None).resuming_after(Some(last)).take_apart(fetched(data), &mut output);
        let subs: Vec<_> = output.records.iter().map(Record::sub_sequence_number).collect();
        let expected: Vec<_> = (last.sub_sequence_number + 1..users.len() as u64).collect();
        prop_assert_eq!(subs, expected);
        prop_assert_eq!(output.counts.received, output.counts.delivered);
    }
}

/// Turns, drops, repeats and swaps bytes of valid aggregates, in the message with a right digest as well as outside of it.
#[test]
fn mutations_of_aggregates_never_panic_and_lose_nothing() {
    let rounds = std::env::var("KPL_FUZZ_ROUNDS").ok().map_or(40_000, |n| n.parse().expect("KPL_FUZZ_ROUNDS is a number"));
    let valid = vectors().into_iter().map(|v| decoded(&v.aggregate)).filter(|data| data.len() < 2000).collect::<Vec<_>>();
    let malformed = malformed().into_iter().map(|m| decoded(&m.aggregate)).collect::<Vec<_>>();
    let random = Randomness::seeded(20);
    let below = |n: usize| random.in_range(0..n.max(1) as u64) as usize;
    let lower = HashKeyRange::new(0, u128::MAX / 2).expect("valid");
    let (mut taken_apart, mut refused) = (0u64, 0u64);
    for _ in 0..rounds {
        let seeds = if below(4) == 0 { &malformed } else { &valid };
        let seed = &seeds[below(seeds.len())];
        let resealed = seed.len() > 20 && below(4) > 0;
        let mut bytes = if resealed { seed[4..seed.len() - 16].to_vec() } else { seed.to_vec() };
        for _ in 0..=below(2) * below(4) {
            let at = below(bytes.len());
            match below(6) {
                _ if bytes.is_empty() => bytes.push(below(256) as u8),
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, below(256) as u8),
                4 => bytes.truncate(at),
                _ => {
                    let end = at + below(bytes.len() - at).min(40);
                    let copy = bytes[at..end].to_vec();
                    let to = below(bytes.len());
                    bytes.splice(to..to, copy);
                }
            }
        }
        let data = if resealed { sealed(&bytes) } else { bytes.into() };
        let policy = POLICIES[below(4)];
        let counts = check(&data, [None, Some(lower)][below(2)], policy).counts;
        taken_apart += counts.aggregates;
        refused += counts.malformed;
    }
    assert!(taken_apart > rounds / 20 && refused > rounds / 20, "the mutations reach both sides: {taken_apart} and {refused}");
}
