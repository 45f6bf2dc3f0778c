use std::time::Duration;

use super::*;
use crate::{
    clock::TokioClock,
    local::{Delays, Limits},
    stream::conformance::{CASES, LONG_CASES, Suite},
};

fn kinesis(config: Config) -> LocalKinesis {
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_123));
    LocalKinesis::new(config, Arc::new(clock), Randomness::seeded(7))
}

async fn passes(config: Config) {
    let kinesis = kinesis(config);
    Suite::new(&kinesis, &kinesis, "suite").run(CASES).await;
    Suite::new(&kinesis, &kinesis, "long").run(LONG_CASES).await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_conformance_suite_with_limits() {
    passes(Config::default()).await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_conformance_suite_without_limits() {
    passes(Config { limits: Limits::off(), ..Config::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_conformance_suite_when_changes_take_time() {
    let second = Duration::from_secs(1);
    let delays = Delays { create: second, delete: second, update: second, consumer: second };
    passes(Config { delays, ..Config::default() }).await;
}
