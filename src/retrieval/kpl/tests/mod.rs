//! Vectors of other libraries, the table of policies cell by cell, and mutations without end.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::*;
use crate::{
    testing::{Aggregator, RecordBuilder},
    types::hash_key,
};

mod policies;
mod properties;

const POLICIES: [Policy; 4] = [Policy::DeliverAll, Policy::DeliverInRange, Policy::Quarantine, Policy::KclCompatible];

/// What some library has made of some records.
#[derive(Debug, Clone, Deserialize)]
struct Vector {
    name: String,
    aggregate: String,
    records: Vec<Packed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Packed {
    partition_key: String,
    explicit_hash_key: Option<String>,
    data: String,
}

/// Bytes that begin as an aggregate, and what is wrong with them.
#[derive(Debug, Clone, Deserialize)]
struct Malformed {
    name: String,
    defect: String,
    aggregate: String,
}

fn vectors() -> Vec<Vector> {
    [include_str!("../../../../tests/fixtures/kpl/aggregates.json"), include_str!("../../../../tests/fixtures/kpl/node.json")]
        .iter()
        .flat_map(|text| serde_json::from_str::<Vec<Vector>>(text).expect("a list of vectors"))
        .collect()
}

fn malformed() -> Vec<Malformed> {
    serde_json::from_str(include_str!("../../../../tests/fixtures/kpl/malformed.json")).expect("a list of vectors")
}

fn decoded(base64: &str) -> Bytes {
    BASE64_STANDARD.decode(base64).expect("base64").into()
}

fn fetched(data: impl Into<Bytes>) -> Record {
    RecordBuilder::new(77).partition_key("carrier").data(data).build()
}

fn packed(record: &Record) -> Packed {
    Packed {
        partition_key: record.partition_key().to_owned(),
        explicit_hash_key: record.explicit_hash_key().map(|key| key.to_string()),
        data: BASE64_STANDARD.encode(record.data()),
    }
}

/// Whether `part` lies in the memory of `whole`.
fn is_slice_of(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.as_ptr_range().contains(&part.as_ptr())
}

fn defect_named(name: &str) -> Defect {
    match name {
        "too_short" => Defect::TooShort,
        "digest" => Defect::Digest,
        "message" => Defect::Message,
        "partition_key" => Defect::PartitionKey,
        "no_records" => Defect::NoRecords,
        "key_index" => Defect::KeyIndex,
        "explicit_hash_key" => Defect::ExplicitHashKey,
        other => panic!("a new defect, {other}"),
    }
}

#[test]
fn aggregates_of_other_libraries_are_read_without_copying() {
    let vectors = vectors();
    assert!(vectors.len() > 15);
    for Vector { name, aggregate, records } in vectors {
        let data = decoded(&aggregate);
        let output = deaggregate(fetched(data.clone()), None, Policy::DeliverAll);
        assert_eq!(output.records.iter().map(packed).collect::<Vec<_>>(), records, "{name}");
        for (index, record) in (0u64..).zip(&output.records) {
            assert_eq!((record.sub_sequence_number(), record.is_aggregated()), (index, true), "{name}");
            assert_eq!(record.sequence_number(), fetched("").sequence_number(), "{name}");
            assert!(is_slice_of(record.data(), &data) && is_slice_of(record.partition_key().as_bytes(), &data), "{name}: it was copied");
        }
    }
}

#[test]
fn our_aggregates_are_those_of_the_other_library() {
    for Vector { name, aggregate, records } in vectors() {
        let mut aggregator = Aggregator::default();
        for Packed { partition_key, explicit_hash_key, data } in records {
            match explicit_hash_key {
                Some(key) => aggregator.add_with_explicit_hash_key(&partition_key, key.parse().expect("a number"), decoded(&data)),
                None => aggregator.add(&partition_key, decoded(&data)),
            }
        }
        let size = aggregator.size_bytes();
        let ours = aggregator.finish().data;
        assert_eq!(ours.len(), size, "{name}");
        let theirs = decoded(&aggregate);
        let again = |data| deaggregate(fetched(data), None, Policy::DeliverAll).records.iter().map(packed).collect::<Vec<_>>();
        assert_eq!(again(ours.clone()), again(theirs.clone()), "{name}");
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
}

#[test]
fn what_cannot_be_taken_apart_is_told_why_and_kept_whole() {
    let vectors = malformed();
    assert!(vectors.len() > 20);
    for Malformed { name, defect, aggregate } in vectors {
        let (data, defect) = (decoded(&aggregate), defect_named(&defect));
        let output = deaggregate(fetched(data.clone()), None, Policy::Quarantine);
        assert_eq!(output.records.len(), 0, "{name}");
        let held: Vec<_> = output.quarantined.iter().map(|q| (q.reason, q.record.data().clone())).collect();
        assert_eq!(held, [(QuarantineReason::Malformed(defect), data.clone())], "{name}");

        for policy in [Policy::DeliverAll, Policy::DeliverInRange] {
            let output = deaggregate(fetched(data.clone()), None, policy);
            let [record] = &*output.records else { panic!("{name}: {} records", output.records.len()) };
            assert_eq!((record.data(), record.is_aggregated(), record.partition_key()), (&data, false, "carrier"), "{name}");
            assert_eq!((output.counts.malformed, output.counts.aggregates), (1, 0), "{name}");
        }
    }
}

#[test]
fn user_records_and_keys_have_a_bound() {
    let of = |records: usize| {
        let mut aggregator = Aggregator::default();
        (0..records).for_each(|_| aggregator.add("", ""));
        deaggregate(fetched(aggregator.finish().data), None, Policy::DeliverAll).counts
    };
    assert_eq!(of(MAX_USER_RECORDS).delivered, MAX_USER_RECORDS as u64);
    let beyond = of(MAX_USER_RECORDS + 1);
    assert_eq!((beyond.delivered, beyond.malformed), (1, 1));
    let keys = crate::testing::sealed(&[0x0a, 0x00].repeat(MAX_USER_RECORDS + 1));
    let output = deaggregate(fetched(keys), None, Policy::Quarantine);
    assert_eq!(output.quarantined[0].reason, QuarantineReason::Malformed(Defect::TooMany));
}

#[test]
fn a_restart_within_an_aggregate_neither_skips_nor_repeats() {
    let mut aggregator = Aggregator::default();
    ["a", "b", "c"].iter().for_each(|key| aggregator.add(key, key));
    let page = [RecordBuilder::new(6).data("x").build(), RecordBuilder::new(7).data(aggregator.finish().data).build(), {
        RecordBuilder::new(8).data("y").build()
    }];
    let all = ["6", "7", "7/1", "7/2", "8"];
    let read = |policy, processed| {
        let deaggregator = Deaggregator::new(policy, None).resuming_after(processed);
        let mut output = Deaggregated::default();
        page.iter().for_each(|record| deaggregator.take_apart(record.clone(), &mut output));
        assert_eq!(output.counts.received, output.records.len() as u64);
        output.records
    };
    let positions = |records: &[Record]| records.iter().map(|r| r.position().to_string()).collect::<Vec<_>>();
    let everything = read(Some(Policy::DeliverAll), None);
    assert_eq!(positions(&everything), all);
    for (n, last) in everything.iter().enumerate() {
        assert_eq!(positions(&read(Some(Policy::DeliverAll), Some(last.position()))), all[n + 1..], "after {}", last.position());
    }
    // De-aggregation was switched off meanwhile: the rest of the aggregate is in the record, which is not lost.
    assert_eq!(positions(&read(None, Some(everything[2].position()))), ["7", "8"]);
    assert_eq!(positions(&read(None, Some(everything[4].position()))), [""; 0]);
}
