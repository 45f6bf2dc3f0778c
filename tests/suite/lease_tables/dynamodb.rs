//! The table in DynamoDB: the AWS SDK over loopback to an emulator in the process.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider},
    types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use aws_types::SdkConfig;
use shardkeeper::{
    ErrorKind,
    lease::{DynamoDbLeaseTable, LeaseTable, Signal, WriteOutcome, conformance},
    task::{Spawner, Task},
    types::{InstanceId, WorkerId},
};

/// DynamoDB in memory on a port of its own; stops when dropped.
struct Server {
    config: SdkConfig,
    _running: Task<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let database = dynoxide::Database::memory().expect("a database");
        let serve = async move {
            dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()).await.expect("serves");
        };
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
            .endpoint_url(endpoint)
            .build();
        Self { config, _running: Spawner::current().spawn("dynamodb", serve) }
    }

    /// A table of which nothing but the machine's load can make a call late.
    fn table(&self, name: &str) -> DynamoDbLeaseTable {
        DynamoDbLeaseTable::new(&self.config, name).with_timeout(Duration::from_secs(60))
    }

    fn client(&self) -> Client {
        Client::new(&self.config)
    }

    async fn item(&self, table: &str, key: &str) -> BTreeMap<String, AttributeValue> {
        let answer = self.client().get_item().table_name(table).key("leaseKey", AttributeValue::S(key.to_owned())).send().await;
        answer.expect("read").item.expect("there").into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let server = Server::start().await;
    let number = AtomicU32::new(0);
    let factory = || {
        let table = server.table(&format!("application-{}", number.fetch_add(1, Ordering::Relaxed)));
        async move { Box::new(table) as Box<dyn LeaseTable> }
    };
    conformance::run(factory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_table_lose_no_update() {
    let server = Server::start().await;
    let tables: Vec<DynamoDbLeaseTable> = (0..3).map(|_| server.table("application")).collect();
    let shared = DynamoDbLeaseTable::from_client(&server.client(), "application").with_timeout(Duration::from_secs(60));
    let mut tables: Vec<&dyn LeaseTable> = tables.iter().map(|t| t as &dyn LeaseTable).collect();
    tables.push(&shared);
    conformance::compare_and_set_is_linearizable(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_something_else_is_refused() {
    let server = Server::start().await;
    for (name, keys) in [("customers", vec!["id"]), ("ranged", vec!["leaseKey", "day"])] {
        let mut request = server.client().create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
        for (position, key) in keys.iter().enumerate() {
            let kind = if position == 0 { KeyType::Hash } else { KeyType::Range };
            request = request
                .key_schema(KeySchemaElement::builder().attribute_name(*key).key_type(kind).build().expect("complete"))
                .attribute_definitions(
                    AttributeDefinition::builder().attribute_name(*key).attribute_type(ScalarAttributeType::S).build().expect("complete"),
                );
        }
        request.send().await.expect("created");
        let error = server.table(name).initialize().await.expect_err("not a lease table");
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        for part in [name, "something else", "choose another"].into_iter().chain(keys) {
            assert!(error.to_string().contains(part), "{error} names {part}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_is_named_with_the_fix() {
    let server = Server::start().await;
    let table = server.table("never-made");
    let samples = conformance::Samples::seeded(1);
    let lease = samples.lease();
    let next = lease.annotated(samples.write_id(), |_| ());
    let errors = [
        table.scan().await.expect_err("no table"),
        table.get_lease(&lease.key).await.expect_err("no table"),
        table.create_lease(&lease).await.expect_err("no table"),
        table.update_lease(&lease, &next).await.expect_err("no table"),
        table.get_workers(&[samples.worker_id(), samples.worker_id()]).await.expect_err("no table"),
        table.signal(&samples.worker_id(), &[]).await.expect_err("no table"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        for part in ["never-made", "eu-central-1", "check the table name"] {
            assert!(error.to_string().contains(part), "{error} names {part}");
        }
    }
}

/// Reads DynamoDB JSON of the few types the fixtures have.
fn attribute(json: &serde_json::Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|o| o.iter().next()).expect("one type and value");
    let text = || value.as_str().expect("a string").to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "B" => AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(b"state")),
        "SS" => AttributeValue::Ss(value.as_array().expect("an array").iter().map(|m| m.as_str().expect("a string").to_owned()).collect()),
        "L" => AttributeValue::L(value.as_array().expect("an array").iter().map(attribute).collect()),
        "M" => AttributeValue::M(value.as_object().expect("an object").iter().map(|(k, v)| (k.clone(), attribute(v))).collect()),
        other => panic!("unknown type {other}"),
    }
}

async fn load(server: &Server, table: &str, fixture: &str) {
    let path = format!("{}/tests/fixtures/lease_rows/{fixture}", env!("CARGO_MANIFEST_DIR"));
    let rows: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(&fs::read_to_string(path).expect("a fixture")).expect("valid");
    for row in rows.into_values() {
        let item = row.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
        server.client().put_item().table_name(table).set_item(Some(item)).send().await.expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_the_java_kcl_is_read_and_continued() {
    let server = Server::start().await;
    let table = server.table("java-app");
    table.initialize().await.expect("created");
    load(&server, "java-app", "kcl-3.5.json").await;
    let unknown = [("leaseKey", "map-1"), ("entityType", "SHARD_MAP")];
    let item = unknown.iter().map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned()))).collect();
    server.client().put_item().table_name("java-app").set_item(Some(item)).send().await.expect("written");

    let scan = table.scan().await.expect("read");
    assert_eq!(scan.leases.len(), 6);
    assert!(scan.leases.is_sorted_by_key(|lease| lease.key.clone()));
    assert_eq!(scan.workers, []);
    let mut foreign: Vec<&str> = scan.foreign_workers.iter().map(|w| w.id.as_str()).collect();
    foreign.sort_unstable();
    assert_eq!(foreign, ["worker-java-1", "worker-java-2"]);
    assert_eq!(scan.leader_lock.as_ref().map(|lock| lock.owner.as_str()), Some("worker-java-1"));
    assert_eq!(scan.skipped.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["map-1"], "unknown rows are reported");

    // Java workers are read, signalled and replaced by nobody here.
    let java = WorkerId::new("worker-java-1").expect("valid");
    assert_eq!(table.get_workers(std::slice::from_ref(&java)).await.expect("read"), []);
    let signal = Signal::Plan { from: java.clone(), number: 1 };
    assert_eq!(table.signal(&java, &[signal]).await.expect("answered"), WriteOutcome::Conflict);
    assert_eq!(table.put_worker(&conformance::worker_row(&java, InstanceId(1)), None).await.expect("answered"), WriteOutcome::Conflict);

    // A lease is continued; what this library does not know of, and the type, stay as they are.
    let key = "shardId-000000000005";
    let marked = server.client().update_item().table_name("java-app").key("leaseKey", AttributeValue::S(key.to_owned()));
    let marked = marked.update_expression("SET fromTheFuture = :v").expression_attribute_values(":v", AttributeValue::S("kept".to_owned()));
    marked.send().await.expect("written");
    let before = server.item("java-app", key).await;
    let samples = conformance::Samples::seeded(2);
    let lease = scan.leases.iter().find(|lease| lease.key.as_str() == key).expect("there");
    let next = lease.taken(samples.write_id(), &samples.worker_id(), InstanceId(7));
    assert_eq!(table.update_lease(lease, &next).await.expect("answered"), WriteOutcome::Applied);
    let after = server.item("java-app", key).await;
    let changed: Vec<&str> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, ["leaseCounter", "leaseOwner", "ownerSwitchesSinceCheckpoint", "skOwnerInstance", "skWriteId"]);
    assert!(before.keys().all(|name| after.contains_key(name)), "nothing is removed");
    assert_eq!(table.get_lease(&next.key).await.expect("read"), Some(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_type_of_a_row_is_written_once() {
    let server = Server::start().await;
    let table = server.table("java-app");
    table.initialize().await.expect("created");
    load(&server, "java-app", "kcl-2.x.json").await;
    let samples = conformance::Samples::seeded(3);
    let scan = table.scan().await.expect("read");
    assert_eq!((scan.leases.len(), scan.skipped.len()), (3, 0));
    for lease in scan.leases {
        let next = lease.released(samples.write_id(), lease.checkpoint);
        assert_eq!(table.update_lease(&lease, &next).await.expect("answered"), WriteOutcome::Applied);
        let item = server.item("java-app", lease.key.as_str()).await;
        assert!(!item.contains_key("entityType"), "rows of 2.x workers stay untyped");
        assert!(!item.contains_key("leaseOwner"), "an owner that is gone leaves no empty attribute");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_signal_leaves_no_empty_set() {
    let server = Server::start().await;
    let table = server.table("application");
    table.initialize().await.expect("created");
    let samples = conformance::Samples::seeded(4);
    let row = conformance::worker_row(&samples.worker_id(), InstanceId(1));
    assert_eq!(table.put_worker(&row, None).await.expect("answered"), WriteOutcome::Applied);
    let without = server.item("application", row.id.as_str()).await;
    let signals: Vec<Signal> = samples.signals().into_iter().collect();
    assert_eq!(table.signal(&row.id, &signals).await.expect("answered"), WriteOutcome::Applied);
    let with = server.item("application", row.id.as_str()).await;
    assert_eq!(with.keys().filter(|name| !without.contains_key(*name)).collect::<Vec<_>>(), ["skSignals"]);

    let update = shardkeeper::lease::WorkerUpdate { handled: signals.into_iter().collect(), ..conformance::worker_update(&row) };
    assert_eq!(table.heartbeat(&row.id, row.version, &update).await.expect("answered"), WriteOutcome::Applied);
    let after = server.item("application", row.id.as_str()).await;
    assert!(after.keys().eq(without.keys()), "{:?}", after.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_java_kcl_are_no_worker_ids() {
    let server = Server::start().await;
    let table = server.table("application");
    table.initialize().await.expect("created");
    for id in ["Leader", "Migration3.0", "TableMigration3.5"] {
        let row = conformance::worker_row(&WorkerId::new(id).expect("valid"), InstanceId(1));
        let error = table.put_worker(&row, None).await.expect_err("reserved");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(id), "{error}");
    }
    assert_eq!(table.scan().await.expect("read").leader_lock, None);
}
