//! Sequence numbers: each record has one as a text of 56 digits.

use divan::{Bencher, black_box, counter::ItemsCount};
use shardkeeper::types::SequenceNumber;

const TEXT: &str = "49680412997200683271403400000000001200000000000000012345";

#[divan::bench]
fn parse() -> SequenceNumber {
    SequenceNumber::parse(black_box(TEXT)).expect("a number")
}

#[divan::bench]
fn format(bencher: Bencher<'_, '_>) {
    let number = SequenceNumber::parse(TEXT).expect("a number");
    bencher.bench(|| black_box(number).to_string());
}

#[divan::bench]
fn order_10_000(bencher: Bencher<'_, '_>) {
    let numbers: Vec<SequenceNumber> = (0..10_000_u128).map(|i| SequenceNumber::from_parts(i * 7919 % 10, i * 7907 % 10_000)).collect();
    bencher.counter(ItemsCount::new(numbers.len())).with_inputs(|| numbers.clone()).bench_values(|mut numbers| {
        numbers.sort_unstable();
        numbers
    });
}
