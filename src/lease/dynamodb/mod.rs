//! A lease table in DynamoDB, in the layout of the Java KCL 3.5 with all rows in one table.
//!
//! `docs/lease-table.md` describes the rows.

mod error;
mod expression;
mod item;
mod schema;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    config::{
        StalledStreamProtectionConfig,
        http::HttpResponse,
        retry::{RetryConfig as SdkRetryConfig, RetryPartition},
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    types::{KeysAndAttributes, TableDescription, TableStatus},
};
use aws_types::SdkConfig;

use self::{
    error::{CONDITION_FAILED, IN_USE, NOT_FOUND, Subject},
    expression::Expression,
    item::{Item, Row},
    schema::{HEARTBEAT, INSTANCE, LEASE_COUNTER, LEASE_KEY, SIGNALS},
};
use super::{Lease, LeaseKey, LeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion, WriteOutcome};
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    retry::RetryConfig,
    stream::aws::endpoint_override,
    types::WorkerId,
};

/// Time limit of one call, unless [`DynamoDbLeaseTable::with_timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for a new table to become usable; the KCL waits as long.
const CREATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Waits between two looks at a new table. DynamoDB takes some seconds, emulators none.
const CREATION_POLL: RetryConfig =
    RetryConfig { max_attempts: None, min_delay: Duration::from_millis(20), max_delay: Duration::from_secs(1) };
/// Rows in one BatchGetItem request (BatchGetItem, RequestItems).
const BATCH_GET_MAX_ITEMS: usize = 100;
/// Requests in a row that may return nothing but unprocessed keys.
const BATCH_GET_IDLE_ROUNDS: u32 = 5;
/// Wait after such a request, at most; less by jitter.
const BATCH_GET_WAIT: Duration = Duration::from_millis(50);

type SdkResult<T, E> = Result<T, SdkError<E, HttpResponse>>;

/// A lease table in DynamoDB. Clones share one client.
///
/// Retries of the SDK are off, since a retried conditional write can fail on its own first attempt, and every call has
/// a time limit. The requests have a retry partition of their own.
///
/// Needs the permissions `dynamodb:DescribeTable`, `Scan`, `GetItem`, `BatchGetItem`, `PutItem`, `UpdateItem` and
/// `DeleteItem` on the table, and `CreateTable` unless it exists.
///
/// # Cancel safety
/// A call whose future is dropped may still take effect, as after a timeout.
#[derive(Clone)]
pub struct DynamoDbLeaseTable {
    client: Client,
    table: Arc<str>,
    random: Randomness,
    /// For errors, if it is known to be overridden.
    endpoint: Option<String>,
}

