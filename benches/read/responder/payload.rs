//! What is in the records.

use shardkeeper::testing::Aggregator;

/// Of an aggregate, as the Kinesis Producer Library fills them by default.
const AGGREGATE_BYTES: usize = 50 * 1024;

/// Says what is in the records.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Content {
    /// Bytes of a user record.
    pub(crate) size: u32,
    /// Whether a record of the stream is an aggregate of them.
    pub(crate) aggregated: bool,
}

impl Content {
    /// The payload of every record, and how many user records it has.
    pub(crate) fn payload(self) -> (Vec<u8>, u64) {
        let data = noise(self.size as usize);
        if !self.aggregated {
            return (data, 1);
        }
        let (mut aggregator, mut users) = (Aggregator::default(), 0);
        while users == 0 || aggregator.size_bytes() + data.len() <= AGGREGATE_BYTES {
            aggregator.add(&format!("user-{:04}", users % 50), &data);
            users += 1;
        }
        (aggregator.finish().data.to_vec(), users)
    }
}

/// Bytes that do not compress, the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}
