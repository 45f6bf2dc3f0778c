//! Sequence numbers: decimals of 56 digits today, up to 77 digits here, in a `Copy` value without heap.

use super::text::InvalidText;

/// Position of a record in its shard, such as `49590338271490256608559692538361571095921575989136588898`.
///
/// Ordered as a number. Numbers within one shard grow; between unrelated shards the order means nothing.
/// Values up to 2^256 - 1 are represented exactly (77 digits; the service issues 56).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SequenceNumber {
    high: u128,
    low: u128,
}

/// Digits that fit into 128 bits whatever they are.
const HEAD_DIGITS: usize = 38;
/// Digits taken per step of decimal conversion: 10^18 fits into 64 bits.
const CHUNK_DIGITS: usize = 18;
const CHUNK: u64 = 10u64.pow(CHUNK_DIGITS as u32);

impl SequenceNumber {
    /// Zero, smaller than any number the service issues.
    pub const ZERO: Self = Self { high: 0, low: 0 };
    /// The largest representable number.
    pub const MAX: Self = Self { high: u128::MAX, low: u128::MAX };

    /// The number `high * 2^128 + low`.
    #[must_use]
    pub const fn from_parts(high: u128, low: u128) -> Self {
        Self { high, low }
    }

    /// The number as `(high, low)` with `high * 2^128 + low`.
    #[must_use]
    pub const fn parts(self) -> (u128, u128) {
        (self.high, self.low)
    }

    /// The next number, saturating at [`SequenceNumber::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        match self.low.checked_add(1) {
            Some(low) => Self { high: self.high, low },
            None if self.high == u128::MAX => Self::MAX,
            None => Self { high: self.high + 1, low: 0 },
        }
    }

    /// Reads a decimal number.
    ///
    /// # Errors
    /// For anything but digits without sign, space or leading zero, and for numbers above 2^256 - 1.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        Self::from_digits(text.as_bytes())
    }

    /// As [`SequenceNumber::parse`], of text that is not known to be UTF-8.
    pub(crate) fn from_digits(digits: &[u8]) -> Result<Self, InvalidText> {
        let bad = |reason| InvalidText::new("sequence number", &String::from_utf8_lossy(digits), reason);
        // Without a way out in the middle the compiler looks at many digits at a time; one number is parsed per record.
        if digits.is_empty() || !digits.iter().fold(true, |all, digit| all & digit.is_ascii_digit()) {
            return Err(bad("expected decimal digits only"));
        }
        if digits[0] == b'0' && digits.len() > 1 {
            return Err(bad("it has a leading zero"));
        }
        if digits.len() > 78 {
            return Err(bad("it is larger than 2^256-1"));
        }
        let (head, mut rest) = digits.split_at(digits.len().min(HEAD_DIGITS));
        let head = decimal(head);
        if rest.is_empty() {
            return Ok(Self { high: 0, low: head });
        }
        let mut limbs = [head as u64, (head >> 64) as u64, 0, 0];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rest.len().min(CHUNK_DIGITS));
            let factor = 10u64.pow(chunk.len() as u32);
            let mut carry = decimal(chunk);
            for limb in &mut limbs {
                carry += u128::from(*limb) * u128::from(factor);
                *limb = carry as u64;
                carry >>= 64;
            }
            if carry != 0 {
                return Err(bad("it is larger than 2^256-1"));
            }
            rest = tail;
        }
        let join = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
        Ok(Self { high: join(limbs[2], limbs[3]), low: join(limbs[0], limbs[1]) })
    }
}

/// The value of at most 38 digits.
fn decimal(digits: &[u8]) -> u128 {
    let (eights, rest) = digits.as_chunks::<8>();
    let value = eights.iter().fold(0, |value, eight| value * 100_000_000 + u128::from(eight_digits(*eight)));
    rest.iter().fold(value, |value, digit| value * 10 + u128::from(digit - b'0'))
}

