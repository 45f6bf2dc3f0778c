//! Answers as servers write them, cut and damaged at will.

use base64::{Engine, engine::general_purpose::STANDARD};
use ciborium::value::Value;
use proptest::prelude::*;
use serde_json::json;

use super::{
    document::{decimal_moment, moment},
    *,
};
use crate::types::{EncryptionType, HashKeyRange, SequenceNumber, ShardId, Timestamp};

/// A record as a test wants it.
#[derive(Debug, Clone)]
struct Sample {
    number: u128,
    key: String,
    data: Vec<u8>,
    millis: i64,
    kms: bool,
}

prop_compose! {
    fn sample()(
        number: u128,
        key in "\\PC{0,12}",
        data in prop_oneof![prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..3000)],
        millis in 1_300_000_000_000_i64..4_000_000_000_000,
        kms: bool,
    ) -> Sample {
        Sample { number, key, data, millis, kms }
    }
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec(sample(), 0..12)
}

fn in_json(samples: &[Sample]) -> Vec<u8> {
    let records: Vec<_> = samples
        .iter()
        .map(|sample| {
            json!({
                "Unknown": { "deep": [[1, "]\"}", null], { "x": -1.5e3 }], "t": true },
                "ApproximateArrivalTimestamp": sample.millis as f64 / 1000.0,
                "Data": STANDARD.encode(&sample.data),
                "EncryptionType": if sample.kms { json!("KMS") } else { json!(null) },
                "PartitionKey": sample.key,
                "SequenceNumber": SequenceNumber::from_parts(0, sample.number),
            })
        })
        .collect();
    let page = json!({
        "ChildShards": [{
            "ShardId": "shardId-000000000002",
            "ParentShards": ["shardId-000000000000"],
            "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "9" },
            "Unknown": [],
        }],
        "MillisBehindLatest": 7,
        "More": [[], {}],
        "NextShardIterator": "it\"er\\ator",
        "Records": records,
    });
    serde_json::to_vec_pretty(&page).expect("written")
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A value as CBOR; in containers and strings that only a break ends, where `open` says so.
fn write_cbor(value: &Value, open: bool, out: &mut Vec<u8>) {
    match value {
        Value::Map(members) if open => {
            out.push(0xbf);
            members.iter().for_each(|(name, value)| {
                write_cbor(name, open, out);
                write_cbor(value, open, out);
            });
            out.push(0xff);
        }
        Value::Array(items) if open => {
            out.push(0x9f);
            items.iter().for_each(|item| write_cbor(item, open, out));
            out.push(0xff);
        }
        Value::Bytes(bytes) if open => {
            out.push(0x5f);
            bytes.chunks(7).for_each(|piece| ciborium::into_writer(&Value::Bytes(piece.to_vec()), &mut *out).expect("written"));
            out.push(0xff);
        }
        Value::Text(text) if open => {
            out.push(0x7f);
            for piece in text.split_inclusive('0') {
                ciborium::into_writer(&Value::Text(piece.to_owned()), &mut *out).expect("written");
            }
            out.push(0xff);
        }
        closed => ciborium::into_writer(closed, out).expect("written"),
    }
}

fn in_cbor(samples: &[Sample], open: bool) -> Vec<u8> {
    let map = |members: Vec<(&str, Value)>| Value::Map(members.into_iter().map(|(name, value)| (text(name), value)).collect());
    let records = samples.iter().map(|sample| {
        map(vec![
            ("SequenceNumber", text(&SequenceNumber::from_parts(0, sample.number).to_string())),
            ("Unknown", map(vec![("deep", Value::Array(vec![map(vec![]), Value::Tag(7, Box::new(text("x"))), Value::Float(0.5)]))])),
            ("ApproximateArrivalTimestamp", Value::Integer(sample.millis.into())),
            ("Data", Value::Bytes(sample.data.clone())),
            ("PartitionKey", text(&sample.key)),
            ("EncryptionType", if sample.kms { text("KMS") } else { Value::Null }),
        ])
    });
    let range = map(vec![("StartingHashKey", text("0")), ("EndingHashKey", text("9"))]);
    let child = map(vec![
        ("ShardId", text("shardId-000000000002")),
        ("ParentShards", Value::Array(vec![text("shardId-000000000000")])),
        ("HashKeyRange", range),
        ("Unknown", Value::Array(vec![])),
    ]);
    let page = map(vec![
        ("MillisBehindLatest", Value::Integer(7.into())),
        ("Records", Value::Array(records.collect())),
        ("More", Value::Array(vec![Value::Array(vec![]), map(vec![])])),
        ("NextShardIterator", text("it\"er\\ator")),
        ("ChildShards", Value::Array(vec![child])),
    ]);
    let mut out = Vec::new();
    write_cbor(&page, open, &mut out);
    out
}

/// Reads what comes in frames that end at `cuts`.
fn gather(body: &[u8], cuts: &[usize]) -> Result<Document, Defect> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(body.len());
    let mut gatherer = Gatherer::new(Some(body.len()), &Blocks::default());
    let mut at = 0;
    for cut in cuts {
        gatherer.take(&body[at..cut])?;
        at = cut;
    }
    gatherer.finish()
}

