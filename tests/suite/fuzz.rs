//! Fuzzing of everything that reads what others wrote: a few seconds with every test run, or as long as one likes.
//!
//! ```text
//! cargo test --test suite fuzz                                      # a few hundred inputs each, always the same
//! FUZZ_SECONDS=600 cargo test --release --test suite fuzz           # ten minutes each
//! FUZZ_SEED=42 cargo test --test suite fuzz::requests               # the seed that a failure names
//! ```
//!
//! Inputs are valid ones with some things wrong. They come from proptest, seeded, so that this runs on stable Rust
//! and a failure is shrunk to the smallest input that shows it.

mod answers;
mod deaggregation;
mod mutation;
mod requests;

use std::time::{Duration, Instant};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

/// Inputs of one seed.
const INPUTS_PER_ROUND: u32 = 100;
/// Rounds when no time is given.
const ROUNDS: u64 = 3;

/// Runs `check` on inputs until the time given by the environment is over. `round` is called before each hundred.
fn fuzz<S: Strategy>(strategy: S, mut round: impl FnMut(), check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let (first, limit) = (number("FUZZ_SEED"), number("FUZZ_SECONDS").map(Duration::from_secs));
    let began = Instant::now();
    for done in 0.. {
        let over = match limit {
            Some(limit) => began.elapsed() >= limit,
            None => done >= if first.is_some() { 1 } else { ROUNDS },
        };
        if over {
            println!("{} inputs, seeds from {}", done * u64::from(INPUTS_PER_ROUND), first.unwrap_or(1));
            break;
        }
        let seed = first.unwrap_or(1) + done;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config { cases: INPUTS_PER_ROUND, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        round();
        match runner.run(&strategy, &check) {
            Ok(()) => {}
            Err(TestError::Fail(why, input)) => panic!("FUZZ_SEED={seed}: {why}: {input:?}"),
            Err(TestError::Abort(why)) => panic!("FUZZ_SEED={seed}: {why}"),
        }
    }
}
