//! Names and types of what is stored in DynamoDB, and the table itself.
//!
//! This is a wire format: workers of other versions, and Java workers, read and write the same rows. Names without
//! `sk` before them are those of the KCL, version 3.5; `docs/lease-table.md` has the meaning of each.

use aws_sdk_dynamodb::{
    operation::create_table::builders::CreateTableFluentBuilder,
    types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription},
};

use crate::error::{Error, ErrorKind, Result};

// Every row.
pub(super) const LEASE_KEY: &str = "leaseKey";
pub(super) const ENTITY_TYPE: &str = "entityType";

// Leases.
pub(super) const LEASE_COUNTER: &str = "leaseCounter";
pub(super) const LEASE_OWNER: &str = "leaseOwner";
pub(super) const CHECKPOINT_OWNER: &str = "checkpointOwner";
pub(super) const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CHECKPOINT_SUB: &str = "checkpointSubSequenceNumber";
pub(super) const PENDING_CHECKPOINT: &str = "pendingCheckpoint";
pub(super) const PENDING_CHECKPOINT_SUB: &str = "pendingCheckpointSubSequenceNumber";
pub(super) const PENDING_CHECKPOINT_STATE: &str = "pendingCheckpointState";
pub(super) const PARENT_SHARD_IDS: &str = "parentShardId";
pub(super) const CHILD_SHARD_IDS: &str = "childShardIds";
pub(super) const STARTING_HASH_KEY: &str = "startingHashKey";
pub(super) const ENDING_HASH_KEY: &str = "endingHashKey";
pub(super) const THROUGHPUT: &str = "throughputKBps";
pub(super) const STREAM_NAME: &str = "streamName";
pub(super) const SHARD_ID: &str = "shardId";
pub(super) const OWNER_INSTANCE: &str = "skOwnerInstance";
pub(super) const START_AT: &str = "skStartAt";
pub(super) const STREAM_CREATED: &str = "skStreamCreated";
pub(super) const STREAM_ARN: &str = "skStreamArn";
pub(super) const WRITE_ID: &str = "skWriteId";

// Workers.
pub(super) const LAST_UPDATE: &str = "lut";
pub(super) const STATS: &str = "sts";
pub(super) const OPERATING_RANGE: &str = "opr";
pub(super) const SUPPORT_CODE: &str = "sup";
pub(super) const SUPPORT_UPDATED: &str = "slu";
pub(super) const INSTANCE: &str = "skInstance";
pub(super) const HEARTBEAT: &str = "skHeartbeat";
pub(super) const STATE: &str = "skState";
pub(super) const LEADING: &str = "skLeading";
pub(super) const ROSTER: &str = "skRoster";
pub(super) const MAX_LEASES: &str = "skMaxLeases";
pub(super) const SIGNALS: &str = "skSignals";

// The lock of the Java leader.
pub(super) const LOCK_OWNER: &str = "ownerName";
pub(super) const LOCK_VERSION: &str = "recordVersionNumber";
pub(super) const LOCK_RELEASED: &str = "isReleased";

// Values of `entityType`.
pub(super) const LEASE: &str = "LEASE";
pub(super) const WORKER: &str = "WORKER_METRIC_STATS";
pub(super) const LEADER: &str = "LEADER";
/// Rows of the KCL's own coordination, of no concern here.
pub(super) const IGNORED: [&str; 3] = ["CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "STREAM"];

/// Primary key of the Java leader's lock.
pub(super) const LEADER_KEY: &str = "Leader";
/// Primary keys of the KCL's migration states, whose rows may lack a type.
pub(super) const MIGRATION_KEYS: [&str; 2] = ["Migration3.0", "TableMigration3.5"];

/// `sup` of a worker that can live with all kinds of rows in one table, as KCL 3.5 writes it.
pub(super) const SINGLE_TABLE_SUPPORT: u64 = 1;

/// The table as the KCL makes it: one string key, paid per request.
pub(super) fn create_table(request: CreateTableFluentBuilder, table: &str) -> CreateTableFluentBuilder {
    let attribute = AttributeDefinition::builder().attribute_name(LEASE_KEY).attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name(LEASE_KEY).key_type(KeyType::Hash);
    request
        .table_name(table)
        .attribute_definitions(attribute.build().expect("name and type are set"))
        .key_schema(key.build().expect("name and type are set"))
        .billing_mode(BillingMode::PayPerRequest)
}

/// Refuses a table whose rows are keyed otherwise.
pub(super) fn check_table(table: &str, description: &TableDescription) -> Result<()> {
    let keys = description.key_schema();
    let key_type = |name: &str| {
        let found = description.attribute_definitions().iter().find(|d| d.attribute_name() == name);
        found.map_or("?", |d| d.attribute_type().as_str())
    };
    if let [key] = keys
        && key.attribute_name() == LEASE_KEY
        && key_type(LEASE_KEY) == ScalarAttributeType::S.as_str()
    {
        return Ok(());
    }
    let found: Vec<String> = keys.iter().map(|key| format!("{} ({})", key.attribute_name(), key_type(key.attribute_name()))).collect();
    let message = format!(
        "DynamoDB table {table} belongs to something else: its primary key is {}, that of a lease table {LEASE_KEY} (S); \
         choose another application or table name",
        found.join(" and ")
    );
    Err(Error::new(ErrorKind::Mismatch, message))
}
