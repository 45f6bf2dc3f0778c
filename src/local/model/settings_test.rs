//! Tags, encryption, metrics, mode, record size, policies and limits.

use std::collections::{BTreeMap, BTreeSet};

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
    m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand).expect("changed");
    assert_eq!(code(m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand)), ServiceErrorCode::InvalidArgument);
    let limits = m.describe_limits(NOW).expect("the first of this second");
    assert_eq!((limits.on_demand_stream_count, limits.open_shard_count, limits.shard_limit), (1, 1, 20_000));
    assert_eq!(code(m.split_shard(NOW, &stream(), &ShardId::from_index(0), 7)), ServiceErrorCode::Validation);
    m.update_stream_mode(NOW, &stream(), StreamMode::Provisioned).expect("changed back");
    assert_eq!(code(m.update_stream_mode(NOW, &stream(), StreamMode::OnDemand)), ServiceErrorCode::LimitExceeded);
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