impl DynamoDbLeaseTable {
    /// The table with this name, 3 to 255 characters of `[a-zA-Z0-9_.-]`, in the region and with the credentials of
    /// `config`; its endpoint (such as `AWS_ENDPOINT_URL_DYNAMODB`) is honoured, its retry settings are not.
    #[must_use]
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        let builder = aws_sdk_dynamodb::config::Builder::from(config);
        let table = Self::from_config(builder, table.into().into(), DEFAULT_TIMEOUT, Randomness::from_system());
        Self { endpoint: endpoint_override(config, "DynamoDB"), ..table }
    }

    /// The table with this name through the connection and credentials of an existing client. The client itself stays
    /// as it is; its retry and timeout settings are not used.
    #[must_use]
    pub fn from_client(client: &Client, table: impl Into<String>) -> Self {
        Self::from_config(client.config().to_builder(), table.into().into(), DEFAULT_TIMEOUT, Randomness::from_system())
    }

    /// Sets the time limit of one call; keep it well below the lease duration.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let table = Self::from_config(self.client.config().to_builder(), self.table, timeout, self.random);
        Self { endpoint: self.endpoint, ..table }
    }

    /// Sets where jitter comes from.
    #[must_use]
    pub fn with_randomness(self, random: Randomness) -> Self {
        Self { random, ..self }
    }

    fn from_config(config: aws_sdk_dynamodb::config::Builder, table: Arc<str>, timeout: Duration, random: Randomness) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(timeout).operation_attempt_timeout(timeout).operation_timeout(timeout);
        let config = config
            .retry_config(SdkRetryConfig::disabled())
            // Apart from other clients of the process, whose troubles must not slow down renewals.
            .retry_partition(RetryPartition::new("shardkeeper-leases"))
            .timeout_config(timeouts.build())
            // Answers are small and have a time limit as a whole.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), table, random, endpoint: None }
    }

    /// Checks a table's name: 3 to 255 characters of `[a-zA-Z0-9_.-]`.
    ///
    /// # Errors
    /// `InvalidInput`, naming the value and the rule.
    pub(crate) fn check_name(name: &str) -> Result<()> {
        let fits = (3..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if fits {
            return Ok(());
        }
        let shown: String = name.chars().take(256).collect();
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{shown:?} cannot name a DynamoDB table: use 3 to 255 letters, digits, '_', '.' and '-'"),
        ))
    }

    /// The table's name.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table
    }

    fn failed<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let region = self.client.config().region().map(AsRef::as_ref);
        Subject { operation, table: &self.table, region, endpoint: self.endpoint.as_deref() }.sdk_error(error)
    }

    /// The outcome of a conditional write.
    fn written<T, E>(&self, operation: &'static str, answer: SdkResult<T, E>) -> Result<WriteOutcome>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match answer {
            Ok(_) => Ok(WriteOutcome::Applied),
            Err(error) if error.code() == Some(CONDITION_FAILED) => Ok(WriteOutcome::Conflict),
            Err(error) => Err(self.failed(operation, error)),
        }
    }

    async fn describe(&self) -> Result<Option<TableDescription>> {
        match self.client.describe_table().table_name(&*self.table).send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(self.failed("DescribeTable", error)),
        }
    }

    /// `None` when another worker was faster.
    async fn create(&self) -> Result<Option<TableDescription>> {
        match schema::create_table(self.client.create_table(), &self.table).send().await {
            Ok(answer) => Ok(answer.table_description),
            Err(error) if error.code() == Some(IN_USE) => Ok(None),
            Err(error) => Err(self.failed("CreateTable", error)),
        }
    }

    async fn get_item(&self, key: &str) -> Result<Option<Item>> {
        let request = self.client.get_item().table_name(&*self.table).key(LEASE_KEY, item::string(key)).consistent_read(true);
        let answer = request.send().await.map_err(|error| self.failed("GetItem", error))?;
        Ok(answer.item.map(|item| item.into_iter().collect()))
    }

    async fn put_item(&self, item: Item, on: &Expression) -> Result<WriteOutcome> {
        let request = self.client.put_item().table_name(&*self.table).set_item(Some(item.into_iter().collect()));
        let request = request
            .set_condition_expression(on.condition())
            .set_expression_attribute_names(on.names())
            .set_expression_attribute_values(on.values());
        self.written("PutItem", request.send().await)
    }

    async fn update_item(&self, key: &str, change: &Expression) -> Result<WriteOutcome> {
        let request = self.client.update_item().table_name(&*self.table).key(LEASE_KEY, item::string(key));
        let request = request
            .set_update_expression(change.update())
            .set_condition_expression(change.condition())
            .set_expression_attribute_names(change.names())
            .set_expression_attribute_values(change.values());
        self.written("UpdateItem", request.send().await)
    }

    async fn delete_item(&self, key: &str, on: &Expression) -> Result<WriteOutcome> {
        let request = self.client.delete_item().table_name(&*self.table).key(LEASE_KEY, item::string(key));
        let request = request
            .set_condition_expression(on.condition())
            .set_expression_attribute_names(on.names())
            .set_expression_attribute_values(on.values());
        self.written("DeleteItem", request.send().await)
    }

    /// Reads up to 100 items, in any order.
    async fn batch_get(&self, ids: &[WorkerId]) -> Result<Vec<Item>> {
        let mut wanted = KeysAndAttributes::builder().consistent_read(true);
        for id in ids {
            wanted = wanted.keys([(LEASE_KEY.to_owned(), item::string(id))].into_iter().collect());
        }
        let mut request = Some([(self.table.to_string(), wanted.build().expect("keys are set"))].into_iter().collect());
        let mut items = Vec::with_capacity(ids.len());
        let mut idle_rounds = 0;
        while let Some(wanted) = request {
            let answer = self.client.batch_get_item().set_request_items(Some(wanted)).send().await;
            let answer = answer.map_err(|error| self.failed("BatchGetItem", error))?;
            let read = items.len();
            items.extend(answer.responses.into_iter().flatten().flat_map(|(_, rows)| rows).map(|row| row.into_iter().collect()));
            request = answer.unprocessed_keys.filter(|left| !left.is_empty());
            if request.is_some() && items.len() == read {
                idle_rounds += 1;
                if idle_rounds == BATCH_GET_IDLE_ROUNDS {
                    return Err(Error::new(ErrorKind::Throttled, format!("BatchGetItem on {self} leaves keys unprocessed")));
                }
                tokio::time::sleep(self.random.jittered(BATCH_GET_WAIT)).await;
            }
        }
        Ok(items)
    }
}

fn if_version(expected: WorkerVersion) -> Expression {
    Expression::default().if_equal(INSTANCE, item::string(expected.instance)).if_equal(HEARTBEAT, item::number(expected.heartbeat))
}

impl fmt::Debug for DynamoDbLeaseTable {
    /// Without the client, whose configuration is long and holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbLeaseTable").field("table", &self.table).finish_non_exhaustive()
    }
}

impl fmt::Display for DynamoDbLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DynamoDB table {}", self.table)
    }
}

