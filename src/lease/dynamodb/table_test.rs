//! The table against scripted answers, in virtual time: what an emulator does not do.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::lease::conformance::{Samples, worker_row, worker_update};
use crate::types::InstanceId;

/// What the service does with a request.
#[derive(Debug, Clone)]
enum Answer {
    Says(u16, Value),
    Breaks,
    FindsNoConnection,
    IsSilent,
}

/// A service that answers by script, and keeps what it was asked.
#[derive(Debug, Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn config(&self) -> aws_types::sdk_config::Builder {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .region(Region::new("eu-central-1"))
    }

    fn table(&self) -> DynamoDbLeaseTable {
        DynamoDbLeaseTable::new(&self.config().build(), "clicks-app").with_randomness(Randomness::seeded(1))
    }

    fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn operations(&self) -> Vec<String> {
        self.requests().into_iter().map(|(operation, _)| operation).collect()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().expect("in memory")).expect("JSON");
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push((target, body));
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("the script goes on");
        HttpConnectorFuture::new(async move {
            match answer {
                Answer::Says(status, body) => {
                    let status = StatusCode::try_from(status).expect("a status");
                    Ok(HttpResponse::new(status, SdkBody::from(body.to_string())))
                }
                Answer::Breaks => Err(ConnectorError::io("connection reset".into())),
                Answer::FindsNoConnection => Err(ConnectorError::timeout("connect timeout".into())),
                Answer::IsSilent => std::future::pending().await,
            }
        })
    }
}

fn refuses(status: u16, code: &str, message: &str) -> Answer {
    Answer::Says(status, json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message}))
}

fn describes(status: &str) -> Answer {
    Answer::Says(200, json!({"Table": description(status)}))
}

fn description(status: &str) -> Value {
    json!({
        "TableName": "clicks-app", "TableStatus": status,
        "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
    })
}

fn no_table() -> Answer {
    refuses(400, "ResourceNotFoundException", "Requested resource not found")
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_to_do() {
    use ErrorKind as K;
    let cases = [
        (refuses(400, "ProvisionedThroughputExceededException", "slow down"), K::Throttled, true),
        (refuses(400, "ThrottlingException", "slow down"), K::Throttled, true),
        (refuses(400, "RequestLimitExceeded", "slow down"), K::Throttled, true),
        (refuses(400, "TransactionConflictException", "ongoing"), K::ResourceInUse, true),
        (refuses(400, "LimitExceededException", "too many"), K::LimitExceeded, true),
        (no_table(), K::NotFound, true),
        (refuses(400, "AccessDeniedException", "User is not authorized to perform: dynamodb:UpdateItem"), K::AccessDenied, true),
        (refuses(400, "UnrecognizedClientException", "token invalid"), K::AccessDenied, true),
        (refuses(400, "ExpiredTokenException", "token expired"), K::AccessDenied, true),
        (refuses(400, "ValidationException", "wrong"), K::InvalidInput, true),
        (refuses(500, "InternalServerError", "oops"), K::Unavailable, false),
        (refuses(503, "ServiceUnavailable", "oops"), K::Unavailable, false),
        (Answer::Says(502, json!({})), K::Unavailable, false),
        (Answer::Says(200, json!("no object")), K::Unavailable, false),
        (Answer::Says(408, json!({})), K::Timeout, false),
        (Answer::Breaks, K::Unavailable, false),
        (Answer::FindsNoConnection, K::Timeout, false),
        (Answer::IsSilent, K::Timeout, false),
    ];
    let samples = Samples::seeded(1);
    let lease = samples.lease();
    let next = lease.annotated(samples.write_id(), |_| ());
    for (answer, kind, nothing_happened) in cases {
        let script = Script::new([answer.clone()]);
        let error = script.table().update_lease(&lease, &next).await.expect_err("an error");
        assert_eq!(error.kind(), kind, "{answer:?}: {error:?}");
        assert_eq!(error.has_no_side_effects(), nothing_happened, "{answer:?}");
        assert!(error.to_string().starts_with("UpdateItem on DynamoDB table clicks-app in region eu-central-1 "), "{error}");
        assert_eq!(script.operations(), ["UpdateItem"], "one attempt, whatever the SDK would do");
    }
    let script = Script::new([refuses(400, "ConditionalCheckFailedException", "The conditional request failed")]);
    assert_eq!(script.table().update_lease(&lease, &next).await.expect("no error"), WriteOutcome::Conflict);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_the_time_limit() {
    let key = Samples::seeded(1).lease().key;
    for (limit, table) in [
        (DEFAULT_TIMEOUT, Script::new([Answer::IsSilent]).table()),
        (Duration::from_millis(700), Script::new([Answer::IsSilent]).table().with_timeout(Duration::from_millis(700))),
    ] {
        let asked = Instant::now();
        assert_eq!(table.get_lease(&key).await.expect_err("silence").kind(), ErrorKind::Timeout);
        let waited = asked.elapsed();
        assert!(waited >= limit && waited < limit + Duration::from_millis(50), "{waited:?}");
    }
}

#[derive(Debug)]
struct Provider(fn() -> CredentialsError);

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err((self.0)()))
    }
}

