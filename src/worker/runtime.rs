//! The coordination thread: a runtime of its own, so that handlers that block cost no lease.

use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, ErrorKind, Result},
    task::Spawner,
};

/// A thread that runs coordination tasks until it is dropped.
#[derive(Debug)]
pub(super) struct CoordinationThread {
    _stop: DropGuard,
}

impl CoordinationThread {
    /// Starts the thread, and says where its tasks run.
    pub(super) async fn start() -> Result<(Self, Spawner)> {
        let failed = |source: std::io::Error| Error::new(ErrorKind::Internal, "cannot start the coordination thread").with_source(source);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (sender, handle) = oneshot::channel();
        let thread = std::thread::Builder::new().name("shardkeeper-coordination".to_owned());
        thread
            .spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    drop(sender.send(Ok(runtime.handle().clone())));
                    runtime.block_on(stopped.cancelled());
                    // Calls under way are not waited for: whoever dropped the thread is done with them.
                    runtime.shutdown_background();
                }
                Err(error) => drop(sender.send(Err(error))),
            })
            .map_err(failed)?;
        match handle.await {
            Ok(Ok(handle)) => Ok((Self { _stop: stop.drop_guard() }, Spawner::on(handle))),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the coordination thread ended as it started")),
        }
    }
}
