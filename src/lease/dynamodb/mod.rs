//! Being built.
pub struct DynamoDbLeaseTable;
