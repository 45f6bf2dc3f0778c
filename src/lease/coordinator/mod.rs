//! The coordination service: membership, heartbeats, taking, handing over and losing leases.

mod balance;
mod fence;
mod held;
mod liveness;

pub(crate) use held::{HeldLease, LeaseHandle, StopRequest};
