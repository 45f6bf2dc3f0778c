//! Putting a worker together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{WorkerHandle, handle::rate_limit};
use crate::{
    clock::{SharedClock, SystemClock},
    consumer,
    error::{Error, ErrorKind, Result},
    lease::{LeaseTable, coordinator},
    processor::RecordProcessorFactory,
    random::Randomness,
    retrieval::{
        Consumer, Retrieval, fan_out,
        kpl::{self, Quarantine},
        polling,
    },
    settings::{DAY, check_span},
    stream::{StreamClient, StreamReference},
    task::Spawner,
    types::{ConsumerName, InitialPosition, StreamName, WorkerId},
};

/// Settings of a worker, as plain data. The defaults suit most applications. Every span of time has an upper limit, a day
/// unless its field says otherwise.
///
/// # Examples
///
/// Changed in code, or read from a file: fields that are left out keep their defaults.
/// ```
/// use std::time::Duration;
/// use shardkeeper::{WorkerBuilder, worker::Config};
///
/// fn patient(builder: WorkerBuilder) -> WorkerBuilder {
///     builder.configure(|config| {
///         config.consumer.checkpoint_interval = Some(Duration::from_secs(30));
///         config.polling.max_records = 500;
///     })
/// }
///
/// fn from_file(builder: WorkerBuilder, json: &str) -> Result<WorkerBuilder, serde_json::Error> {
///     let settings: Config = serde_json::from_str(json)?;
///     Ok(builder.configure(|config| *config = settings))
/// }
/// # let config: Config = serde_json::from_str(r#"{"polling": {"max_records": 500}, "initial_position": "trim_horizon"}"#)?;
/// # assert_eq!(config.polling.max_records, 500);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where a new application starts to read; kept shards continue from their checkpoints.
    pub initial_position: InitialPosition,
    /// How leases are kept.
    pub lease: coordinator::Config,
    /// How shards are consumed.
    pub consumer: consumer::Config,
    /// How shards are read: by polling unless told otherwise.
    pub retrieval: Retrieval,
    /// How the shards of single streams are read, by the stream's name, where it differs.
    pub stream_retrieval: BTreeMap<StreamName, Retrieval>,
    /// How shards are polled.
    pub polling: polling::Config,
    /// How shards are read by subscription.
    pub fan_out: fan_out::Config,
    /// How records are taken apart that the Kinesis Producer Library has packed together; default
    /// [`DeliverAll`](kpl::Policy::DeliverAll). `None` delivers them as they are on the wire. Switching it on or
    /// off repeats at most one aggregate per shard; switching it off when the last checkpoint is the first of several
    /// user records loses the others, so do that after a graceful stop. KCL always does as [`KclCompatible`](kpl::Policy::KclCompatible).
    pub deaggregation: Option<kpl::Policy>,
    /// Bytes of records that the worker may hold fetched but unprocessed, over all its shards; default 64 MiB. A shard
    /// with nothing buffered may always fetch once.
    pub max_buffered_bytes: u64,
    /// Records per second that the worker hands to its processors at the most, over all its shards; none by default.
    /// [`WorkerHandle::set_rate_limit`] changes it while the worker runs, and says how it is kept.
    pub records_per_second: Option<u32>,
    /// How often the fleet lists all shards of a stream besides what the ends of shards tell; default 5 minutes.
    pub shard_sync_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_position: InitialPosition::default(),
            lease: coordinator::Config::default(),
            consumer: consumer::Config::default(),
            retrieval: Retrieval::default(),
            stream_retrieval: BTreeMap::new(),
            polling: polling::Config::default(),
            fan_out: fan_out::Config::default(),
            deaggregation: Some(kpl::Policy::default()),
            max_buffered_bytes: 64 * 1024 * 1024,
            records_per_second: None,
            shard_sync_interval: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// Checks the settings and their relations.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fields, their values and the fix.
    pub fn validate(&self) -> Result<()> {
        self.lease.validate()?;
        self.consumer.validate()?;
        self.polling.validate()?;
        self.fan_out.validate()?;
        if self.max_buffered_bytes < 1024 * 1024 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("max_buffered_bytes is {}: set it to at least 1 MiB (1048576)", self.max_buffered_bytes),
            ));
        }
        rate_limit("records_per_second", self.records_per_second)?;
        // ListShards is not for polling.
        check_span("shard_sync_interval", self.shard_sync_interval, Duration::from_secs(60)..=DAY)?;
        if self.consumer.drain_timeout > self.lease.drain_timeout {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "consumer.drain_timeout is {0:?} and lease.drain_timeout {1:?}: a shard cannot drain longer than its worker \
                     waits; raise lease.drain_timeout to {0:?}, or lower consumer.drain_timeout to {1:?}",
                    self.consumer.drain_timeout, self.lease.drain_timeout
                ),
            ));
        }
        Ok(())
    }

    /// How the shards of this stream are read.
    pub(super) fn retrieval_of(&self, stream: &StreamName) -> &Retrieval {
        self.stream_retrieval.get(stream).unwrap_or(&self.retrieval)
    }

    fn check_retrieval(&self, application: &str, streams: &[StreamReference]) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if let Some(unknown) = self.stream_retrieval.keys().find(|name| streams.iter().all(|s| s.name() != **name)) {
            return bad(format!("stream_retrieval names stream {unknown}, which this worker does not read"));
        }
        for stream in streams {
            match self.retrieval_of(&stream.name()) {
                Retrieval::FanOut(Consumer::Arn(arn)) if arn.stream_name() != stream.name() => {
                    return bad(format!("stream consumer {arn} is not one of stream {stream}: set stream_retrieval for each stream"));
                }
                Retrieval::FanOut(Consumer::OfApplication) if ConsumerName::new(application).is_err() => {
                    return bad(format!(
                        "the application's name {application:?} cannot be that of a stream consumer (1 to 128 letters, digits, '_', '.' \
                         and '-'): set the retrieval to FanOut(Consumer::Name(..))"
                    ));
                }
                Retrieval::FanOut(_) | Retrieval::Polling | Retrieval::Automatic => {}
            }
        }
        Ok(())
    }
}

