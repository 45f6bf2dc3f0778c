//! Tasks: spawned through a seam, so that a simulation can freeze and crash a whole worker, and supervised, so
//! that no panic is silent.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where tasks run.
pub trait Spawn: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` to its end in the background.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
}

/// A cheap handle to where tasks run.
#[derive(Debug, Clone)]
pub struct Spawner(Arc<dyn Spawn>);

impl Spawner {
    /// Tasks run where `spawn` says.
    #[must_use]
    pub fn new(spawn: impl Spawn) -> Self {
        Self(Arc::new(spawn))
    }

    /// Tasks run on the tokio runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::new(OnHandle(tokio::runtime::Handle::current()))
    }

    /// Tasks run on this runtime.
    #[must_use]
    pub fn on(handle: tokio::runtime::Handle) -> Self {
        Self::new(OnHandle(handle))
    }

    /// Runs `future` in the background. It is cancelled when the returned [`Task`] is dropped.
    pub fn spawn<T: Send + 'static>(&self, name: &'static str, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (sender, result) = oneshot::channel();
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let supervised = async move {
            let run = AssertUnwindSafe(future).catch_unwind();
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                outcome = run => {
                    let outcome = outcome.map_err(|panic| TaskFailed { name, message: panic_message(&*panic) });
                    if let Err(failed) = &outcome {
                        tracing::error!(task = name, panic = %failed.message, "task panicked");
                    }
                    // The receiver is gone when nobody waits for the result.
                    drop(sender.send(outcome));
                }
            }
        };
        self.0.spawn(name, supervised.boxed());
        Task { name, result, guard: Some(guard) }
    }
}

#[derive(Debug)]
struct OnHandle(tokio::runtime::Handle);

impl Spawn for OnHandle {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        drop(self.0.spawn(task));
    }
}

/// A task panicked, or its runtime is gone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {name} failed: {message}")]
pub struct TaskFailed {
    /// Its name.
    pub name: &'static str,
    /// The panic's text, cut to 256 characters.
    pub message: String,
}

/// A running task; cancelled when dropped, see [`Task::detach`].
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    result: oneshot::Receiver<Result<T, TaskFailed>>,
    guard: Option<DropGuard>,
}

impl<T> Task<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// When the task panicked, or its runtime was shut down.
    ///
    /// # Cancel safety
    /// Safe: the result stays until it is taken.
    pub async fn join(&mut self) -> Result<T, TaskFailed> {
        match (&mut self.result).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TaskFailed { name: self.name, message: "its runtime has stopped".to_owned() }),
        }
    }

    /// Lets it run on without anybody waiting.
    pub fn detach(mut self) {
        if let Some(guard) = self.guard.take() {
            drop(guard.disarm());
        }
    }
}

/// The text of a panic, treated as data: cut short.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown panic");
    text.chars().take(256).collect()
}
