//! Tags, encryption, metrics, mode, throughput, distribution, record size, policies, limits and the account.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::{
    stream::{ShardPosition, StreamStatus},
    types::{EncryptionType, ShardId},
};

const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

fn stream() -> StreamReference {
    "clicks".parse().expect("valid")
}

fn model_with(config: Config) -> Model {
    let mut model = Model::new(config, Randomness::seeded(5));
    model.create_stream(NOW, &CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
    model
}

fn model() -> Model {
    model_with(Config::default())
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, ServiceError>) -> ServiceErrorCode {
    outcome.expect_err("refused").code
}

#[test]
fn streams_and_consumers_have_tags() {
    let mut m = model();
    m.add_tags_to_stream(NOW, &stream(), tags(&[("a", "1"), ("b", ""), ("c", "3")])).expect("added");
    m.add_tags_to_stream(NOW, &stream(), tags(&[("a", "2")])).expect("changed");
    let page = m.list_tags_for_stream(NOW, &stream(), None, Some(2)).expect("listed");
    assert_eq!(page, TagsPage { tags: vec![("a".into(), "2".into()), ("b".into(), String::new())], has_more_tags: true });
    let page = m.list_tags_for_stream(NOW, &stream(), Some("b"), None).expect("listed");
    assert_eq!((page.tags.len(), page.has_more_tags), (1, false));
    m.remove_tags_from_stream(NOW, &stream(), &["a".into(), "none".into()]).expect("removed");

    let arn = m.describe_stream_summary(NOW, &stream()).expect("described").description.arn;
    let of_stream = ResourceArn::Stream(arn);
    assert_eq!(m.list_tags_for_resource(NOW, &of_stream).expect("listed"), tags(&[("b", ""), ("c", "3")]));
    let consumer = m.register_stream_consumer(NOW, &stream(), "app", tags(&[("team", "x")])).expect("registered");
    let of_consumer: ResourceArn = consumer.arn.to_string().parse().expect("an ARN");
    m.tag_resource(NOW, &of_consumer, tags(&[("tier", "gold")])).expect("tagged");
    m.untag_resource(NOW, &of_consumer, &["team".into()]).expect("untagged");
    assert_eq!(m.list_tags_for_resource(NOW, &of_consumer).expect("listed"), tags(&[("tier", "gold")]));

    let many: BTreeMap<String, String> = (0..49).map(|n| (format!("k{n}"), String::new())).collect();
    assert_eq!(code(m.add_tags_to_stream(NOW, &stream(), many)), ServiceErrorCode::InvalidArgument);
    assert_eq!(code(m.add_tags_to_stream(NOW, &stream(), tags(&[("no\u{7}", "")]))), ServiceErrorCode::InvalidArgument);
    assert_eq!(code(m.add_tags_to_stream(NOW, &stream(), tags(&[("", "")]))), ServiceErrorCode::Validation);
    assert_eq!(code(m.add_tags_to_stream(NOW, &stream(), BTreeMap::new())), ServiceErrorCode::Validation);
}

#[test]
fn records_say_how_they_were_encrypted_when_they_were_put() {
    let mut m = model();
    let put = |m: &mut Model| m.put_record(NOW, &stream(), PutEntry::new("k", "v"), None).expect("put").encryption_type;
    let key = "alias/aws/kinesis";
    let mut expected = vec![put(&mut m)];
    m.start_stream_encryption(NOW, &stream(), key).expect("started");
    assert_eq!(m.describe_stream_summary(NOW, &stream()).expect("described").encryption_key.as_deref(), Some(key));
    expected.push(put(&mut m));
    m.stop_stream_encryption(NOW, &stream(), key).expect("stopped");
    expected.push(put(&mut m));
    assert_eq!(expected, [EncryptionType::None, EncryptionType::Kms, EncryptionType::None]);
    let iterator = m.get_shard_iterator(NOW, &stream(), &ShardId::from_index(0), ShardPosition::TrimHorizon).expect("iterator");
    let read = m.get_records(NOW, &iterator, None).expect("records").records;
    assert_eq!(read.iter().map(crate::types::Record::encryption_type).collect::<Vec<_>>(), expected);
    for _ in 0..24 {
        m.start_stream_encryption(NOW, &stream(), key).expect("within the limit");
    }
    assert_eq!(code(m.start_stream_encryption(NOW, &stream(), key)), ServiceErrorCode::LimitExceeded);
    assert_eq!(code(m.start_stream_encryption(NOW, &stream(), "")), ServiceErrorCode::Validation);
}

#[test]
fn a_changed_setting_keeps_the_stream_updating_for_a_while() {
    let second = std::time::Duration::from_secs(1);
    let mut m = model_with(Config { delays: Delays { update: second, ..Delays::default() }, ..Config::default() });
    m.update_max_record_size(NOW, &stream(), 2048).expect("changed");
    let status = |m: &mut Model, now| m.describe_stream_summary(now, &stream()).expect("described").description.status;
    assert_eq!(status(&mut m, NOW), StreamStatus::Updating);
    assert_eq!(code(m.update_max_record_size(NOW, &stream(), 1024)), ServiceErrorCode::ResourceInUse);
    assert_eq!(status(&mut m, NOW.plus(second)), StreamStatus::Active);
}

#[test]
fn the_largest_record_can_be_set() {
    let mut m = model();
    let large = || PutEntry::new("k", vec![0; 1024 * 1024 + 1]);
    assert_eq!(code(m.put_record(NOW, &stream(), large(), None)), ServiceErrorCode::Validation);
    m.update_max_record_size(NOW, &stream(), 1025).expect("changed");
    m.put_record(NOW, &stream(), large(), None).expect("put");
    for bad in [0, 1023, 10_241, u32::MAX] {
        assert_eq!(code(m.update_max_record_size(NOW, &stream(), bad)), ServiceErrorCode::Validation, "{bad}");
    }
}

#[test]
fn the_mode_changes_twice_a_day() {
    let mut m = model();
    m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, None).expect("changed");
    assert_eq!(code(m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, None)), ServiceErrorCode::InvalidArgument);
    let limits = m.describe_limits(NOW).expect("the first of this second");
    assert_eq!((limits.on_demand_stream_count, limits.open_shard_count, limits.shard_limit), (1, 1, 20_000));
    assert_eq!(code(m.split_shard(NOW, &stream(), &ShardId::from_index(0), 7)), ServiceErrorCode::Validation);
    m.update_stream_mode(NOW, &stream(), StreamMode::Provisioned, None).expect("changed back");
    assert_eq!(code(m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, None)), ServiceErrorCode::LimitExceeded);
}

