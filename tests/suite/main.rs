//! The ordinary integration tests, in one binary.

mod layering;
mod lease_tables;