/// A worker, ready to run.
pub struct Worker {
    pub(super) application: String,
    pub(super) streams: Vec<StreamReference>,
    pub(super) factory: Arc<dyn RecordProcessorFactory>,
    pub(super) client: Arc<dyn StreamClient>,
    pub(super) table: Arc<dyn LeaseTable>,
    pub(super) config: Config,
    pub(super) quarantine: Option<Arc<dyn Quarantine>>,
    pub(super) clock: SharedClock,
    pub(super) random: Randomness,
    pub(super) spawner: Option<Spawner>,
    pub(super) stop_on_signals: bool,
    pub(super) handle: WorkerHandle,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("application", &self.application)
            .field("worker_id", self.handle.worker_id())
            .field("streams", &self.streams)
            .field("stream_client", &self.client)
            .field("lease_table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Begins a worker of `application`, which reads `stream` (a name or an ARN) with the processors of `factory`. All
    /// workers with the same application and lease table share the stream's shards.
    pub fn builder(application: impl Into<String>, stream: impl AsRef<str>, factory: impl RecordProcessorFactory) -> WorkerBuilder {
        WorkerBuilder {
            application: application.into(),
            streams: vec![stream.as_ref().to_owned()],
            factory: Arc::new(factory),
            client: None,
            table: None,
            worker_id: None,
            config: Config::default(),
            quarantine: None,
            clock: Arc::new(SystemClock),
            random: None,
            spawner: None,
            stop_on_signals: true,
            region_of_aws: None,
            table_is_named_after_application: false,
        }
    }

    /// A handle to stop the worker and to look at what it does.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }
}

/// Settings and parts of a [`Worker`].
#[must_use]
pub struct WorkerBuilder {
    application: String,
    streams: Vec<String>,
    factory: Arc<dyn RecordProcessorFactory>,
    client: Option<Arc<dyn StreamClient>>,
    table: Option<Arc<dyn LeaseTable>>,
    worker_id: Option<String>,
    config: Config,
    quarantine: Option<Arc<dyn Quarantine>>,
    clock: SharedClock,
    random: Option<Randomness>,
    spawner: Option<Spawner>,
    stop_on_signals: bool,
    /// Of the client that `aws` made, if there is one.
    region_of_aws: Option<Option<String>>,
    table_is_named_after_application: bool,
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder").field("application", &self.application).field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    /// Reads one more stream, by name or ARN, in the same worker and lease table.
    pub fn stream(mut self, stream: impl AsRef<str>) -> Self {
        self.streams.push(stream.as_ref().to_owned());
        self
    }

