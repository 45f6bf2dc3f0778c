//! One run: its clock, its log, its history and its judges.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    event::{Callback, Ending, Event},
    history::{History, Settings},
    invariants::{self, Invariant},
    log::Log,
};

thread_local! {
    /// Panics of this thread, which runs one seed, that no test asked for.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Marks panics that a handler makes on purpose.
pub(crate) const INJECTED_PANIC: &str = "injected panic";

/// Counts panics per thread, since a panic in a task is seen by nobody else.
pub(crate) fn count_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>().is_some_and(|text| *text == INJECTED_PANIC) {
            return;
        }
        PANICS.with(|panics| panics.set(panics.get() + 1));
        default(info);
    }));
}

/// A broken promise.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) at: Duration,
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:.3} s: {}", self.invariant, self.at.as_secs_f64(), self.what)
    }
}

/// Shared by everything in a run.
pub(crate) struct World {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    log: Log,
    history: History,
    judges: Vec<Box<dyn Invariant>>,
    violations: Vec<Violation>,
    /// Rare states, and how often they were reached.
    probes: BTreeMap<&'static str, u64>,
}

/// What is left of a run.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) lines: Vec<String>,
    pub(crate) probes: BTreeMap<&'static str, u64>,
    pub(crate) elapsed: Duration,
    pub(crate) put: u64,
    pub(crate) delivered: u64,
    pub(crate) repeated: u64,
    pub(crate) takes: u64,
}

impl World {
    pub(crate) fn new(settings: Settings, keep_lines: bool) -> Self {
        PANICS.with(|panics| panics.set(0));
        Self {
            started: Instant::now(),
            state: Mutex::new(State {
                log: Log::new(keep_lines),
                history: History::new(settings),
                judges: invariants::all(),
                violations: Vec::new(),
                probes: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Virtual time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Logs an event, judges it by what was known before, and adds it to what is known.
    pub(crate) fn record(&self, event: &Event) {
        let now = self.now();
        let state = &mut *self.state();
        state.history.now = now;
        state.log.line(now, event);
        for judge in &mut state.judges {
            if let Err(what) = judge.judge(&state.history, event) {
                state.log.line(now, &format_args!("     VIOLATION {}: {what}", judge.name()));
                state.violations.push(Violation { at: now, invariant: judge.name(), what });
            }
        }
        if let Some(probe) = rare(&state.history, event) {
            *state.probes.entry(probe).or_default() += 1;
        }
        state.history.apply(event);
    }

    /// Adds numbers to the log's hash.
    pub(crate) fn note(&self, numbers: &[u64]) {
        let now = self.now();
        let log = &mut self.state().log;
        log.numbers(&[now.as_micros() as u64]);
        log.numbers(numbers);
    }

    /// Counts a rare state that no event shows.
    pub(crate) fn probe(&self, name: &'static str) {
        *self.state().probes.entry(name).or_default() += 1;
    }

    pub(crate) fn violate(&self, invariant: &'static str, what: String) {
        let now = self.now();
        let state = &mut *self.state();
        state.log.line(now, &format_args!("     VIOLATION {invariant}: {what}"));
        state.violations.push(Violation { at: now, invariant, what });
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.state().violations.is_empty()
    }

    /// Looks at what is known.
    pub(crate) fn look<T>(&self, f: impl FnOnce(&History) -> T) -> T {
        let mut state = self.state();
        state.history.now = self.now();
        f(&state.history)
    }

    /// Ends the run.
    pub(crate) fn close(&self) -> Verdict {
        let panics = PANICS.with(Cell::get);
        if panics > 0 {
            self.violate("no_panic", format!("{panics} panics in tasks of the framework"));
        }
        let elapsed = self.now();
        let state = &mut *self.state();
        let history = &state.history;
        Verdict {
            violations: std::mem::take(&mut state.violations),
            hash: state.log.hash(),
            events: state.log.events(),
            lines: state.log.take_lines(),
            probes: std::mem::take(&mut state.probes),
            elapsed,
            put: history.put,
            delivered: history.delivered,
            repeated: history.repeated,
            takes: history.takes,
        }
    }
}

/// What the event reaches that a run should reach now and then: an invariant proves nothing about what never happens.
fn rare(history: &History, event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::WorkerDeleted { node, worker, .. } => {
            let own = history.nodes.get(node).is_some_and(|n| n.worker == *worker);
            if own { "worker signs off" } else { "worker declared dead" }
        }
        Event::LeaseUpdated { from, to, .. } if to.checkpoint.is_shard_end() => match from.parents.len() {
            0 | 1 => "shard ended",
            _ => "merged shard ended",
        },
        Event::LeaseUpdated { from, to, .. } if from.owner != to.owner || from.owner_instance != to.owner_instance => {
            match (from.owner_instance, &to.owner, to.owner_instance) {
                (_, None, _) => "lease released",
                (_, Some(_), None) => "lease handed over",
                (Some(_), Some(_), Some(_)) => "lease taken from the dead",
                (None, Some(_), Some(_)) => "lease taken or accepted",
            }
        }
        Event::LeaseCreated { lease, .. } if lease.owner.is_some() => "child made by its parent's owner",
        Event::LeaseDeleted { .. } => "finished lease deleted",
        Event::CallStarted { call: Callback::LeaseLost, .. } => "processor loses its lease",
        Event::CallEnded { ending: Ending::Panicked, .. } => "handler panics",
        Event::CallEnded { ending: Ending::Failed, .. } => "handler fails",
        Event::CallEnded { ending: Ending::Dropped, .. } => "handler dropped at a deadline",
        Event::CallEnded { by, call: Callback::Process(_), .. } => {
            history.tenure(&by.shard, by.token)?.over?;
            "zombie finishes a batch"
        }
        Event::Exited { result: Err(_), .. } => "worker refuses to run",
        _ => return None,
    })
}
