//! For tests of applications, without a stream and in virtual time.
//!
//! - [`ProcessorHarness`] calls a [`RecordProcessor`](crate::processor::RecordProcessor) as a worker would.
//! - [`RecordingProcessor`] notes what a worker called, around a processor of the application or by itself.
//! - [`RecordBuilder`] makes records.

mod harness;
mod record;
mod recording;

pub use harness::ProcessorHarness;
pub use record::{RecordBuilder, record};
pub use recording::{ProcessorCall, ProcessorLog, RecordingProcessor, What};
