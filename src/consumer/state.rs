//! What a shard consumer does next. Pure: [`State`] and [`Event`] in, next state and [`Action`] out.
//!
//! ```text
//! WaitingForParents ─▶ Gate(Initialize) ─▶ Running(Initialize) ─▶ Reading ◀──────────────┐
//!                                                                  │ batch               │ Ok
//!            ┌── Backoff(call) ◀── failed ──┐                      ├──▶ Gate(Process) ─▶ Running(Process)
//!            └──▶ Gate(call) ─▶ Running(call) ── exhausted ─▶ Parked(call)
//!                                                                  │ end of shard
//!                                                                  └──▶ Gate(ShardEnded) ─▶ Running(ShardEnded) ─▶ WritingEnd ─▶ Done
//!
//! takes too long:  Running ─▶ Surrendering ─▶ Losing ─▶ Done                  (where calls have a time limit)
//! stop requested:  Running(call) ─▶ Draining(call) ─▶ ShutdownGate ─▶ ShuttingDown ─▶ Surrendering ─▶ Done
//!                  elsewhere ───────────────────────▶ ShutdownGate ...         (nothing called yet: Surrendering at once)
//! lease lost:      Running, Draining ─▶ Abandoning ─▶ Losing ─▶ Done
//!                  elsewhere ───────────────────────▶ Losing ─▶ Done           (nothing called yet: Done at once)
//! ```
//!
//! A *gate* holds until the fence allows user code to be called. Calls under way are not cut short by a lapsed fence,
//! only told. Of `shard_ended`, `shutdown_requested` and `lease_lost`, a processor sees the one that ends it; only a
//! `shard_ended` that failed is followed by `lease_lost`. A processor that could not be asked to shut down, because
//! its call had to be dropped, is told so by `lease_lost` once the lease is surrendered.

/// A call of user code that may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Initialize,
    Process,
    ShardEnded,
}

/// Where a shard consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    WaitingForParents,
    /// Before a call; `again` when it has failed before.
    Gate {
        call: Call,
        again: bool,
    },
    Running(Call),
    /// Waiting to repeat a failed call.
    Backoff(Call),
    /// Waiting for a batch, or the end of the shard.
    Reading,
    /// A call failed for good. The lease is kept, so that no other worker runs into the same record.
    Parked(Call),
    /// Asked to stop while a call runs.
    Draining(Call),
    /// Before `shutdown_requested`.
    ShutdownGate,
    /// In `shutdown_requested`.
    ShuttingDown,
    /// Writing the last checkpoint and the next owner; `told` when no `lease_lost` is due any more.
    Surrendering {
        told: bool,
    },
    /// Writing the end of the shard.
    WritingEnd,
    /// The lease is lost while a call runs; `told` when no `lease_lost` is due any more.
    Abandoning {
        told: bool,
    },
    /// The lease is lost in `shard_ended`, which is the last call if it succeeds.
    AbandoningEnd,
    /// In `lease_lost`; the tenure ends so.
    Losing(Ending),
    Done,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    ParentsFinished,
    /// The fence allows user code to be called.
    Ready,
    /// The call under way returned `Ok`.
    Succeeded,
    /// It failed or panicked, and may be tried again.
    Failed,
    /// It failed or panicked, and the attempts are used up.
    Exhausted,
    /// The wait after a failure is over.
    RetryDue,
    BatchReady,
    EndOfShard,
    StopRequested,
    /// The time for draining, for a call, or for one whose lease is lost, is over.
    DeadlinePassed,
    LeaseLost,
    /// The end of the shard, or the last checkpoint, is written.
    Written,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    AwaitParents,
    AwaitFence,
    Call(Call),
    AwaitRetry,
    Fetch,
    Park,
    /// Let the call under way go on, until the deadline.
    KeepWaiting,
    CallShutdownRequested,
    Surrender,
    WriteEnd,
    CallLeaseLost,
    Finish(Ending),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Surrendered,
    Ended,
    Lost,
}