#[test]
fn metrics_are_switched_on_and_off() {
    use ShardLevelMetric::{IncomingBytes, OutgoingBytes};
    let mut m = model();
    let both = BTreeSet::from([IncomingBytes, OutgoingBytes]);
    let change = m.enable_enhanced_monitoring(NOW, &stream(), &both).expect("enabled");
    assert_eq!((change.current, change.desired), (BTreeSet::new(), both.clone()));
    let change = m.disable_enhanced_monitoring(NOW, &stream(), &BTreeSet::from([OutgoingBytes])).expect("disabled");
    assert_eq!((change.current, change.desired), (both, BTreeSet::from([IncomingBytes])));
    assert_eq!(m.describe_stream_summary(NOW, &stream()).expect("described").shard_level_metrics, BTreeSet::from([IncomingBytes]));
}

#[test]
fn policies_are_kept_and_given_back() {
    let mut m = model();
    let resource = ResourceArn::Stream(m.describe_stream_summary(NOW, &stream()).expect("described").description.arn);
    assert_eq!(code(m.get_resource_policy(NOW, &resource)), ServiceErrorCode::ResourceNotFound);
    assert_eq!(code(m.put_resource_policy(NOW, &resource, "[]")), ServiceErrorCode::InvalidArgument);
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    m.put_resource_policy(NOW, &resource, policy).expect("put");
    assert_eq!(m.get_resource_policy(NOW, &resource).expect("there"), policy);
    m.delete_resource_policy(NOW, &resource).expect("deleted");
    assert_eq!(code(m.delete_resource_policy(NOW, &resource)), ServiceErrorCode::ResourceNotFound);
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

#[test]
fn a_commitment_lasts_a_day_at_least() {
    use CommitmentStatus::{Disabled, Enabled, EnabledUntilEarliestAllowedEnd};
    let mut m = model();
    let at = |n| NOW.plus(hours(n));
    let seen = |c: ThroughputCommitment| (c.status, c.started, c.ended, c.earliest_allowed_end);
    assert_eq!(seen(m.update_account_settings(NOW, false)), (Disabled, None, None, None));
    assert_eq!(seen(m.update_account_settings(NOW, true)), (Enabled, Some(NOW), None, Some(at(24))));
    assert_eq!(seen(m.update_account_settings(at(1), false)), (EnabledUntilEarliestAllowedEnd, Some(NOW), None, Some(at(24))));
    // What is to end is kept by asking again.
    assert_eq!(seen(m.update_account_settings(at(2), true)), (Enabled, Some(NOW), None, Some(at(24))));
    m.update_account_settings(at(3), false);
    assert_eq!(m.describe_account_settings(at(23)).status, EnabledUntilEarliestAllowedEnd);
    assert_eq!(seen(m.describe_account_settings(at(24))), (Disabled, Some(NOW), Some(at(24)), None));
    assert_eq!(seen(m.update_account_settings(at(30), true)), (Enabled, Some(at(30)), None, Some(at(54))));
    assert_eq!(seen(m.update_account_settings(at(60), false)), (Disabled, Some(at(30)), Some(at(60)), None));
}

#[test]
fn warm_throughput_is_a_shard_for_each_mebibyte() {
    let mut m = model();
    let (own, warm): (StreamReference, StreamReference) = ("own".parse().expect("valid"), "warm".parse().expect("valid"));
    m.create_stream(NOW, &CreateStream::on_demand(own.name())).expect("created");
    assert_eq!(code(m.update_stream_warm_throughput(NOW, &own, 10)), ServiceErrorCode::InvalidArgument);
    let created = CreateStream { warm_throughput_mibps: Some(6), ..CreateStream::on_demand(warm.name()) };
    assert_eq!(code(m.create_stream(NOW, &created)), ServiceErrorCode::InvalidArgument);
    assert_eq!(code(m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, Some(6))), ServiceErrorCode::InvalidArgument);
    m.update_account_settings(NOW, true);
    m.create_stream(NOW, &created).expect("created");
    m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, Some(5)).expect("changed");
    let seen = |m: &mut Model, stream: &StreamReference| {
        let summary = m.describe_stream_summary(NOW, stream).expect("described");
        let warm = summary.warm_throughput.expect("on demand");
        assert_eq!(summary.description.open_shard_count, warm.current_mibps);
        (warm.target_mibps, warm.current_mibps)
    };
    assert_eq!((seen(&mut m, &own), seen(&mut m, &warm), seen(&mut m, &stream())), ((4, 4), (6, 6), (5, 5)));
    // More than double, and less than half; never fewer than four shards.
    for (mibps, shards) in [(50, 50), (7, 7), (0, 4)] {
        let updated = m.update_stream_warm_throughput(NOW, &own, mibps).expect("updated");
        assert_eq!((updated.stream_name.as_str(), updated.warm_throughput.current_mibps), ("own", shards));
        assert_eq!(seen(&mut m, &own), (mibps, shards));
    }
    assert_eq!(code(m.update_stream_warm_throughput(NOW, &own, 10_241)), ServiceErrorCode::LimitExceeded);
    m.update_stream_mode(NOW, &stream(), StreamMode::Provisioned, None).expect("changed");
    assert_eq!(m.describe_stream_summary(NOW, &stream()).expect("described").warm_throughput, None);
    assert_eq!(code(m.update_stream_warm_throughput(NOW, &stream(), 10)), ServiceErrorCode::InvalidArgument);
    let provisioned = CreateStream { warm_throughput_mibps: Some(6), ..CreateStream::provisioned("p".parse().expect("valid"), 1) };
    assert_eq!(code(m.create_stream(NOW, &provisioned)), ServiceErrorCode::Validation);
}

