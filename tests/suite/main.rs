//! Tests of the public API, one module per topic.

mod local_server;
