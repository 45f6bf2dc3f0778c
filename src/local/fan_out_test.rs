use std::time::Duration;

use super::*;
use crate::{
    clock::TokioClock,
    local::{Config, CreateStream, PutEntry, ServiceErrorCode},
    random::Randomness,
    types::Timestamp,
};

fn kinesis() -> (LocalKinesis, StreamReference, ConsumerArn) {
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
    let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
    kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
    let stream: StreamReference = "clicks".parse().expect("valid");
    let arn = kinesis.register_stream_consumer(&stream, "app", BTreeMap::new()).expect("registered").arn;
    (kinesis, stream, arn)
}

fn subscribe(kinesis: &LocalKinesis, arn: &ConsumerArn) -> Subscription {
    kinesis.subscribe_to_shard(arn, &ShardId::from_index(0), ShardPosition::Latest).expect("subscribed")
}

#[tokio::test(start_paused = true)]
async fn a_record_wakes_the_subscription_that_waits_for_it() {
    let (kinesis, stream, arn) = kinesis();
    let mut subscription = subscribe(&kinesis, &arn);
    let before = tokio::time::Instant::now();
    let put = async {
        tokio::time::sleep(Duration::from_millis(1234)).await;
        kinesis.put_record(&stream, PutEntry::new("k", "v"), None).expect("put");
    };
    let (event, ()) = tokio::join!(subscription.next(), put);
    assert_eq!(event.expect("running").expect("an event").records.len(), 1);
    assert_eq!(before.elapsed(), Duration::from_millis(1234));
}

#[tokio::test(start_paused = true)]
async fn a_newer_subscription_ends_the_one_that_waits() {
    let (kinesis, _, arn) = kinesis();
    let mut first = subscribe(&kinesis, &arn);
    let replace = async {
        tokio::time::sleep(Duration::from_millis(5001)).await;
        subscribe(&kinesis, &arn)
    };
    let follow = async {
        let idle = first.next().await.expect("running").expect("an event");
        assert!(idle.records.is_empty());
        let end = first.next().await.expect("an error").expect_err("replaced");
        assert!(first.next().await.is_none());
        end
    };
    let (second, end) = tokio::join!(replace, follow);
    assert_eq!(end.code, ServiceErrorCode::ResourceInUse);
    drop(second);
    assert!(kinesis.state().waiting.len() == 1, "a dropped subscription is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_its_stream() {
    let (kinesis, stream, arn) = kinesis();
    let mut subscription = subscribe(&kinesis, &arn);
    let delete = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        kinesis.delete_stream_with_consumers(&stream).expect("deleted");
    };
    let (end, ()) = tokio::join!(subscription.next(), delete);
    assert_eq!(end.expect("an error").expect_err("gone").code, ServiceErrorCode::ResourceNotFound);
}
