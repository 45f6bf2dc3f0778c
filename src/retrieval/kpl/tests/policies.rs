//! Every cell of the table: what the aggregate is like, by policy.

use super::*;

/// Delivered, filtered, quarantined; and whether what was delivered came out of the aggregate.
type Cell = (u64, u64, u64, bool);

/// The lower half of the hash keys; `in_range` and `outside` name explicit keys.
fn lower_half() -> HashKeyRange {
    HashKeyRange::new(0, u128::MAX / 2).expect("valid")
}

/// An aggregate with a record for each letter: `i` in range, `o` outside, by explicit key; `I` and `O` by partition key.
fn aggregate(records: &str) -> Bytes {
    let by_key = |inside: bool| {
        let mut names = (0..).map(|n| format!("key-{n}"));
        names.find(|name| lower_half().contains(hash_key(name)) == inside).expect("half of all keys")
    };
    let mut aggregator = Aggregator::default();
    for (n, letter) in records.chars().enumerate() {
        let data = format!("{letter}{n}");
        match letter {
            'i' => aggregator.add_with_explicit_hash_key("k", 5, data),
            'o' => aggregator.add_with_explicit_hash_key("k", u128::MAX - 5, data),
            'I' => aggregator.add(&by_key(true), data),
            _ => aggregator.add(&by_key(false), data),
        }
    }
    aggregator.finish().data
}

fn nested() -> Bytes {
    let mut outer = Aggregator::default();
    outer.add_with_explicit_hash_key("k", 5, aggregate("oo"));
    outer.finish().data
}

fn large() -> Bytes {
    let mut aggregator = Aggregator::default();
    for n in 0..10_000 {
        aggregator.add_with_explicit_hash_key(&format!("key-{}", n % 100), 5, [b'x'; 96]);
    }
    assert!((1_000_000..=1_048_576).contains(&aggregator.size_bytes()));
    aggregator.finish().data
}

fn broken(name: &str) -> Bytes {
    decoded(&malformed().iter().find(|v| v.name == name).expect("a vector of this name").aggregate)
}

#[test]
fn each_cell_of_the_table_is_as_documented() {
    let whole = |n| [(n, 0, 0, true); 4];
    let as_fetched = [(1, 0, 0, false), (1, 0, 0, false), (0, 0, 1, false), (1, 0, 0, false)];
    let cells: [(&str, Bytes, [Cell; 4]); 15] = [
        ("plain", "just text".into(), [(1, 0, 0, false); 4]),
        ("all in range", aggregate("iIiI"), whole(4)),
        ("first outside", aggregate("oii"), [(3, 0, 0, true), (2, 1, 0, true), (2, 0, 1, true), (0, 3, 0, true)]),
        ("middle outside", aggregate("ioi"), [(3, 0, 0, true), (2, 1, 0, true), (2, 0, 1, true), (0, 3, 0, true)]),
        ("last outside, by partition key", aggregate("IiO"), [(3, 0, 0, true), (2, 1, 0, true), (2, 0, 1, true), (0, 3, 0, true)]),
        ("all outside", aggregate("oO"), [(2, 0, 0, true), (0, 2, 0, true), (0, 0, 2, true), (0, 2, 0, true)]),
        ("bad digest", broken("half of it lost"), as_fetched),
        ("bad message", broken("no message"), as_fetched),
        ("too short", broken("magic and digest"), as_fetched),
        (
            "key index past the table",
            broken("a key that is not there"),
            [(1, 0, 0, false), (1, 0, 0, false), (0, 0, 1, false), (1, 2, 0, true)],
        ),
        (
            "explicit hash key in words",
            broken("an explicit hash key in words"),
            [(1, 0, 0, false), (1, 0, 0, false), (0, 0, 1, false), (1, 2, 0, true)],
        ),
        // KCL reads it as a number, and finds it outside of the shard.
        (
            "explicit hash key of 2^128",
            broken("an explicit hash key of 2^128"),
            [(1, 0, 0, false), (1, 0, 0, false), (0, 0, 1, false), (0, 3, 0, true)],
        ),
        ("nested", nested(), whole(1)),
        ("no records", broken("keys but no records"), [(1, 0, 0, false), (1, 0, 0, false), (0, 0, 1, false), (0, 1, 0, false)]),
        ("10,000 records in 1 MB", large(), whole(10_000)),
    ];
    for (name, data, expected) in cells {
        for (policy, (delivered, filtered, quarantined, aggregated)) in POLICIES.into_iter().zip(expected) {
            let record = fetched(data.clone());
            // The vectors' keys are made without regard to the range.
            let range = if name.starts_with("explicit") || name.starts_with("key") { HashKeyRange::FULL } else { lower_half() };
            let output = deaggregate(record, Some(range), policy);
            let counts = output.counts;
            assert_eq!((counts.delivered, counts.filtered, counts.quarantined), (delivered, filtered, quarantined), "{name}, {policy:?}");
            assert_eq!(counts.received, delivered + filtered + quarantined, "{name}, {policy:?}");
            assert_eq!(output.records.len() as u64, delivered, "{name}, {policy:?}");
            assert_eq!(output.quarantined.len() as u64, quarantined, "{name}, {policy:?}");
            assert!(output.records.iter().all(|r| r.is_aggregated() == aggregated), "{name}, {policy:?}");
        }
    }
}

#[test]
fn the_right_ones_are_kept() {
    let data = aggregate("IoiOi");
    let kept = |policy| deaggregate(fetched(data.clone()), Some(lower_half()), policy);
    let subs = |records: &[Record]| records.iter().map(Record::sub_sequence_number).collect::<Vec<_>>();
    assert_eq!(subs(&kept(Policy::DeliverInRange).records), [0, 2, 4], "sub-sequence numbers are those of the aggregate");
    let quarantine = kept(Policy::Quarantine);
    assert_eq!(subs(&quarantine.records), [0, 2, 4]);
    let held: Vec<_> = quarantine.quarantined.iter().map(|q| (q.reason, q.record.sub_sequence_number())).collect();
    assert_eq!(held, [(QuarantineReason::OutsideShard, 1), (QuarantineReason::OutsideShard, 3)]);
}

#[test]
fn without_a_range_every_hash_key_belongs() {
    for policy in POLICIES {
        assert_eq!(deaggregate(fetched(aggregate("ioIO")), None, policy).counts.delivered, 4, "{policy:?}");
    }
}

#[test]
fn an_aggregate_inside_stays_one() {
    let output = deaggregate(fetched(nested()), None, Policy::DeliverAll);
    assert_eq!(output.records[0].data(), &aggregate("oo"));
}
