//! Checks the local Kinesis and DynamoDB with the AWS SDK for Rust from crates.io, as anybody uses it.
//!
//! ```sh
//! shardkeeper local --kinesis-port 4567 --dynamodb-port 8000
//! cargo run -- --kinesis http://127.0.0.1:4567 --dynamodb http://127.0.0.1:8000
//! ```
//! Ends at the first mismatch with exit code 1 and a line that says what was expected and what came.

use std::{
    error::Error,
    fmt::Debug,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::ProvideErrorMetadata,
    primitives::{Blob, event_stream::EventReceiver},
    types::{
        ConsumerStatus, EncryptionType, PutRecordsRequestEntry, ShardIteratorType, StartingPosition, StreamStatus, SubscribeToShardEvent,
        SubscribeToShardEventStream, error::SubscribeToShardEventStreamError,
    },
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;
type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

const FIRST: &str = "shardId-000000000000";

fn expect<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{what}: expected {wanted:?}, got {got:?}").into()) }
}

fn expect_code<T: Debug, E: ProvideErrorMetadata + Debug>(what: &str, outcome: Result<T, E>, code: &str) -> Outcome {
    match outcome {
        Err(error) if error.code() == Some(code) => Ok(()),
        other => Err(format!("{what}: expected {code}, got {other:?}").into()),
    }
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if condition().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(format!("{what}: not within a minute").into())
}

struct Check {
    kinesis: Client,
    dynamodb: aws_sdk_dynamodb::Client,
    name: String,
}

impl Check {
    async fn active(&self) -> Outcome<bool> {
        let summary = self.kinesis.describe_stream_summary().stream_name(&self.name).send().await?;
        Ok(summary.stream_description_summary.is_some_and(|summary| summary.stream_status == StreamStatus::Active))
    }