#[test]
fn scaling_to_warm_throughput_takes_its_time() {
    let mut m = model_with(Config { delays: Delays { update: Duration::from_secs(30), ..Delays::default() }, ..Config::default() });
    m.update_account_settings(NOW, true);
    m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand, Some(8)).expect("begun");
    let seen = |m: &mut Model, at| {
        let summary = m.describe_stream_summary(at, &stream()).expect("described");
        (summary.description.status, summary.warm_throughput.map(|warm| (warm.target_mibps, warm.current_mibps)))
    };
    assert_eq!(seen(&mut m, NOW), (StreamStatus::Updating, Some((8, 1))));
    assert_eq!(code(m.update_stream_warm_throughput(NOW, &stream(), 9)), ServiceErrorCode::ResourceInUse);
    assert_eq!(seen(&mut m, NOW.plus(Duration::from_secs(30))), (StreamStatus::Active, Some((8, 8))));
}

#[test]
fn records_are_distributed_evenly_whatever_their_keys() {
    use RecordDistributionStrategy::{Auto, UserPartitionKey};
    let mut m = model();
    assert_eq!(code(m.update_stream_record_distribution_strategy(NOW, &stream(), Auto)), ServiceErrorCode::InvalidArgument);
    let on_demand: StreamReference = "auto".parse().expect("valid");
    m.create_stream(NOW, &CreateStream::on_demand(on_demand.name())).expect("created");
    let put = |m: &mut Model, key: &str| m.put_record(NOW, &on_demand, PutEntry::new(key, "v"), None);
    assert_eq!(code(put(&mut m, "")), ServiceErrorCode::Validation);
    m.update_stream_record_distribution_strategy(NOW, &on_demand, Auto).expect("changed");
    let mut counts = BTreeMap::new();
    for key in ["", "k", "k", "k", "k", "", "k", "k"] {
        *counts.entry(put(&mut m, key).expect("put").shard_id).or_insert(0) += 1;
    }
    let entries = vec![PutEntry::new("", "v").with_explicit_hash_key(0); 4];
    for outcome in m.put_records(NOW, &on_demand, entries).expect("put") {
        *counts.entry(outcome.expect("put").shard_id).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3; 4]);
    assert_eq!(m.describe_stream_summary(NOW, &on_demand).expect("described").record_distribution, Some(Auto));
    m.update_stream_record_distribution_strategy(NOW, &on_demand, UserPartitionKey).expect("changed back");
    assert_eq!(put(&mut m, "k").expect("put").shard_id, put(&mut m, "k").expect("put").shard_id);
    assert_eq!(m.describe_stream_summary(NOW, &stream()).expect("described").record_distribution, None);
}