/// The value of eight digits: neighbours are joined to pairs, pairs to fours, fours to eights, all of a kind at a time.
const fn eight_digits(digits: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

impl std::fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut limbs = [self.low as u64, (self.low >> 64) as u64, self.high as u64, (self.high >> 64) as u64];
        // Five chunks of 18 digits hold 90 digits, more than the 78 of 2^256-1.
        let mut chunks = [0u64; 5];
        let mut used = 0;
        while used == 0 || limbs.iter().any(|l| *l != 0) {
            let mut remainder = 0u128;
            for limb in limbs.iter_mut().rev() {
                let value = (remainder << 64) | u128::from(*limb);
                *limb = (value / u128::from(CHUNK)) as u64;
                remainder = value % u128::from(CHUNK);
            }
            chunks[used] = remainder as u64;
            used += 1;
        }
        let mut text = [0u8; 90];
        let mut len = 0;
        for (i, chunk) in chunks[..used].iter().rev().enumerate() {
            let mut digits = [0u8; 20];
            let mut n = 0;
            let mut value = *chunk;
            while value != 0 || n == 0 || (i > 0 && n < CHUNK_DIGITS) {
                digits[n] = b'0' + (value % 10) as u8;
                value /= 10;
                n += 1;
            }
            for d in digits[..n].iter().rev() {
                text[len] = *d;
                len += 1;
            }
        }
        f.pad(std::str::from_utf8(&text[..len]).expect("digits are ASCII"))
    }
}

impl std::fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SequenceNumber {
    type Err = InvalidText;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = InvalidText;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::parse(&s)
    }
}

impl From<SequenceNumber> for String {
    fn from(n: SequenceNumber) -> Self {
        n.to_string()
    }
}

/// A sequence number with the index of a user record inside a KPL aggregate; 0 for plain records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ExtendedSequenceNumber {
    /// Sequence number of the Kinesis record.
    pub sequence_number: SequenceNumber,
    /// Index of the user record inside it, from 0.
    pub sub_sequence_number: u64,
}

impl ExtendedSequenceNumber {
    /// A user record of an aggregate.
    #[must_use]
    pub const fn new(sequence_number: SequenceNumber, sub_sequence_number: u64) -> Self {
        Self { sequence_number, sub_sequence_number }
    }
}

impl From<SequenceNumber> for ExtendedSequenceNumber {
    fn from(sequence_number: SequenceNumber) -> Self {
        Self::new(sequence_number, 0)
    }
}

impl std::fmt::Display for ExtendedSequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.sub_sequence_number {
            0 => write!(f, "{}", self.sequence_number),
            sub => write!(f, "{}/{sub}", self.sequence_number),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_numbers_survive_the_round_trip() {
        let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        for text in ["0", "1", "999999999999999999", "1000000000000000000", "49590338271490256608559692538361571095921575989136588898", max]
        {
            assert_eq!(SequenceNumber::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(SequenceNumber::parse(max), Ok(SequenceNumber::MAX));
    }

    #[test]
    fn what_is_not_a_number_is_refused_by_name() {
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "01",
            "1e3",
            "LATEST",
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
        ] {
            let error = SequenceNumber::parse(text).expect_err(text).to_string();
            assert!(error.contains("sequence number"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn text_and_order_agree(a: (u128, u128), b: (u128, u128)) {
            let (x, y) = (SequenceNumber::from_parts(a.0, a.1), SequenceNumber::from_parts(b.0, b.1));
            let (s, t) = (x.to_string(), y.to_string());
            prop_assert_eq!(SequenceNumber::parse(&s).expect("own text"), x);
            prop_assert_eq!(x.cmp(&y), (s.len(), &s).cmp(&(t.len(), &t)));
        }

        #[test]
        fn next_is_the_smallest_larger_number(high: u128, low: u128) {
            let x = SequenceNumber::from_parts(high, low);
            prop_assert!(x.next() > x || x == SequenceNumber::MAX);
        }
    }
}
