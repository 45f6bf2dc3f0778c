//! The ordinary integration tests of the public API, one module per topic, in one binary.

mod aggregates;
mod documents;
mod fan_out_worker;
mod fuzz;
mod layering;
mod lease_tables;
mod local_command;
mod local_server;
mod local_server_fan_out;
mod local_server_faults;
mod local_server_on_demand;
mod reading;
mod rig;