    /// The application's name.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// Streams on Amazon Kinesis and leases in the DynamoDB table named after the application, both as `config` says:
    /// credentials, region, endpoints.
    #[cfg(feature = "aws")]
    pub fn aws(self, config: &aws_types::SdkConfig) -> Self {
        let table = crate::lease::DynamoDbLeaseTable::new(config, self.application.clone());
        let client = Arc::new(crate::stream::aws::AwsStreamClient::new(config));
        let region_of_aws = Some(config.region().map(ToString::to_string));
        Self { region_of_aws, table_is_named_after_application: true, ..self.stream_client(client).lease_table(Arc::new(table)) }
    }

    /// Where records come from. A [`lease_table`](WorkerBuilder::lease_table) is needed with it.
    pub fn stream_client(mut self, client: Arc<dyn StreamClient>) -> Self {
        self.client = Some(client);
        self.region_of_aws = None;
        self
    }

    /// Where leases are kept, shared by all workers of the application. A
    /// [`MemoryLeaseTable`](crate::lease::MemoryLeaseTable) forgets all progress with its process.
    pub fn lease_table(mut self, table: Arc<dyn LeaseTable>) -> Self {
        self.table = Some(table);
        self.table_is_named_after_application = false;
        self
    }

    /// The worker's id, unique among the workers of the application; by default the host name and a random number.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker_id = Some(id.into());
        self
    }

    /// Where a new application starts to read; by default at what is put from now on.
    pub fn initial_position(mut self, position: InitialPosition) -> Self {
        self.config.initial_position = position;
        self
    }

    /// How long a worker may be silent before others take its shards; default 10 s.
    pub fn lease_duration(mut self, duration: Duration) -> Self {
        self.config.lease.lease_duration = duration;
        self
    }

