//! The coordination service: membership, heartbeats, taking, handing over and losing leases.

mod fence;
mod held;

pub(crate) use held::{HeldLease, LeaseHandle, StopRequest};
