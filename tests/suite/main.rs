//! The ordinary integration tests, in one binary.

mod lease_tables;
