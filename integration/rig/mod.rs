//! What an experiment with real processes is made of: the local server, workers, load, and the events they write.

mod events;
mod fleet;
mod history;
mod load;
mod process;
mod server;
mod until;
mod worker;

pub(crate) use events::{Event, What};
pub(crate) use fleet::{Fleet, now};
pub(crate) use history::{Batch, History, Tenure};
pub(crate) use load::{Load, LoadPlan, PutRecord};
pub(crate) use process::{Finished, Process, Signal};
pub(crate) use server::Server;
pub(crate) use until::{GENEROUS, until, until_async};
pub(crate) use worker::{LeaseTableKind, WorkerProcess, WorkerSpec, run_as_worker};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;