    /// How shards are read: by polling, which is the default, or by enhanced fan-out.
    ///
    /// # Examples
    /// ```
    /// use shardkeeper::retrieval::{Consumer, Retrieval};
    /// # use shardkeeper::{processor::{BoxError, ProcessRecordsInput, RecordProcessor}, local::LocalKinesis, worker::Worker};
    /// # struct Nothing;
    /// # #[async_trait::async_trait]
    /// # impl RecordProcessor for Nothing {
    /// #     async fn process_records(&mut self, _: ProcessRecordsInput<'_>) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kinesis = LocalKinesis::in_memory();
    /// let worker = Worker::builder("shop", "clicks", || Nothing)
    ///     .local(&kinesis)
    ///     .retrieval(Retrieval::FanOut(Consumer::OfApplication))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retrieval(mut self, retrieval: Retrieval) -> Self {
        self.config.retrieval = retrieval;
        self
    }

    /// How the shards of one of the streams are read, where it differs.
    pub fn stream_retrieval(mut self, stream: StreamName, retrieval: Retrieval) -> Self {
        self.config.stream_retrieval.insert(stream, retrieval);
        self
    }

    /// Holds records back for `quarantine` to keep: aggregates that cannot be taken apart, and user records that belong
    /// to another shard; see [`Policy::Quarantine`](kpl::Policy::Quarantine), which this sets.
    pub fn quarantine(mut self, quarantine: impl Quarantine) -> Self {
        self.quarantine = Some(Arc::new(quarantine));
        self.config.deaggregation = Some(kpl::Policy::Quarantine);
        self
    }

    /// Changes any setting.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Source of wall time; for tests.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Source of randomness; for tests.
    pub fn randomness(mut self, random: Randomness) -> Self {
        self.random = Some(random);
        self
    }

    /// Runs everything here, coordination included, instead of giving the coordination a thread of its own; for tests
    /// in virtual time, and for applications that allow no thread. A handler that blocks its thread may then cost leases.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Whether SIGTERM and ctrl-c stop the worker gracefully; yes by default.
    pub fn stop_on_signals(mut self, stop: bool) -> Self {
        self.stop_on_signals = stop;
        self
    }

    /// The application's name, which may have to be that of a DynamoDB table
    /// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html>).
    fn check_application(&self) -> Result<()> {
        let name = &self.application;
        let bad = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.table_is_named_after_application {
            #[cfg(feature = "aws")]
            crate::lease::DynamoDbLeaseTable::check_name(name).map_err(|e| e.context("the lease table is named after the application"))?;
        }
        match name.len() {
            0 => bad("the application name is empty: give it one of 1 to 255 characters, the same for all of its workers".to_owned()),
            1..=255 => Ok(()),
            n => bad(format!("the application name has {n} characters: give it one of 1 to 255")),
        }
    }

    /// A client calls one region, whatever an ARN says.
    fn check_region_of(&self, stream: &StreamReference) -> Result<()> {
        match (stream, &self.region_of_aws) {
            (_, Some(None)) => {
                let message = "no AWS region is set: set AWS_REGION, or the region of the SDK config";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            (StreamReference::Arn(arn), Some(Some(region))) if arn.region() != region => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "stream {stream} is in region {}, and the AWS configuration is for {region}: set AWS_REGION, or the region of the \
                     SDK config, to {}",
                    arn.region(),
                    arn.region()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Checks everything that can be checked without the network.
    ///
    /// # Errors
    /// `InvalidInput`, naming the value and the fix.
    pub fn build(self) -> Result<Worker> {
        self.config.validate()?;
        if self.config.deaggregation == Some(kpl::Policy::Quarantine) && self.quarantine.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "deaggregation is quarantine and nothing keeps what it holds back: call quarantine(..) on the builder",
            ));
        }
        let mut streams: Vec<StreamReference> = Vec::new();
        for text in &self.streams {
            let reference = text.parse::<StreamReference>()?;
            if streams.contains(&reference) {
                return Err(Error::new(ErrorKind::InvalidInput, format!("stream {reference} is named twice: name each stream once")));
            }
            self.check_region_of(&reference)?;
            streams.push(reference);
        }
        self.check_application()?;
        self.config.check_retrieval(&self.application, &streams)?;
        let client = self.client.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "no stream to read from: call aws(&config), local(&kinesis) or stream_client(..) on the builder",
            )
        })?;
        let table = self.table.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "no lease table to keep progress in: call lease_table(..) on the builder, or aws(&config) or local(&kinesis), which bring one",
            )
        })?;
        let random = self.random.unwrap_or_else(Randomness::from_system);
        let worker_id = match self.worker_id {
            Some(id) => WorkerId::new(id)?,
            None => default_worker_id(&random),
        };
        let handle = WorkerHandle::new(worker_id);
        handle.shared.deliveries.set_rate(rate_limit("records_per_second", self.config.records_per_second)?);
        Ok(Worker {
            application: self.application,
            streams,
            factory: self.factory,
            client,
            table,
            config: self.config,
            quarantine: self.quarantine,
            clock: self.clock,
            random,
            spawner: self.spawner,
            stop_on_signals: self.stop_on_signals,
            handle,
        })
    }
}

/// Host name and a random number: readable in the lease table, and never that of another process.
fn default_worker_id(random: &Randomness) -> WorkerId {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(80).collect();
    let host = if host.is_empty() { "worker".to_owned() } else { host };
    WorkerId::new(format!("{host}:{}", random.instance_id())).expect("graphic ASCII, at most 97 characters")
}