#[async_trait]
impl LeaseTable for DynamoDbLeaseTable {
    async fn initialize(&self) -> Result<()> {
        Self::check_name(&self.table)?;
        let deadline = tokio::time::Instant::now() + CREATION_TIMEOUT;
        let mut poll = CREATION_POLL.backoff(&self.random);
        loop {
            let found = match self.describe().await? {
                Some(found) => Some(found),
                // DescribeTable may be behind: then CreateTable says that the table exists.
                None => self.create().await?,
            };
            if let Some(found) = found {
                schema::check_table(&self.table, &found)?;
                match found.table_status() {
                    Some(TableStatus::Active | TableStatus::Updating) => return Ok(()),
                    Some(TableStatus::Creating) => {}
                    Some(TableStatus::Deleting) => {
                        return Err(Error::new(ErrorKind::ResourceInUse, format!("{self} is being deleted: try again when it is gone")));
                    }
                    other => {
                        let status = other.map_or("unknown", TableStatus::as_str);
                        let message = format!("{self} cannot be used, its status is {status}: look at it in the DynamoDB console");
                        return Err(Error::new(ErrorKind::Mismatch, message));
                    }
                }
            }
            if tokio::time::Instant::now() >= deadline {
                let message = format!("{self} is not usable {} s after it was created", CREATION_TIMEOUT.as_secs());
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            // It has no limit of attempts.
            let _again = poll.wait().await;
        }
    }

    async fn scan(&self) -> Result<TableScan> {
        let mut scan = TableScan::default();
        let mut start = None;
        loop {
            let request = self.client.scan().table_name(&*self.table).consistent_read(true).set_exclusive_start_key(start);
            let page = request.send().await.map_err(|error| self.failed("Scan", error))?;
            for item in page.items.into_iter().flatten() {
                match Row::from_item(&item.into_iter().collect()) {
                    Row::Lease(lease) => scan.leases.push(lease),
                    Row::Worker(worker) => scan.workers.push(worker),
                    Row::UnreadableWorker(worker, skipped) => {
                        scan.workers.push(worker);
                        scan.skipped.push(skipped);
                    }
                    Row::ForeignWorker(worker) => scan.foreign_workers.push(worker),
                    Row::LeaderLock(lock) => scan.leader_lock = Some(lock),
                    Row::Ignored => {}
                    Row::Skipped(row) => scan.skipped.push(row),
                }
            }
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                break;
            }
        }
        scan.leases.sort_by(|a, b| a.key.cmp(&b.key));
        scan.workers.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(scan)
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        let Some(item) = self.get_item(key.as_str()).await? else { return Ok(None) };
        let lease = item::to_lease(&item);
        lease.map(Some).map_err(|reason| Error::new(ErrorKind::InvalidData, format!("lease row {key} of {self}: {reason}")))
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        self.put_item(item::from_new_lease(lease), &Expression::default().if_absent(LEASE_KEY)).await
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        next.assert_succeeds(current);
        // Only what changes: attributes of other libraries, and what they have written meanwhile, stay.
        let change = Expression::default()
            .changes(&item::from_lease(current), &item::from_lease(next))
            .if_equal(LEASE_COUNTER, item::number(current.counter));
        self.update_item(next.key.as_str(), &change).await
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        let unchanged = Expression::default().if_equal(LEASE_COUNTER, item::number(current.counter));
        self.delete_item(current.key.as_str(), &unchanged).await
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        let ids: Vec<WorkerId> = ids.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let mut items = Vec::with_capacity(ids.len());
        match ids.as_slice() {
            // The usual case, a worker that looks for signals, goes without the permission for batches.
            [id] => items.extend(self.get_item(id.as_str()).await?),
            ids => {
                for batch in ids.chunks(BATCH_GET_MAX_ITEMS) {
                    items.append(&mut self.batch_get(batch).await?);
                }
            }
        }
        let mut rows: Vec<WorkerRow> = items
            .iter()
            .filter_map(|item| match Row::from_item(item) {
                Row::Worker(row) | Row::UnreadableWorker(row, _) => Some(row),
                Row::Lease(_) | Row::ForeignWorker(_) | Row::LeaderLock(_) | Row::Ignored | Row::Skipped(_) => None,
            })
            .collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        let id = row.id.as_str();
        if id == schema::LEADER_KEY || schema::MIGRATION_KEYS.contains(&id) {
            let message = format!("worker id {id} is the key of a row that the Java KCL keeps in the same table: choose another");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let on = expected.map_or_else(|| Expression::default().if_absent(LEASE_KEY), if_version);
        self.put_item(item::from_worker(row), &on).await
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        let mut change = if_version(expected)
            .assign(HEARTBEAT, Some(item::number(expected.heartbeat + 1)))
            .delete(SIGNALS, item::string_set(update.handled.iter().map(Signal::to_text)));
        for (attribute, value) in item::from_update(update) {
            change = change.assign(attribute, value);
        }
        self.update_item(id.as_str(), &change).await
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        let texts: BTreeSet<String> = signals.iter().map(Signal::to_text).collect();
        let change = Expression::default().if_exists(INSTANCE).add(SIGNALS, item::string_set(texts));
        self.update_item(to.as_str(), &change).await
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        self.delete_item(id.as_str(), &if_version(expected)).await
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
