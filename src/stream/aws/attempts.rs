//! What is known of the attempts of one client: where they went, and over which connections.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connection::CaptureSmithyConnection,
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// How many attempts are remembered. Over HTTP/2 they share a connection; a dead one of HTTP/1.1 ends with its call.
const REMEMBERED: usize = 16;

/// An interceptor of all calls of a client. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    endpoint: String,
    lately: VecDeque<CaptureSmithyConnection>,
}

impl Attempts {
    /// Where the last one went, as in `https://kinesis.eu-central-1.amazonaws.com`; `None` before the first was sent.
    pub(super) fn endpoint(&self) -> Option<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!inner.endpoint.is_empty()).then(|| inner.endpoint.clone())
    }

    /// Sees to it that no call to come gets a connection of the last attempts. Their own calls go on; HTTP clients that do
    /// not tell their connections keep them.
    pub(super) fn give_up_connections(&self) {
        let lately = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).lately);
        for connection in lately.iter().filter_map(CaptureSmithyConnection::get) {
            connection.poison();
        }
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").finish_non_exhaustive()
    }
}

#[dyn_dispatch_hint]
impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "ShardkeeperAttempts"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri();
        let end = uri.match_indices('/').nth(2).map_or(uri.len(), |(at, _)| at);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.endpoint != uri[..end] {
            uri[..end].clone_into(&mut inner.endpoint);
        }
        // The SDK's own interceptor has put it there, which gives up connections after answers that say so.
        if let Some(connection) = config.load::<CaptureSmithyConnection>() {
            if inner.lately.len() == REMEMBERED {
                inner.lately.pop_front();
            }
            inner.lately.push_back(connection.clone());
        }
        Ok(())
    }
}
