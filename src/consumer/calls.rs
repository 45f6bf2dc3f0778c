//! Calls of user code: whatever it does, only its shard suffers.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;

use super::state::Call;
use crate::{
    processor::{BoxError, RecordProcessor, RecordProcessorFactory},
    task::panic_message,
};

impl Call {
    /// The method's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Process => "process_records",
            Self::ShardEnded => "shard_ended",
        }
    }
}

/// Runs a call; a panic becomes an error.
pub(super) async fn guarded(call: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    // The processor gets the same batch again after a panic, as documented: what it makes of its state is its own.
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(format!("panicked: {}", panic_message(&*panic)).into()),
    }
}

/// Makes a processor; a panic becomes an error.
pub(super) fn create(factory: &dyn RecordProcessorFactory) -> Result<Box<dyn RecordProcessor>, BoxError> {
    std::panic::catch_unwind(AssertUnwindSafe(|| factory.create()))
        .map_err(|panic| format!("the processor factory panicked: {}", panic_message(&*panic)).into())
}

/// An error of user code with its causes, as data: cut to 512 characters.
pub(super) fn describe(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(512).collect()
}