/// All that a document says, in a form to compare.
fn contents(mut document: Document) -> String {
    let records: Vec<_> = document
        .take_records()
        .into_iter()
        .map(|record| {
            format!("{record:?} {:?}", (&record.data()[..], record.partition_key(), record.approximate_arrival(), record.encryption_type()))
        })
        .collect();
    format!("{records:?} {document:?}")
}

fn assert_says(mut document: Document, samples: &[Sample]) {
    assert_eq!(document.next_iterator.as_deref(), Some("it\"er\\ator"));
    assert_eq!(document.millis_behind_latest, Some(7));
    let [child] = &document.take_child_shards().expect("readable")[..] else { panic!("one child") };
    assert_eq!((&child.id, &child.parents[..]), (&ShardId::from_index(2), &[ShardId::from_index(0)][..]));
    assert_eq!(child.hash_key_range, HashKeyRange::parse("0", "9").expect("valid"));
    let records = document.take_records();
    assert_eq!(records.len(), samples.len());
    for (record, sample) in records.iter().zip(samples) {
        assert_eq!(record.sequence_number(), SequenceNumber::from_parts(0, sample.number));
        assert_eq!(record.partition_key(), sample.key);
        assert_eq!(&record.data()[..], &sample.data[..]);
        assert_eq!(record.approximate_arrival(), Some(Timestamp::from_millis(sample.millis)));
        assert_eq!(record.encryption_type(), if sample.kms { EncryptionType::Kms } else { EncryptionType::None });
    }
}

