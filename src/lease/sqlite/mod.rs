//! Being built.
pub struct SqliteLeaseTable;
