//! Counts what the SDK sends, retries included.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_sdk_kinesis::{
    config::{ConfigBag, Intercept, RuntimeComponents},
    error::BoxError,
};
use aws_smithy_runtime_api::client::interceptors::context::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};

/// Attempts and failed attempts by operation, for any number of SDK clients.
#[derive(Debug, Clone, Default)]
pub(super) struct CallCounter(Arc<Mutex<Counts>>);

#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By operation, such as `kinesis.GetRecords`.
    pub(super) calls: BTreeMap<String, u64>,
    /// By operation and error, such as `dynamodb.UpdateItem:400`.
    pub(super) errors: BTreeMap<String, u64>,
}

impl CallCounter {
    /// All counts so far.
    pub(super) fn snapshot(&self) -> Counts {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Kinesis_20131202.GetRecords` is `kinesis.GetRecords`.
fn operation(target: Option<&str>) -> Option<String> {
    let (service, operation) = target?.split_once('.')?;
    let service = service.split('_').next()?.to_ascii_lowercase();
    Some(format!("{service}.{operation}"))
}

impl Intercept for CallCounter {
    fn name(&self) -> &'static str {
        "CallCounter"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(operation) = operation(context.request().headers().get("x-amz-target")) {
            *self.counts().calls.entry(operation).or_default() += 1;
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Err(_)) = context.output_or_error()
            && let Some(operation) = operation(context.request().and_then(|request| request.headers().get("x-amz-target")))
        {
            let what = context.response().map_or_else(|| "no answer".to_owned(), |response| response.status().as_u16().to_string());
            *self.counts().errors.entry(format!("{operation}:{what}")).or_default() += 1;
        }
        Ok(())
    }
}
