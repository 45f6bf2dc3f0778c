pub struct MemoryLeaseTable;