impl State {
    /// The step that an event leads to; `None` when it means nothing in this state.
    pub(super) const fn on(self, event: Event) -> Option<(Self, Action)> {
        Some(match (self, event) {
            (Self::WaitingForParents, Event::ParentsFinished) => gate(Call::Initialize, false),
            (Self::WaitingForParents, Event::StopRequested) => surrender(true),
            (Self::WaitingForParents, Event::LeaseLost) => finish(Ending::Lost),

            (Self::Gate { call, .. }, Event::Ready) => (Self::Running(call), Action::Call(call)),
            (Self::Gate { call: Call::Initialize, again: false }, Event::StopRequested) => surrender(true),
            (Self::Gate { call: Call::Initialize, again: false }, Event::LeaseLost) => finish(Ending::Lost),
            (Self::Gate { call: Call::ShardEnded, again: false }, Event::StopRequested) => shut_down(),
            (Self::Gate { call, .. }, Event::StopRequested) => stop_after(call),
            (Self::Gate { .. }, Event::LeaseLost) => lose(),

            (Self::Running(Call::Initialize | Call::Process), Event::Succeeded) => (Self::Reading, Action::Fetch),
            (Self::Running(Call::ShardEnded) | Self::Draining(Call::ShardEnded), Event::Succeeded) => (Self::WritingEnd, Action::WriteEnd),
            (Self::Running(call), Event::Failed) => (Self::Backoff(call), Action::AwaitRetry),
            (Self::Running(call), Event::Exhausted) => (Self::Parked(call), Action::Park),
            (Self::Running(call), Event::StopRequested) => (Self::Draining(call), Action::KeepWaiting),
            (Self::Running(Call::ShardEnded) | Self::Draining(Call::ShardEnded), Event::LeaseLost) => {
                (Self::AbandoningEnd, Action::KeepWaiting)
            }
            (Self::Running(_) | Self::Draining(_), Event::LeaseLost) => (Self::Abandoning { told: false }, Action::KeepWaiting),

            (Self::Draining(call), Event::Succeeded | Event::Failed | Event::Exhausted) => stop_after(call),
            (Self::Running(_) | Self::Draining(_) | Self::ShutdownGate, Event::DeadlinePassed) => surrender(false),

            (Self::Backoff(call), Event::RetryDue) => gate(call, true),
            (Self::Backoff(call) | Self::Parked(call), Event::StopRequested) => stop_after(call),
            (Self::Backoff(_) | Self::Parked(_) | Self::Reading | Self::ShutdownGate, Event::LeaseLost) => lose(),

            (Self::Reading, Event::BatchReady) => gate(Call::Process, false),
            (Self::Reading, Event::EndOfShard) => gate(Call::ShardEnded, false),
            (Self::Reading, Event::StopRequested) => shut_down(),

            (Self::ShutdownGate, Event::Ready) => (Self::ShuttingDown, Action::CallShutdownRequested),

            (Self::ShuttingDown, Event::Succeeded | Event::Failed | Event::Exhausted | Event::DeadlinePassed) => surrender(true),
            (Self::ShuttingDown, Event::LeaseLost) => (Self::Abandoning { told: true }, Action::KeepWaiting),

            (Self::WritingEnd, Event::Written) => finish(Ending::Ended),
            (Self::WritingEnd, Event::StopRequested) => (Self::WritingEnd, Action::KeepWaiting),
            (Self::WritingEnd, Event::DeadlinePassed) => surrender(true),
            (Self::WritingEnd | Self::Surrendering { told: true }, Event::LeaseLost) => finish(Ending::Lost),
            (Self::Surrendering { told: true }, Event::Written) => finish(Ending::Surrendered),
            (Self::Surrendering { told: false }, Event::LeaseLost) => lose(),
            (Self::Surrendering { told: false }, Event::Written) => (Self::Losing(Ending::Surrendered), Action::CallLeaseLost),

            (Self::AbandoningEnd, Event::Succeeded) => finish(Ending::Lost),
            (Self::AbandoningEnd, Event::Failed | Event::Exhausted | Event::DeadlinePassed) => lose(),
            (Self::Abandoning { told }, Event::Succeeded | Event::Failed | Event::Exhausted | Event::DeadlinePassed) => {
                if told {
                    finish(Ending::Lost)
                } else {
                    lose()
                }
            }
            (Self::Losing(ending), Event::Succeeded | Event::Failed | Event::Exhausted | Event::DeadlinePassed) => finish(ending),

            _ => return None,
        })
    }
}

const fn gate(call: Call, again: bool) -> (State, Action) {
    (State::Gate { call, again }, Action::AwaitFence)
}

/// A stop after the call has run at least once, or was due.
const fn stop_after(call: Call) -> (State, Action) {
    match call {
        Call::Initialize | Call::Process => shut_down(),
        // It was told of the end of the shard; to ask it to flush once more would contradict that.
        Call::ShardEnded => surrender(false),
    }
}

const fn shut_down() -> (State, Action) {
    (State::ShutdownGate, Action::AwaitFence)
}

const fn surrender(told: bool) -> (State, Action) {
    (State::Surrendering { told }, Action::Surrender)
}

const fn lose() -> (State, Action) {
    (State::Losing(Ending::Lost), Action::CallLeaseLost)
}

const fn finish(ending: Ending) -> (State, Action) {
    (State::Done, Action::Finish(ending))
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
