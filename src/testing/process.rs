//! A process that a test freezes and kills.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::future::BoxFuture;
use tokio::task::JoinSet;

use crate::{
    random::Randomness,
    task::{Spawn, Spawner},
};

/// The tasks of one worker, as a process that a test can freeze (SIGSTOP, a long garbage collection, a suspended
/// virtual machine) and kill (SIGKILL, a lost host).
///
/// Frozen tasks are not polled: their timers and answers all come late, at once, when they [`resume`](Process::resume).
/// Killed tasks are dropped without a word. Requests on their way live on in the network in both cases.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use shardkeeper::testing::Process;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let process = Process::new();
/// let mut task = process.spawner().spawn("work", tokio::time::sleep(Duration::from_secs(1)));
/// process.freeze();
/// tokio::time::sleep(Duration::from_secs(60)).await;
/// process.resume();
/// assert!(task.join().await.is_ok());
///
/// let mut task = process.spawner().spawn("work", tokio::time::sleep(Duration::from_secs(1)));
/// process.kill();
/// assert!(task.join().await.is_err());
/// # }
/// ```
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    polls: AtomicU64,
    shuffle: Option<(Randomness, f64)>,
}

#[derive(Default)]
struct State {
    freezes: u32,
    killed: bool,
    waiting: Vec<Waker>,
}

impl Process {
    /// A process whose tasks run in the order in which they are woken.
    #[must_use]
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A process that now and then, with this probability, lets a task that is ready wait for its next turn, so that
    /// seeds explore different orders of events that happen at the same time.
    #[must_use]
    pub fn shuffled(randomness: Randomness, probability: f64) -> Self {
        Self::with(Some((randomness, probability)))
    }

    fn with(shuffle: Option<(Randomness, f64)>) -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), tasks: Mutex::default(), polls: AtomicU64::new(0), shuffle }))
    }

    /// Where the process runs its tasks.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner::new(self.clone())
    }

    /// Stops polling its tasks until as many calls of [`Process::resume`] have followed.
    pub fn freeze(&self) {
        self.state(|state| state.freezes += 1);
    }

    /// Takes one freeze back.
    pub fn resume(&self) {
        let waiting = self.state(|state| {
            state.freezes = state.freezes.saturating_sub(1);
            if state.freezes == 0 { std::mem::take(&mut state.waiting) } else { Vec::new() }
        });
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Drops all of its tasks, and whatever it spawns later.
    pub fn kill(&self) {
        let waiting = self.state(|state| {
            state.killed = true;
            std::mem::take(&mut state.waiting)
        });
        drop(waiting);
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        // Dropped outside the lock: what a task drops may spawn.
        drop(tasks);
    }

    /// Whether it has been killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.state(|state| state.killed)
    }

    /// Whether it is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.state(|state| state.freezes > 0)
    }

    /// Tasks it runs now.
    #[must_use]
    pub fn task_count(&self) -> usize {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }

    /// How often its tasks have been polled: what it costs.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.0.polls.load(Ordering::Relaxed)
    }

    fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (killed, frozen) = (self.is_killed(), self.is_frozen());
        f.debug_struct("Process").field("killed", &killed).field("frozen", &frozen).finish_non_exhaustive()
    }
}

impl Spawn for Process {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        if self.is_killed() {
            return;
        }
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        drop(tasks.spawn(Gate { process: self.clone(), task }));
    }
}

/// What stands between a task and the runtime.
struct Gate {
    process: Process,
    task: BoxFuture<'static, ()>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let held_back = self.process.state(|state| {
            if state.killed {
                return true;
            }
            if state.freezes > 0 {
                state.waiting.push(cx.waker().clone());
                return true;
            }
            false
        });
        if held_back {
            return Poll::Pending;
        }
        if let Some((randomness, probability)) = &self.process.0.shuffle
            && randomness.in_range(0..1_000_000) < (probability * 1e6) as u64
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.process.0.polls.fetch_add(1, Ordering::Relaxed);
        self.task.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_task_sees_its_timers_late_and_a_killed_one_never() {
        let process = Process::new();
        let start = Instant::now();
        let mut late = process.spawner().spawn("late", async move {
            sleep(Duration::from_secs(1)).await;
            start.elapsed()
        });
        // It sets its timer before the process freezes.
        sleep(Duration::from_millis(1)).await;
        process.freeze();
        process.freeze();
        sleep(Duration::from_millis(4_999)).await;
        process.resume();
        sleep(Duration::from_secs(5)).await;
        assert!(process.is_frozen());
        process.resume();
        assert_eq!(late.join().await.expect("not killed"), Duration::from_secs(10));

        let mut never = process.spawner().spawn("never", sleep(Duration::from_secs(1)));
        process.kill();
        assert!(never.join().await.is_err());
        assert!(process.spawner().spawn("after", async {}).join().await.is_err(), "nothing starts in a dead process");
        assert_eq!(process.task_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shuffled_process_runs_everything_in_an_order_that_its_seed_chooses() {
        let order = |seed: u64| async move {
            let process = Process::shuffled(Randomness::seeded(seed), 0.5);
            let seen = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for i in 0..8 {
                let seen = Arc::clone(&seen);
                tasks.push(process.spawner().spawn("count", async move { seen.lock().expect("not poisoned").push(i) }));
            }
            for task in &mut tasks {
                task.join().await.expect("not killed");
            }
            seen.lock().expect("not poisoned").clone()
        };
        let (a, b, c) = (order(1).await, order(1).await, order(2).await);
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(a.len(), 8);
    }
}
