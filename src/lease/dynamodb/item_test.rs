//! Golden rows: as the Java KCL writes them, as this library does, and what neither should.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    lease::{WorkerState, WriteId, conformance::Samples},
    types::{InstanceId, StreamIdentifier, StreamName},
};

/// Reads DynamoDB JSON.
fn attribute(json: &Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|o| o.iter().next()).expect("one type and value");
    let text = || value.as_str().expect("a string").to_owned();
    let members = || value.as_array().expect("an array").iter();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "B" => AttributeValue::B(Blob::new(BASE64_STANDARD.decode(text()).expect("base64"))),
        "BOOL" => AttributeValue::Bool(value.as_bool().expect("a bool")),
        "SS" => AttributeValue::Ss(members().map(|m| m.as_str().expect("a string").to_owned()).collect()),
        "L" => AttributeValue::L(members().map(attribute).collect()),
        "M" => AttributeValue::M(value.as_object().expect("an object").iter().map(|(k, v)| (k.clone(), attribute(v))).collect()),
        other => panic!("unknown type {other}"),
    }
}

fn fixture(text: &str) -> BTreeMap<String, Item> {
    let rows: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(text).expect("valid fixture");
    rows.into_iter().map(|(name, row)| (name, row.iter().map(|(k, v)| (k.clone(), attribute(v))).collect())).collect()
}

fn lease_of(rows: &BTreeMap<String, Item>, name: &str) -> Lease {
    match Row::from_item(&rows[name]) {
        Row::Lease(lease) => lease,
        other => panic!("{name} is read as {other:?}"),
    }
}

fn sequence(text: &str, sub: u64) -> Checkpoint {
    Checkpoint::parse(text, sub).expect("valid")
}

fn shards(ids: &[u64]) -> BTreeSet<ShardId> {
    ids.iter().map(|id| ShardId::from_index(*id)).collect()
}

fn worker(id: &str) -> WorkerId {
    WorkerId::new(id).expect("valid")
}

fn single() -> StreamIdentifier {
    StreamIdentifier::Single(StreamName::new("clicks").expect("valid"))
}

fn multi() -> StreamIdentifier {
    "123456789012:clicks:1795262400".parse().expect("valid")
}

#[test]
fn leases_of_kcl_3_5_are_read() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/kcl-3.5.json"));
    let new = |index, checkpoint| Lease {
        hash_key_range: Some(HashKeyRange::FULL),
        ..Lease::new(&single(), ShardId::from_index(index), checkpoint)
    };
    let half = HashKeyRange::new(0, u128::MAX / 2).expect("valid");
    assert_eq!(lease_of(&rows, "lease_new"), Lease { hash_key_range: Some(half), ..new(0, Checkpoint::TrimHorizon) });
    let owned = Lease {
        counter: 118,
        owner: Some(worker("ip-10-0-3-17.eu-central-1.compute.internal:5f0c3a1e-86b5-4d0c-9f63-4f1f2ec0a7d1")),
        parents: shards(&[0, 1]),
        throughput_kbps: Some(0.000_123_456_8),
        ..new(2, sequence("49590338271490256608559692538361571095921575989136588898", 4))
    };
    assert_eq!(lease_of(&rows, "lease_owned"), owned);
    let in_hand_off = Lease {
        counter: 41,
        owner: Some(worker("worker-new")),
        checkpoint_owner: Some(worker("worker-old")),
        owner_switches: 1,
        ..new(3, Checkpoint::Latest)
    };
    assert_eq!(lease_of(&rows, "lease_in_hand_off"), in_hand_off);
    let pending = PendingCheckpoint {
        checkpoint: sequence("49590338271490256608559692538361571095921575989136588900", 2),
        state: Some(Bytes::from_static(b"state")),
    };
    let prepared = Lease { counter: 7, owner: Some(worker("worker-1")), pending: Some(pending), ..new(4, Checkpoint::AtTimestamp) };
    assert_eq!(lease_of(&rows, "lease_prepared"), prepared);
    let ended = Lease { counter: 900, owner: Some(worker("worker-1")), children: shards(&[6, 7]), ..new(5, Checkpoint::ShardEnd) };
    assert_eq!(lease_of(&rows, "lease_ended"), ended);
    let of_many = Lease {
        counter: 3,
        parents: shards(&[0]),
        hash_key_range: Some(HashKeyRange::FULL),
        ..Lease::new(&multi(), ShardId::from_index(1), Checkpoint::TrimHorizon)
    };
    assert_eq!(lease_of(&rows, "lease_of_many_streams"), of_many);
}