#[tokio::test(start_paused = true)]
async fn missing_credentials_and_regions_are_named() {
    let key = Samples::seeded(1).lease().key;
    let script = Script::default();
    let cases: [(fn() -> CredentialsError, ErrorKind); 3] = [
        (|| CredentialsError::not_loaded("no profile"), ErrorKind::AccessDenied),
        (|| CredentialsError::invalid_configuration("a loop"), ErrorKind::AccessDenied),
        (|| CredentialsError::provider_error("metadata service hiccup"), ErrorKind::Unavailable),
    ];
    for (credentials, kind) in cases {
        let config = script.config().credentials_provider(SharedCredentialsProvider::new(Provider(credentials))).build();
        let error = DynamoDbLeaseTable::new(&config, "clicks-app").get_lease(&key).await.expect_err("no credentials");
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains("credentials"), "{error}");
    }
    let config = script.config().region(None).build();
    let error = DynamoDbLeaseTable::new(&config, "clicks-app").get_lease(&key).await.expect_err("no region");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.to_string().contains("AWS_REGION"), "{error}");
    assert!(script.requests().is_empty(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn credentials_stay_out_of_errors() {
    // The service repeats signed headers, the session token among them.
    let canonical = "The Canonical String should have been 'POST\\nx-amz-security-token:VERYSECRET'";
    let script = Script::new([refuses(400, "InvalidSignatureException", canonical)]);
    let table = script.table();
    let error = table.get_lease(&Samples::seeded(1).lease().key).await.expect_err("refused");
    let shown = format!("{error} {error:#} {error:?} {table:?} {table}");
    assert!(!shown.contains("VERYSECRET") && !shown.contains("secret"), "{shown}");
    assert!(shown.contains("InvalidSignatureException") && shown.contains("clock"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_new_table_is_waited_for() {
    let creating = || describes("CREATING");
    let created = Answer::Says(200, json!({"TableDescription": description("CREATING")}));
    let script = Script::new([no_table(), created, creating(), creating(), describes("ACTIVE")]);
    script.table().initialize().await.expect("created");
    assert_eq!(script.operations(), ["DescribeTable", "CreateTable", "DescribeTable", "DescribeTable", "DescribeTable"]);
    let wanted = &script.requests()[1].1;
    assert_eq!(wanted["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(wanted["KeySchema"], json!([{"AttributeName": "leaseKey", "KeyType": "HASH"}]));
    assert_eq!(wanted["AttributeDefinitions"], json!([{"AttributeName": "leaseKey", "AttributeType": "S"}]));

    // Another worker was faster, and DescribeTable is behind.
    let in_use = || refuses(400, "ResourceInUseException", "Table already exists");
    let script = Script::new([no_table(), in_use(), no_table(), in_use(), describes("UPDATING")]);
    script.table().initialize().await.expect("created by another");

    let script = Script::new([describes("DELETING")]);
    assert_eq!(script.table().initialize().await.expect_err("going away").kind(), ErrorKind::ResourceInUse);
    let script = Script::new([describes("ARCHIVED")]);
    assert_eq!(script.table().initialize().await.expect_err("of no use").kind(), ErrorKind::Mismatch);

    let script = Script::new(std::iter::repeat_with(creating).take(5000));
    let started = Instant::now();
    assert_eq!(script.table().initialize().await.expect_err("never comes").kind(), ErrorKind::Timeout);
    let waited = started.elapsed();
    assert!(waited >= CREATION_TIMEOUT && waited < CREATION_TIMEOUT + Duration::from_secs(5), "{waited:?}");
    assert!(script.operations().len() < 1300, "polls at a moderate pace: {}", script.operations().len());
}

fn worker_json(id: &WorkerId) -> Value {
    json!({
        "leaseKey": {"S": id.as_str()}, "entityType": {"S": "WORKER_METRIC_STATS"}, "lut": {"N": "1795262400"},
        "skInstance": {"S": "01"}, "skHeartbeat": {"N": "0"}, "skState": {"S": "ACTIVE"}, "skLeading": {"BOOL": false},
    })
}

fn batch(found: &[&WorkerId], left: &[&WorkerId]) -> Answer {
    let rows: Vec<Value> = found.iter().map(|id| worker_json(id)).collect();
    let keys: Vec<Value> = left.iter().map(|id| json!({"leaseKey": {"S": id.as_str()}})).collect();
    let unprocessed = if keys.is_empty() { json!({}) } else { json!({"clicks-app": {"Keys": keys, "ConsistentRead": true}}) };
    Answer::Says(200, json!({"Responses": {"clicks-app": rows}, "UnprocessedKeys": unprocessed}))
}

#[tokio::test(start_paused = true)]
async fn unprocessed_keys_are_asked_for_again() {
    let ids: Vec<WorkerId> = ["a", "b", "c"].map(|id| WorkerId::new(id).expect("valid")).to_vec();
    let [a, b, c] = [&ids[0], &ids[1], &ids[2]];
    let script = Script::new([batch(&[c], &[a, b]), batch(&[], &[a, b]), batch(&[a], &[b]), batch(&[b], &[])]);
    let rows = script.table().get_workers(&ids).await.expect("read in the end");
    assert!(rows.iter().map(|row| &row.id).eq(&ids));
    let asked: Vec<usize> =
        script.requests().iter().map(|(_, body)| body["RequestItems"]["clicks-app"]["Keys"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(asked, [3, 2, 2, 1]);

    let script = Script::new(std::iter::repeat_with(|| batch(&[], &[a, b, c])).take(10));
    let error = script.table().get_workers(&ids).await.expect_err("never read");
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(script.operations().len(), BATCH_GET_IDLE_ROUNDS as usize);
}

#[tokio::test(start_paused = true)]
async fn reads_are_consistent_and_renewal_is_one_write() {
    let ids: Vec<WorkerId> = ["a", "b"].map(|id| WorkerId::new(id).expect("valid")).to_vec();
    let page = |last: Value| Answer::Says(200, json!({"Items": [], "Count": 0, "ScannedCount": 0, "LastEvaluatedKey": last}));
    let nothing = || Answer::Says(200, json!({}));
    let more = json!({"leaseKey": {"S": "shardId-000000000001"}});
    let script = Script::new([page(more.clone()), page(Value::Null), nothing(), nothing(), batch(&[], &[]), nothing()]);
    let table = script.table();
    table.scan().await.expect("two pages");
    table.get_lease(&Samples::seeded(1).lease().key).await.expect("nothing");
    table.get_workers(&ids[..1]).await.expect("nothing");
    table.get_workers(&ids).await.expect("nothing");
    let requests = script.requests();
    assert_eq!(script.operations(), ["Scan", "Scan", "GetItem", "GetItem", "BatchGetItem"]);
    assert!(requests[..4].iter().all(|(_, body)| body["ConsistentRead"] == true));
    assert_eq!(requests[4].1["RequestItems"]["clicks-app"]["ConsistentRead"], true);
    assert_eq!(requests[1].1["ExclusiveStartKey"], more);

    let row = worker_row(&ids[0], InstanceId(1));
    let update = WorkerUpdate { handled: Samples::seeded(2).signals(), ..worker_update(&row) };
    assert_eq!(table.heartbeat(&row.id, row.version, &update).await.expect("answered"), WriteOutcome::Applied);
    let (operation, body) = script.requests().pop().expect("asked");
    assert_eq!(operation, "UpdateItem");
    assert_eq!(body["ConditionExpression"], "#skInstance = :if_skInstance AND #skHeartbeat = :if_skHeartbeat");
    assert_eq!(
        body["UpdateExpression"],
        "SET #skHeartbeat = :new_skHeartbeat, #lut = :new_lut, #slu = :new_slu, #skState = :new_skState, #skLeading = :new_skLeading \
         REMOVE #skRoster, #skMaxLeases DELETE #skSignals :del_skSignals"
    );
}