proptest! {
    #[test]
    fn pages_are_read_as_they_were_written(samples in samples(), cuts in prop::collection::vec(any::<usize>(), 0..20)) {
        for body in [in_json(&samples), in_cbor(&samples, false), in_cbor(&samples, true)] {
            assert_says(gather(&body, &cuts).expect("readable"), &samples);
        }
    }

    #[test]
    fn a_part_of_a_page_is_never_taken_for_the_page(samples in samples(), cut: prop::sample::Index, cuts in prop::collection::vec(any::<usize>(), 0..4)) {
        for body in [in_json(&samples), in_cbor(&samples, false), in_cbor(&samples, true)] {
            let part = &body[..cut.index(body.len())];
            prop_assert_eq!(gather(part, &cuts).expect_err("incomplete"), Defect::What("it ends too early"));
        }
    }

    #[test]
    fn damage_is_an_error_or_another_page_and_does_not_depend_on_frames(
        samples in samples(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        for mut body in [in_json(&samples), in_cbor(&samples, false), in_cbor(&samples, true)] {
            for (at, byte, change) in &changes {
                let at = at.index(body.len());
                match change {
                    0 => body[at] = *byte,
                    1 => body.insert(at, *byte),
                    _ => drop(body.remove(at)),
                }
            }
            let (at_once, in_frames) = (gather(&body, &[]), gather(&body, &cuts));
            prop_assert_eq!(at_once.is_ok(), in_frames.is_ok());
            if let (Ok(at_once), Ok(in_frames)) = (at_once, in_frames) {
                prop_assert_eq!(contents(at_once), contents(in_frames));
            }
        }
    }

    #[test]
    fn noise_is_refused(start in prop_oneof![Just(b'{'), Just(0xbf_u8), any::<u8>()], noise: Vec<u8>, cuts in prop::collection::vec(any::<usize>(), 0..4)) {
        let body = [&[start][..], &noise].concat();
        drop(gather(&body, &cuts));
    }
}

fn refused(body: &[u8]) -> String {
    let at_once = gather(body, &[]).expect_err("unreadable").to_string();
    assert_eq!(gather(body, &[1, 2, 3]).expect_err("unreadable").to_string(), at_once);
    at_once
}

#[test]
fn what_is_not_an_answer_is_refused_by_name() {
    for (body, defect) in [
        (&b""[..], "ends too early"),
        (b"<html>", "neither CBOR nor JSON"),
        (b"{}x", "bytes follow"),
        (b"\xa0\xa0", "bytes follow"),
        (b"{\"Records\":7}", "not a list"),
        (b"\xa1\x67Records\x07", "not a list"),
        (b"{\"Records\":[{\"Data\":\"\"}]}", "no SequenceNumber"),
        (b"{\"Records\":[{\"SequenceNumber\":\"1\"}]}", "no Data"),
        (b"{\"Records\":[{\"SequenceNumber\":\"LATEST\"}]}", "sequence number"),
        (b"{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"a!==\"}]}", "not base64"),
        (b"{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"aGk\"}]}", "not base64"),
        (b"{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"\",\"PartitionKey\":\"\xff\"}]}", "UTF-8"),
        (b"{\"Records\":[{} {}]}", "no SequenceNumber"),
        (b"{\"a\":1 \"b\":2}", "comma"),
        (b"{\"a\" 1}", "colon"),
        (b"{\"a\":}", "value is missing"),
        (b"{\"a\":[1}}", "wrong form"),
        (b"{\"MillisBehindLatest\":nan}", "no value of JSON"),
        (b"{\"MillisBehindLatest\":\"7\"}", "value is missing"),
        (b"\xa1\x72MillisBehindLatest\x617", "number"),
        // Tells of more than memory holds.
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early"),
        (b"\xa1\x61a\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early"),
        (b"\xa1\x61a\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "larger than memory"),
        (b"\xa1\x67Records\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early"),
        (b"\xa1\x61a\x1c", "reserved head"),
        (b"\xa1\x61a\xff", "break"),
        (b"\xa1\x61a\x7f\x41a\xff", "piece of another kind"),
    ] {
        let said = refused(body);
        assert!(said.contains(defect), "{:?}: {said}", String::from_utf8_lossy(body));
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, start) in [(&b"["[..], &b"{\"a\":"[..]), (b"\x81", b"\xa1\x61a"), (b"\x9f", b"\xa1\x61a")] {
        let body = [start, &open.repeat(100_000)].concat();
        assert!(refused(&body).contains("too deeply"));
    }
}

#[test]
fn endless_bodies_are_given_up() {
    let mut gatherer = Gatherer::new(None, &Blocks::default());
    gatherer.take(b"{\"a\":\"").expect("a beginning");
    let frame = vec![b'x'; 1024 * 1024];
    let given_up = (0..64).find_map(|_| gatherer.take(&frame).err()).expect("an end");
    assert!(given_up.to_string().contains("longer than any answer"));
}

fn arrival(moment: &[u8]) -> Option<Timestamp> {
    let mut body = b"\xa1\x67Records\x81\xa3\x6eSequenceNumber\x611\x64Data\x40\x78\x1bApproximateArrivalTimestamp".to_vec();
    body.extend_from_slice(moment);
    gather(&body, &[]).expect("readable").take_records()[0].approximate_arrival()
}

#[test]
fn moments_are_milliseconds_or_seconds_whole_or_not_tagged_or_not() {
    let millis = [&[0x1b][..], &1_795_262_400_123_u64.to_be_bytes()].concat();
    let seconds = [&[0x1a][..], &1_795_262_400_u32.to_be_bytes()].concat();
    let fraction = [&[0xfb][..], &1_795_262_400.123_f64.to_be_bytes()].concat();
    for (form, expected) in [(millis, 1_795_262_400_123), (seconds, 1_795_262_400_000), (fraction, 1_795_262_400_123)] {
        assert_eq!(arrival(&form), Some(Timestamp::from_millis(expected)));
        assert_eq!(arrival(&[&[0xc1][..], &form].concat()), Some(Timestamp::from_millis(expected)));
    }
    assert_eq!(arrival(b"\xf6"), None);
    assert_eq!(arrival(&[&[0xfb][..], &f64::NAN.to_be_bytes()].concat()), None);
}

proptest! {
    #[test]
    fn decimals_are_the_moments_that_their_numbers_are(whole in prop_oneof![0..200_000_000_000_i64, 0..999_999_999_999_999_i64], fraction in prop::option::of("[0-9]{0,6}")) {
        let written = fraction.map_or_else(|| whole.to_string(), |fraction| format!("{whole}.{fraction}"));
        let quick = decimal_moment(written.as_bytes()).expect("a decimal");
        let slow = moment(written.parse().expect("a number")).expect("a moment");
        // Half a millisecond may be rounded either way by a binary fraction.
        prop_assert!((quick.as_millis() - slow.as_millis()).abs() <= i64::from(written.contains("5")), "{written}: {quick:?} {slow:?}");
    }
}

#[test]
fn what_is_no_plain_decimal_is_left_to_the_general_parser() {
    for written in ["", ".", ".5", "-1", "1e9", "1_0", "+1", "1.2.3", "1234567890123456"] {
        assert_eq!(decimal_moment(written.as_bytes()), None, "{written}");
    }
}

#[test]
fn escapes_that_some_servers_write_are_read() {
    let body = br#" {"Records":[{"SequenceNumber":"1","Data":"\/\/8=","PartitionKey":"\u00e9\"\\","X":"\\"}]} "#;
    let records = gather(body, &[40, 60, 70]).expect("readable").take_records();
    assert_eq!((&records[0].data()[..], records[0].partition_key()), (&[0xff, 0xff][..], "\u{e9}\"\\"));
}

#[test]
fn payloads_share_blocks_and_a_kept_record_keeps_no_more_than_one() {
    let sample = |number| Sample { number, key: "key".to_owned(), data: vec![7; 1000], millis: 1_795_262_400_123, kms: false };
    let samples: Vec<_> = (0..1000).map(sample).collect();
    for body in [in_json(&samples), in_cbor(&samples, false)] {
        let records = gather(&body, &[100_000, 200_000, 900_000]).expect("readable").take_records();
        // A record in the block of its neighbour begins where that ends, but for its key.
        let gap = |pair: &[crate::types::Record]| (pair[1].data().as_ptr() as usize).wrapping_sub(pair[0].data().as_ptr() as usize);
        let neighbours = records.windows(2).filter(|pair| gap(pair) == 1003).count();
        assert!((990..=997).contains(&neighbours), "{neighbours}");
    }
}