#[test]
fn leases_of_kcl_2_are_read() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/kcl-2.x.json"));
    let new = Lease { hash_key_range: Some(HashKeyRange::FULL), ..Lease::new(&single(), ShardId::from_index(0), Checkpoint::Latest) };
    assert_eq!(lease_of(&rows, "lease_new"), new);
    let owned = Lease {
        counter: 12_345_678_901,
        owner: Some(worker("10.0.3.17:-7a2f9c31")),
        owner_switches: 2,
        parents: shards(&[0]),
        ..Lease::new(&single(), ShardId::from_index(1), sequence("49590338271490256608559692538361571095921575989136588898", 0))
    };
    assert_eq!(lease_of(&rows, "lease_owned_without_hash_keys"), owned);
    let of_many =
        Lease { counter: 3, owner: Some(worker("worker-1")), ..Lease::new(&multi(), ShardId::from_index(7), Checkpoint::TrimHorizon) };
    assert_eq!(lease_of(&rows, "lease_of_many_streams"), of_many);
}

#[test]
fn other_rows_of_the_kcl_are_told_apart() {
    for text in
        [include_str!("../../../tests/fixtures/lease_rows/kcl-3.5.json"), include_str!("../../../tests/fixtures/lease_rows/kcl-2.x.json")]
    {
        for (name, item) in fixture(text) {
            let row = Row::from_item(&item);
            let as_expected = match name.as_str() {
                "leader_lock" => matches!(&row, Row::LeaderLock(lock) if lock.owner == "worker-java-1" && lock.version.len() == 36),
                "worker_with_metrics" => {
                    let last_update = Some(Timestamp::from_millis(1_795_262_460_000));
                    matches!(&row, Row::ForeignWorker(found) if *found == ForeignWorker { id: "worker-java-1".to_owned(), last_update })
                }
                "worker_without_metrics" => matches!(&row, Row::ForeignWorker(found) if found.id == "worker-java-2"),
                "client_version" | "table_migration" | "stream_info" => matches!(&row, Row::Ignored),
                _ => matches!(&row, Row::Lease(_)),
            };
            assert!(as_expected, "{name} is read as {row:?}");
        }
    }
}

#[test]
fn a_released_lock_has_no_owner() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/kcl-3.5.json"));
    let mut lock = rows["leader_lock"].clone();
    lock.insert(LOCK_RELEASED.to_owned(), string("1"));
    assert!(matches!(Row::from_item(&lock), Row::Ignored));
}

#[test]
fn what_cannot_be_read_is_skipped_with_the_reason() {
    for (name, item) in fixture(include_str!("../../../tests/fixtures/lease_rows/unreadable.json")) {
        let (_, reason) = name.split_once(": ").expect("what, colon, reason");
        match Row::from_item(&item) {
            Row::Skipped(row) | Row::UnreadableWorker(_, row) => {
                assert_eq!(item[LEASE_KEY], string(&row.key), "{name}");
                assert!(row.reason.starts_with(reason), "{name}: {}", row.reason);
            }
            other => panic!("{name} is read as {other:?}"),
        }
    }
}

#[test]
fn a_worker_whose_row_cannot_be_read_is_there_all_the_same() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/unreadable.json"));
    let versions: Vec<_> = rows
        .values()
        .filter_map(|item| match Row::from_item(item) {
            Row::UnreadableWorker(row, _) => Some((row.id, row.state, row.version)),
            _ => None,
        })
        .collect();
    let seen = WorkerVersion { instance: InstanceId(0xff), heartbeat: 3 };
    assert_eq!(
        versions,
        [(worker("worker-1"), WorkerState::Unreadable, seen), (worker("worker-1"), WorkerState::Unreadable, WorkerVersion::UNKNOWN),]
    );
}

