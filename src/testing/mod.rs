//! For tests of applications, without a stream and in virtual time.
