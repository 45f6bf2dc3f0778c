//! A consumer framework for Amazon Kinesis Data Streams: what the Kinesis Client Library (KCL) is for Java.
//!
//! Implement [`RecordProcessor`], build a [`Worker`], and [`run`](Worker::run) it on as many machines as you like. The workers
//! of an application share the shards of its stream through leases in a table; each shard is read in order, its children
//! after it, and progress is checkpointed. Records are delivered at least once: planned moves repeat nothing, a crash
//! repeats what came after the last checkpoint.
//!
//! # Quick start
//!
//! On a stream in the process, with the feature `local`. On AWS,
//! `.aws(&aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await)` takes the place of `.local(&kinesis)`, and the
//! streams are there already; the README has that program.
//!
//! ```
//! use std::time::Duration;
//!
//! use shardkeeper::{
//!     BoxError, InitialPosition, ProcessRecordsInput, RecordProcessor, Worker, async_trait,
//!     local::{CreateStream, LocalKinesis, PutEntry},
//! };
//!
//! struct PrintClicks;
//!
//! #[async_trait]
//! impl RecordProcessor for PrintClicks {
//!     async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
//!         for record in input.records {
//!             println!("{} {}", input.shard_id, std::str::from_utf8(record.data())?);
//!         }
//!         // The records are done: the checkpoint may pass them. An error would deliver the batch again.
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let kinesis = LocalKinesis::in_memory();
//!     kinesis.create_stream(&CreateStream::provisioned("clicks".parse()?, 2))?;
//!     kinesis.put_record(&"clicks".parse()?, PutEntry::new("user-7", "hello"), None)?;
//!
//!     let worker = Worker::builder("quick-start", "clicks", || PrintClicks)
//!         .local(&kinesis)
//!         .initial_position(InitialPosition::TrimHorizon) // by default a new application starts at what is put from now on
//!         .build()?;
//!     let handle = worker.handle();
//!     let running = tokio::spawn(worker.run()); // until SIGTERM, ctrl-c or `handle.shutdown()`
//!     while handle.status().shards.iter().all(|shard| shard.records == 0) {
//!         tokio::time::sleep(Duration::from_millis(50)).await;
//!     }
//!     handle.shutdown();
//!     let report = running.await??;
//!     report.check()?; // an error when the worker never got to work, or a shard failed
//!     assert_eq!(report.records, 1);
//!     Ok(())
//! }
//! ```
//!
//! # Modules
//!
//! | Module | For |
//! |---|---|
//! | [`processor`] | what an application implements, as a trait or as streams of shards |
//! | [`worker`] | builder, settings, status, report |
//! | [`checkpoint`] | writing checkpoints by hand |
//! | [`types`] | shard ids, sequence numbers, positions, records |
//! | [`consumer`], [`retrieval`] | settings and status of consuming and polling |
//! | [`stream`] | the stream as a trait, and over the AWS SDK |
//! | [`lease`] | the lease table as a trait; in DynamoDB, in a SQLite file, in memory |
#![cfg_attr(feature = "local", doc = "| [`local`] | a faithful Kinesis stream in the process |")]
#![cfg_attr(feature = "test-util", doc = "| [`testing`] | tests of applications, without a stream and in virtual time |")]
//! | [`clock`], [`random`], [`task`], [`retry`] | the seams through which tests control time, chance and tasks |
//! | [`limits`] | the limits of the service |
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `aws` | yes | streams on Kinesis, leases in DynamoDB, through the AWS SDK |
//! | `sqlite` | | leases in a SQLite file, shared by the processes of one machine |
//! | `local` | | a faithful Kinesis stream in the process, in memory |
//! | `server` | | that stream behind the wire protocol, for any AWS SDK |
//! | `cli` | | the `shardkeeper` command |
//! | `test-util` | | conformance suites for own lease tables and stream clients, controls for tests |

#![warn(unreachable_pub, clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout)]

pub mod checkpoint;
pub mod clock;
pub mod consumer;
mod error;
pub mod lease;
pub mod limits;
#[cfg(feature = "local")]
pub mod local;
pub mod processor;
pub mod random;
pub mod retrieval;
pub mod retry;
mod settings;
mod shards;
pub mod stream;
pub mod task;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod types;
pub mod worker;

pub use async_trait::async_trait;
pub use error::{Error, ErrorKind, Result};
pub use processor::{BoxError, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory};
pub use types::{InitialPosition, Record};
pub use worker::{RunReport, Worker, WorkerBuilder, WorkerHandle};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/configuration.md")]
struct Configuration;
