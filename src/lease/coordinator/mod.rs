//! Being built.

mod balance;