#[test]
fn rows_are_written_as_version_0_1_wrote_them() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/shardkeeper-0.1.json"));
    let new = Lease::new(&single(), ShardId::from_index(0), Checkpoint::Latest);
    let full = Lease {
        counter: 42,
        owner: Some(worker("host-7:3f9a")),
        owner_instance: Some(InstanceId(0xff)),
        checkpoint_owner: Some(worker("host-6:1b2c")),
        owner_switches: 2,
        pending: Some(PendingCheckpoint { checkpoint: Checkpoint::ShardEnd, state: Some(Bytes::from_static(b"state")) }),
        parents: shards(&[1, 2]),
        children: shards(&[4]),
        hash_key_range: Some(HashKeyRange::FULL),
        throughput_kbps: Some(1024.5),
        start_at: Some(Timestamp::from_millis(1_795_262_400_123)),
        stream_created: Some(Timestamp::from_millis(1_795_262_400_000)),
        stream_arn: Some("arn:aws:kinesis:eu-central-1:123456789012:stream/clicks".parse().expect("valid")),
        write_id: Some(WriteId(0xfedc_ba98_7654_3210)),
        ..Lease::new(&multi(), ShardId::from_index(3), sequence("49590338271490256608559692538361571095921575989136588898", 5))
    };
    for (name, lease) in [("lease_new", &new), ("lease_full", &full)] {
        assert_eq!(from_new_lease(lease), rows[name], "{name}");
        assert_eq!(lease_of(&rows, name), *lease, "{name}");
    }

    let key = |index| LeaseKey::new(ShardId::from_index(index)).expect("valid");
    let worker_new = crate::lease::conformance::worker_row(&worker("host-7:3f9a"), InstanceId(0xff));
    let worker_full = WorkerRow {
        version: WorkerVersion { heartbeat: 17, ..worker_new.version },
        state: WorkerState::Leaving,
        leading: true,
        roster: vec![worker("host-7:3f9a"), worker("host-6:1b2c")],
        max_leases: Some(100),
        signals: BTreeSet::from([
            Signal::Plan { from: worker("host-6:1b2c"), number: 4 },
            Signal::HandOver { lease: key(1), counter: 9, to: worker("host-6:1b2c") },
            Signal::Take { lease: key(2), counter: 1 },
            Signal::Accept { lease: key(3), counter: 12 },
            Signal::ParentEnded { lease: key(4), counter: 30 },
        ]),
        ..worker_new.clone()
    };
    for (name, row) in [("worker_new", &worker_new), ("worker_full", &worker_full)] {
        let mut written = from_worker(row);
        if let Some(AttributeValue::Ss(members)) = written.get_mut(SIGNALS) {
            members.sort();
        }
        assert_eq!(written, rows[name], "{name}");
        match Row::from_item(&rows[name]) {
            Row::Worker(read) => assert_eq!(read, *row, "{name}"),
            other => panic!("{name} is read as {other:?}"),
        }
    }
}

/// The attributes of one section of the document, with their types.
fn documented(section: &str) -> BTreeMap<String, String> {
    let text = include_str!("../../../docs/lease-table.md");
    let from = text.find(section).expect("the section exists") + section.len();
    let section = text[from..].split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let name = cells.next().expect("name").trim_matches('`').to_owned();
        (name, cells.next().expect("type").to_owned())
    })
    .collect()
}

fn type_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(text) => {
            assert!(!text.is_empty(), "no empty strings");
            "S"
        }
        AttributeValue::N(_) => "N",
        AttributeValue::B(_) => "B",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::Ss(members) => {
            assert!(!members.is_empty(), "no empty sets");
            "SS"
        }
        AttributeValue::L(_) => "L",
        AttributeValue::M(_) => "M",
        other => panic!("a type that no row has: {other:?}"),
    }
}

fn types_of(item: &Item) -> BTreeMap<String, String> {
    item.iter().map(|(name, value)| (name.clone(), type_of(value).to_owned())).collect()
}

#[test]
fn rows_hold_exactly_the_documented_attributes() {
    let samples = Samples::seeded(1);
    let mut written = BTreeMap::new();
    for _ in 0..200 {
        written.extend(types_of(&from_new_lease(&samples.lease())));
    }
    assert_eq!(written, documented("\n### Leases"));

    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/shardkeeper-0.1.json"));
    assert_eq!(types_of(&rows["worker_full"]), documented("\n### Workers"));
}

#[test]
fn a_lease_row_that_another_kind_of_row_hides_is_named() {
    let rows = fixture(include_str!("../../../tests/fixtures/lease_rows/kcl-3.5.json"));
    let error = to_lease(&rows["worker_with_metrics"]).expect_err("no lease");
    assert!(error.contains("WORKER_METRIC_STATS"), "{error}");
}

proptest! {
    #[test]
    fn leases_survive_the_round_trip(seed: u64) {
        let lease = Samples::seeded(seed).lease();
        prop_assert_eq!(to_lease(&from_lease(&lease)).expect("own row"), lease.clone());
        prop_assert_eq!(to_lease(&from_new_lease(&lease)).expect("own row"), lease);
    }

    #[test]
    fn any_load_makes_a_number_that_dynamodb_takes(kbps: f64) {
        if let Some(AttributeValue::N(text)) = throughput(kbps) {
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            prop_assert!(digits <= 38, "{}", text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-'), "{}", text);
        }
    }
}
