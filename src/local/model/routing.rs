//! From a partition key to a hash key, and how hash keys are dealt to shards.

use super::ServiceError;
use crate::types::HashKeyRange;
pub use crate::types::hash_key;

/// Reads the `ExplicitHashKey` of a put.
///
/// # Errors
/// `InvalidArgument` above 2^128-1, `Validation` for what is not a decimal number without leading zeros.
pub fn explicit_hash_key(text: &str) -> Result<u128, ServiceError> {
    decimal(text, "explicitHashKey")?.ok_or_else(|| {
        ServiceError::invalid(format!(
            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
        ))
    })
}

/// Reads the `NewStartingHashKey` of a split.
///
/// # Errors
/// `InvalidArgument` above 2^128-1, `Validation` for what is not a decimal number without leading zeros.
pub fn new_starting_hash_key(text: &str) -> Result<u128, ServiceError> {
    decimal(text, "newStartingHashKey")?
        .ok_or_else(|| ServiceError::invalid(format!("NewStartingHashKey {text} is not in the range [0, 2^128-1].")))
}

/// `None` for a number of the right form and too large.
fn decimal(text: &str, member: &str) -> Result<Option<u128>, ServiceError> {
    let digits = text.as_bytes();
    if text != "0" && (digits.is_empty() || digits.len() > 39 || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit)) {
        return Err(ServiceError::validation(text, member, "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})"));
    }
    Ok(text.parse().ok())
}

/// `count` ranges of equal width that together hold every hash key; the last takes the remainder.
pub(super) fn even_ranges(count: u32) -> Vec<HashKeyRange> {
    let count = u128::from(count);
    // 2^128 does not fit: width is floor(2^128 / count), computed from 2^128 - 1.
    let width = u128::MAX / count + u128::from(u128::MAX % count == count - 1 && count > 1);
    (0..count)
        .map(|i| {
            let start = if i == 0 { 0 } else { width * i };
            let end = if i + 1 == count { u128::MAX } else { width * (i + 1) - 1 };
            HashKeyRange::new(start, end).expect("ranges of a positive width are not empty")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_key_is_the_md5_of_the_partition_key() {
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
        assert_eq!(hash_key(""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
    }

    #[test]
    fn even_ranges_are_those_of_the_service() {
        let ranges = even_ranges(3);
        assert_eq!(ranges[0], HashKeyRange::parse("0", "113427455640312821154458202477256070484").expect("valid"));
        assert_eq!(
            ranges[1],
            HashKeyRange::parse("113427455640312821154458202477256070485", "226854911280625642308916404954512140969").expect("valid")
        );
        assert_eq!(
            ranges[2],
            HashKeyRange::parse("226854911280625642308916404954512140970", "340282366920938463463374607431768211455").expect("valid")
        );
        assert_eq!(even_ranges(1), [HashKeyRange::FULL]);
        assert_eq!(even_ranges(2)[1].start(), 1 << 127);
    }

    #[test]
    fn even_ranges_cover_every_key_once() {
        for count in [1, 2, 3, 5, 7, 64, 1000, 4096] {
            let ranges = even_ranges(count);
            assert_eq!((ranges[0].start(), ranges.last().expect("some").end()), (0, u128::MAX));
            assert!(ranges.windows(2).all(|w| w[0].end() + 1 == w[1].start()), "{count}");
        }
    }

    #[test]
    fn hash_keys_are_read_strictly() {
        assert_eq!(explicit_hash_key("340282366920938463463374607431768211455"), Ok(u128::MAX));
        assert_eq!(explicit_hash_key("0"), Ok(0));
        let too_large = explicit_hash_key("340282366920938463463374607431768211456").expect_err("2^128");
        assert!(too_large.message.contains("[0, 2^128-1]"), "{too_large}");
        for bad in ["", "-1", "01", "1e3", "+7", "1234567890123456789012345678901234567890"] {
            assert!(explicit_hash_key(bad).expect_err(bad).message.contains("regular expression"), "{bad}");
        }
    }
}
