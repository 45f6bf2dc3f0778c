//! The digests of several aggregates at once.
//!
//! Each step of MD5 waits for the one before, so that a processor is idle for most of it, and of all that an aggregate
//! costs, its digest costs three quarters. The digests of four messages have nothing to do with each other: computed side by side,
//! in vectors that every processor has, four take about as long as one and a half alone. Written here, because the library
//! takes one message at a time, and what takes more is new and without users; the tests compare with the library.

use bytes::Bytes;

use super::MAGIC;
use crate::types::Record;

/// Aggregates whose digests are computed together: what a vector of 128 bits holds.
const LANES: usize = 4;
const BLOCK_BYTES: usize = 64;
/// Length of the digest at the end of an aggregate.
pub(super) const DIGEST_BYTES: usize = 16;

/// What an aggregate's digest is of, and the digest; `None` for what does not begin as one or is too short to be one.
pub(super) fn sealed(record: &Bytes) -> Option<(&[u8], &[u8; DIGEST_BYTES])> {
    let (message, digest) = record.strip_prefix(&MAGIC)?.split_last_chunk()?;
    (!message.is_empty()).then_some((message, digest))
}

/// Compares the digests of the records of a page, some records ahead.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    /// Whether the digests of the next records are right, the next one first; false for records that have none.
    known: [bool; LANES],
    left: usize,
}

impl Seals {
    /// Whether the digest of `record` is right. To be asked of all records of a page in their order; `following` are those
    /// behind it.
    pub(crate) fn is_right(&mut self, record: &Record, following: &[Record]) -> bool {
        if self.left == 0 {
            self.look_ahead(record, following);
        }
        let right = self.known[0];
        self.known.rotate_left(1);
        self.left -= 1;
        right
    }

    fn look_ahead(&mut self, record: &Record, following: &[Record]) {
        let mut parts = [None; LANES];
        for (part, record) in parts.iter_mut().zip(std::iter::once(record).chain(following)) {
            *part = sealed(record.data());
        }
        let digests = digests(parts.map(|part| part.map_or(&[][..], |(message, _)| message)));
        for ((known, part), digest) in self.known.iter_mut().zip(parts).zip(digests) {
            *known = part.is_some_and(|(_, expected)| digest == *expected);
        }
        self.left = LANES.min(1 + following.len());
    }
}

/// A word of each message.
type Words<const N: usize> = [u32; N];

/// The state of `N` digests.
#[derive(Clone, Copy)]
struct State<const N: usize>([Words<N>; 4]);

/// The MD5 digests of the messages. Empty messages are left out, and have that of nothing.
fn digests(messages: [&[u8]; LANES]) -> [[u8; DIGEST_BYTES]; LANES] {
    let lengths = messages.map(<[u8]>::len).into_iter().filter(|length| *length > 0);
    // One message alone is faster without the vectors.
    let common = if lengths.clone().count() < 2 { 0 } else { lengths.min().unwrap_or(0) / BLOCK_BYTES };
    // A lane that is left out computes what another does, and throws it away.
    let stand_in = messages.into_iter().find(|message| !message.is_empty()).unwrap_or_default();
    let lanes = messages.map(|message| if message.is_empty() { stand_in } else { message });
    let mut together = State::<LANES>::new();
    for block in 0..common {
        together.add(lanes.map(|lane| block_of(lane, block)));
    }
    std::array::from_fn(|lane| match messages[lane] {
        [] => State::<1>::new().finish(&[], 0),
        message => State(together.0.map(|word| [word[lane]])).finish(message, common),
    })
}

fn block_of(message: &[u8], index: usize) -> &[u8; BLOCK_BYTES] {
    message[index * BLOCK_BYTES..].first_chunk().expect("whole blocks only")
}

