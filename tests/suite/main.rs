//! Tests of the public API, one module per topic.

mod local_command;
mod local_server;