    async fn streams(&self) -> Outcome {
        self.kinesis.create_stream().stream_name(&self.name).shard_count(2).send().await?;
        wait_for("the stream becomes ACTIVE", async || self.active().await).await?;
        let shards = self.kinesis.list_shards().stream_name(&self.name).send().await?.shards.unwrap_or_default();
        expect("shards", shards.iter().map(|shard| shard.shard_id.as_str()).collect(), vec![FIRST, "shardId-000000000001"])?;
        let again = self.kinesis.create_stream().stream_name(&self.name).shard_count(1).send().await;
        expect_code("create it again", again, "ResourceInUseException")?;
        let missing = self.kinesis.describe_stream_summary().stream_name("no-such-stream").send().await;
        expect_code("describe no stream", missing, "ResourceNotFoundException")?;

        self.kinesis.add_tags_to_stream().stream_name(&self.name).tags("team", "payments").send().await?;
        let tags = self.kinesis.list_tags_for_stream().stream_name(&self.name).send().await?.tags;
        expect("tags", tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_deref())).collect(), vec![("team", Some("payments"))])
    }

    async fn records(&self) -> Outcome {
        let entry = |n: u32| {
            let entry = PutRecordsRequestEntry::builder().partition_key("k").explicit_hash_key("0");
            entry.data(Blob::new(format!("record {n}"))).build()
        };
        let put = self.kinesis.put_records().stream_name(&self.name);
        let put = put.set_records(Some((0..100).map(entry).collect::<Result<_, _>>()?)).send().await?;
        expect("failed records", put.failed_record_count, Some(0))?;
        let iterator = self.kinesis.get_shard_iterator().stream_name(&self.name).shard_id(FIRST);
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
        let page = self.kinesis.get_records().set_shard_iterator(iterator).limit(1000).send().await?;
        let texts: Vec<_> = page.records.iter().map(|record| String::from_utf8_lossy(record.data.as_ref()).into_owned()).collect();
        expect("records", texts, (0..100).map(|n| format!("record {n}")).collect())?;
        expect("nothing waits", page.millis_behind_latest, Some(0))
    }

    async fn fan_out(&self) -> Outcome {
        let summary = self.kinesis.describe_stream_summary().stream_name(&self.name).send().await?;
        let arn = summary.stream_description_summary.ok_or("no summary")?.stream_arn;
        let registered = self.kinesis.register_stream_consumer().stream_arn(&arn).consumer_name("check").send().await?;
        let consumer = registered.consumer.ok_or("no consumer")?.consumer_arn;
        wait_for("the consumer becomes ACTIVE", async || {
            let described = self.kinesis.describe_stream_consumer().consumer_arn(&consumer).send().await?;
            Ok(described.consumer_description.is_some_and(|consumer| consumer.consumer_status == ConsumerStatus::Active))
        })
        .await?;

        let mut events = self.subscribe(&consumer, "TRIM_HORIZON", None).await?;
        let event = next(&mut events).await?;
        expect("records of the first event", event.records.len(), 100)?;
        let second = self.subscribe(&consumer, "LATEST", None).await;
        let refused = second.err().ok_or("a second subscription within five seconds was not refused")?;
        expect("a second subscription is refused", refused.to_string().contains("ResourceInUse"), true)?;
        self.kinesis
            .put_record()
            .stream_name(&self.name)
            .partition_key("k")
            .explicit_hash_key("0")
            .data(Blob::new("pushed"))
            .send()
            .await?;
        let event = until_records(&mut events).await?;
        expect("a record is pushed", event.records.len(), 1)?;
        let continuation = event.continuation_sequence_number;

        // The next subscription takes the place of this one, and goes on after its last event.
        tokio::time::sleep(Duration::from_millis(5100)).await;
        let mut successor = self.subscribe(&consumer, "AFTER_SEQUENCE_NUMBER", Some(continuation)).await?;
        loop {
            match events.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return Err("the first subscription ended without an error".into()),
                Err(error) => {
                    let error = error.into_service_error();
                    let in_use = matches!(error, SubscribeToShardEventStreamError::ResourceInUseException(_));
                    expect("the first subscription learns who replaced it", in_use, true)?;
                    break;
                }
            }
        }
        self.kinesis.split_shard().stream_name(&self.name).shard_to_split(FIRST).new_starting_hash_key("1000000").send().await?;
        let children = loop {
            let event = next(&mut successor).await?;
            expect("nothing is repeated", event.records.len(), 0)?;
            if let Some(children) = event.child_shards {
                break children;
            }
        };
        expect("children", children.iter().map(|c| c.shard_id.as_str()).collect(), vec!["shardId-000000000002", "shardId-000000000003"])?;
        expect("the subscription ends with its shard", successor.recv().await?.is_none(), true)?;
        self.kinesis.deregister_stream_consumer().consumer_arn(&consumer).send().await?;
        Ok(())
    }

    async fn subscribe(&self, consumer: &str, kind: &str, number: Option<String>) -> Outcome<Events> {
        let position = StartingPosition::builder().r#type(kind.into()).set_sequence_number(number).build()?;
        let request = self.kinesis.subscribe_to_shard().consumer_arn(consumer).shard_id(FIRST).starting_position(position);
        Ok(request.send().await.map_err(|error| format!("{:?}", error.into_service_error()))?.event_stream)
    }

    async fn settings(&self) -> Outcome {
        let limits = self.kinesis.describe_limits().send().await?;
        expect("open shards", limits.open_shard_count, 3)?;
        let start = self.kinesis.start_stream_encryption().stream_name(&self.name).encryption_type(EncryptionType::Kms);
        start.key_id("alias/aws/kinesis").send().await?;
        wait_for("encryption is on", async || self.active().await).await?;
        let put = self.kinesis.put_record().stream_name(&self.name).partition_key("k").data(Blob::new("secret")).send().await?;
        expect("encryption of a record", put.encryption_type, Some(EncryptionType::Kms))
    }

    async fn delete(&self) -> Outcome {
        self.kinesis.delete_stream().stream_name(&self.name).enforce_consumer_deletion(true).send().await?;
        wait_for("the stream is gone", async || {
            let described = self.kinesis.describe_stream_summary().stream_name(&self.name).send().await;
            Ok(described.is_err_and(|error| error.code() == Some("ResourceNotFoundException")))
        })
        .await
    }

    async fn leases(&self) -> Outcome {
        let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build()?;
        let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S).build()?;
        let create = self.dynamodb.create_table().table_name(&self.name).key_schema(key).attribute_definitions(attribute);
        create.billing_mode(BillingMode::PayPerRequest).send().await?;
        let put = || {
            let put = self.dynamodb.put_item().table_name(&self.name).item("leaseKey", AttributeValue::S(FIRST.to_owned()));
            put.condition_expression("attribute_not_exists(leaseKey)").send()
        };
        put().await?;
        expect_code("put it again", put().await, "ConditionalCheckFailedException")?;
        self.dynamodb.delete_table().table_name(&self.name).send().await?;
        Ok(())
    }
}

async fn next(events: &mut Events) -> Outcome<SubscribeToShardEvent> {
    match events.recv().await? {
        Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) => Ok(event),
        other => Err(format!("expected an event, got {other:?}").into()),
    }
}

async fn until_records(events: &mut Events) -> Outcome<SubscribeToShardEvent> {
    loop {
        let event = next(events).await?;
        if !event.records.is_empty() {
            return Ok(event);
        }
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let url = |option: &str| -> Outcome<String> {
        let place = arguments.iter().position(|argument| argument == option).ok_or_else(|| format!("{option} URL is missing"))?;
        Ok(arguments.get(place + 1).ok_or_else(|| format!("{option} has no URL"))?.clone())
    };
    let credentials = Credentials::new("local", "local", None, None, "check");
    let config = aws_sdk_kinesis::Config::builder().behavior_version(BehaviorVersion::latest()).endpoint_url(url("--kinesis")?);
    let kinesis = Client::from_conf(config.region(Region::new("us-east-1")).credentials_provider(credentials.clone()).build());
    let config = aws_sdk_dynamodb::Config::builder().behavior_version(BehaviorVersion::latest()).endpoint_url(url("--dynamodb")?);
    let dynamodb = aws_sdk_dynamodb::Client::from_conf(config.region(Region::new("us-east-1")).credentials_provider(credentials).build());
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let check = Check { kinesis, dynamodb, name: format!("rust-{run}") };
    check.streams().await?;
    println!("ok streams");
    check.records().await?;
    println!("ok records");
    check.fan_out().await?;
    println!("ok fan-out");
    check.settings().await?;
    println!("ok settings");
    check.delete().await?;
    println!("ok delete");
    check.leases().await?;
    println!("ok leases");
    Ok(())
}