impl State<1> {
    /// Adds the rest of a message, of which `done` blocks were added, and what closes it.
    fn finish(mut self, message: &[u8], done: usize) -> [u8; DIGEST_BYTES] {
        let (blocks, rest) = message[done * BLOCK_BYTES..].as_chunks::<BLOCK_BYTES>();
        for block in blocks {
            self.add([block]);
        }
        let mut end = [0; 2 * BLOCK_BYTES];
        end[..rest.len()].copy_from_slice(rest);
        end[rest.len()] = 0x80;
        // The length in bits has the last eight bytes of a block.
        let end = if rest.len() < BLOCK_BYTES - 8 { &mut end[..BLOCK_BYTES] } else { &mut end[..] };
        let length_at = end.len() - 8;
        end[length_at..].copy_from_slice(&(message.len() as u64).wrapping_mul(8).to_le_bytes());
        for block in end.as_chunks::<BLOCK_BYTES>().0 {
            self.add([block]);
        }
        let mut digest = [0; DIGEST_BYTES];
        for (bytes, [word]) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}

/// Four steps of a round (RFC 1321, section 3.4), each with the words in their next roles.
macro_rules! four_steps {
    ($round:literal, $step:expr, [$a:ident, $b:ident, $c:ident, $d:ident], $words:ident, $word:expr) => {
        let at = |step: usize| -> usize { $word(step) % 16 };
        $a = step::<$round, N>([$a, $b, $c, $d], &$words[at($step)], SINES[16 * $round + $step], TURNS[$round][0]);
        $d = step::<$round, N>([$d, $a, $b, $c], &$words[at($step + 1)], SINES[16 * $round + $step + 1], TURNS[$round][1]);
        $c = step::<$round, N>([$c, $d, $a, $b], &$words[at($step + 2)], SINES[16 * $round + $step + 2], TURNS[$round][2]);
        $b = step::<$round, N>([$b, $c, $d, $a], &$words[at($step + 3)], SINES[16 * $round + $step + 3], TURNS[$round][3]);
    };
}

/// The sixteen steps of a round; `$word` says which word of the block a step adds.
macro_rules! round {
    ($round:literal, $state:tt, $words:ident, $word:expr) => {
        four_steps!($round, 0, $state, $words, $word);
        four_steps!($round, 4, $state, $words, $word);
        four_steps!($round, 8, $state, $words, $word);
        four_steps!($round, 12, $state, $words, $word);
    };
}

impl<const N: usize> State<N> {
    const fn new() -> Self {
        Self([[0x6745_2301; N], [0xefcd_ab89; N], [0x98ba_dcfe; N], [0x1032_5476; N]])
    }

    /// Adds a block of each message.
    fn add(&mut self, blocks: [&[u8; BLOCK_BYTES]; N]) {
        let mut words = [[0; N]; 16];
        for (lane, block) in blocks.into_iter().enumerate() {
            for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        let [mut a, mut b, mut c, mut d] = self.0;
        round!(0, [a, b, c, d], words, |step| step);
        round!(1, [a, b, c, d], words, |step| 5 * step + 1);
        round!(2, [a, b, c, d], words, |step| 3 * step + 5);
        round!(3, [a, b, c, d], words, |step| 7 * step);
        for (sum, part) in self.0.iter_mut().flatten().zip([a, b, c, d].into_iter().flatten()) {
            *sum = sum.wrapping_add(part);
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "a call per step would cost more than the step")]
fn step<const ROUND: usize, const N: usize>([a, b, c, d]: [Words<N>; 4], word: &Words<N>, sine: u32, turn: u32) -> Words<N> {
    let mut sum = [0; N];
    for lane in 0..N {
        let (b, c, d) = (b[lane], c[lane], d[lane]);
        let mixed = match ROUND {
            0 => d ^ (b & (c ^ d)),
            1 => c ^ (d & (b ^ c)),
            2 => b ^ c ^ d,
            _ => c ^ (b | !d),
        };
        sum[lane] = a[lane].wrapping_add(mixed).wrapping_add(word[lane]).wrapping_add(sine).rotate_left(turn).wrapping_add(b);
    }
    sum
}

/// By how many bits the steps of each round turn their sum, again and again.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// 2^32 times the sine of 1, 2, 3, ... in radians, without sign and fraction.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Aggregator, RecordBuilder};

    #[test]
    fn the_sines_are_sines() {
        for (n, sine) in (1_u32..).zip(SINES) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the RFC defines it")]
            let expected = (f64::from(n).sin().abs() * 4_294_967_296.0) as u32;
            assert_eq!(sine, expected, "{n}");
        }
    }

    /// Around the ends of blocks, and of any length.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![Just(0), 50_usize..70, 110_usize..140, 0_usize..1000];
        length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
    }

    proptest! {
        #[test]
        fn four_digests_are_what_the_library_says_of_each(messages in prop::array::uniform4(message())) {
            let together = digests([&messages[0], &messages[1], &messages[2], &messages[3]]);
            for (digest, message) in together.iter().zip(&messages) {
                prop_assert_eq!(*digest, <[u8; DIGEST_BYTES]>::from(Md5::digest(message)));
            }
        }

        #[test]
        fn each_record_of_a_page_gets_its_own_verdict(kinds in prop::collection::vec(0..4_u8, 1..20)) {
            let page: Vec<Record> = (1_u128..).zip(&kinds).map(|(n, kind)| {
                let mut aggregator = Aggregator::default();
                (0..n).for_each(|_| aggregator.add("key", "payload"));
                let mut data = aggregator.finish().data.to_vec();
                match kind {
                    // Sound, damaged, plain, too short.
                    0 => {}
                    1 => data[10] ^= 1,
                    2 => data = b"plain".to_vec(),
                    _ => data.truncate(MAGIC.len() + DIGEST_BYTES),
                }
                RecordBuilder::new(n).data(data).build()
            }).collect();
            let mut seals = Seals::default();
            for (at, record) in page.iter().enumerate() {
                prop_assert_eq!(seals.is_right(record, &page[at + 1..]), kinds[at] == 0);
            }
        }
    }
}
