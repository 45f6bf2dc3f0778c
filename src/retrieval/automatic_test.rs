use tokio::time::Instant;

use super::*;
use crate::{
    clock::TokioClock,
    local::{Config, ConsumerReference, CreateStream, ListStreamConsumers, LocalKinesis},
    retrieval::fan_out::RegistrationPace,
    stream::{StreamClient, StreamReference},
    task::{Spawner, Task},
    testing::{Call, Fate, FaultyStream, Operation},
    types::{StreamArn, Timestamp},
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A stream with places for stream consumers.
struct Setup {
    kinesis: LocalKinesis,
    stream: StreamReference,
    arn: StreamArn,
}

impl Setup {
    fn new() -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
        let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
        kinesis.configure(|config| config.delays.consumer = secs(7));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
        let stream: StreamReference = "clicks".parse().expect("valid");
        let arn = kinesis.describe_stream_summary(&stream).expect("created").description.arn;
        Self { kinesis, stream, arn }
    }

    /// Other applications take all places.
    async fn fill(&self) {
        for n in 0..20 {
            self.kinesis.register_stream_consumer(&self.stream, &format!("other-{n}"), Default::default()).expect("a place");
            tokio::time::sleep(secs(2)).await;
        }
    }

    fn free_place(&self) {
        let other = ConsumerReference::Name { stream: self.stream.clone(), name: "other-7".to_owned() };
        self.kinesis.deregister_stream_consumer(&other).expect("it was there");
    }

    fn has_shop(&self) -> bool {
        let page = self.kinesis.list_stream_consumers(&ListStreamConsumers::of(self.stream.clone())).expect("the stream is there");
        page.consumers.iter().any(|consumer| consumer.name == "shop")
    }

    /// A worker's choice, watched, through a client whose calls are noted.
    fn worker(&self, seed: u64, calls: &Calls) -> (Choice, Task<()>) {
        let (noted, started) = (Arc::clone(calls), Instant::now());
        let network = move |call: &Call| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((call.operation, started.elapsed()));
            Fate::default()
        };
        let client: Arc<dyn StreamClient> =
            Arc::new(FaultyStream::new(Arc::new(self.kinesis.clone()), Arc::new(network), Spawner::current(), secs(10)));
        let random = Randomness::seeded(seed);
        let registration =
            Registration::by_name(client, self.arn.clone(), "shop".parse().expect("valid"), random.clone(), RegistrationPace::default());
        let choice = Choice::new(registration, random);
        let watch = Spawner::current().spawn("watch", choice.clone().watch());
        (choice, watch)
    }
}

type Calls = Arc<Mutex<Vec<(Operation, Duration)>>>;

/// Calls of each second after the first minutes, which belong to the start.
fn busiest_second(calls: &Calls, operation: Operation, from: Duration) -> usize {
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seconds = std::collections::BTreeMap::new();
    for (_, at) in calls.iter().filter(|(of, at)| *of == operation && *at >= from) {
        *seconds.entry(at.as_secs()).or_insert(0) += 1;
    }
    seconds.into_values().max().unwrap_or(0)
}

fn count(calls: &Calls, operation: Operation, from: Duration) -> usize {
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.iter().filter(|(of, at)| *of == operation && *at >= from).count()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_workers_look_again_well_below_the_limits_and_all_find_the_place() {
    let setup = Setup::new();
    setup.fill().await;
    let calls = Calls::default();
    let workers: Vec<_> = (0..100).map(|seed| setup.worker(seed, &calls)).collect();
    tokio::time::sleep(secs(3600)).await;
    assert!(workers.iter().all(|(choice, _)| choice.way() == Way::Polling));
    let settled = secs(120);
    let looks = count(&calls, Operation::ListStreamConsumers, settled);
    assert!((500..900).contains(&looks), "{looks} in an hour: one of each in five to ten minutes");
    assert!(busiest_second(&calls, Operation::ListStreamConsumers, settled) <= 4);
    assert_eq!(count(&calls, Operation::RegisterStreamConsumer, settled), 0, "all places are known to be taken");

    setup.free_place();
    let freed = calls.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, at)| *at).max().expect("there were some");
    tokio::time::sleep(LOOK_AGAIN + secs(15)).await;
    assert!(workers.iter().all(|(choice, _)| choice.way() == Way::FanOut));
    assert!(setup.has_shop());
    // While it is being deleted and made, some try in vain.
    assert!(count(&calls, Operation::RegisterStreamConsumer, freed) <= 10);
    assert!(busiest_second(&calls, Operation::DescribeStreamConsumer, freed) <= 10);
}

#[tokio::test(start_paused = true)]
async fn a_worker_begins_with_the_consumer_that_is_there_and_waits_for_no_other() {
    let setup = Setup::new();
    let begun = async |seed| {
        let (choice, watch) = setup.worker(seed, &Calls::default());
        drop(watch);
        let started = Instant::now();
        choice.begin().await;
        (choice.way(), started.elapsed())
    };
    assert_eq!(begun(1).await, (Way::Polling, secs(0)), "it is registered, and not waited for");
    assert!(setup.has_shop());
    tokio::time::sleep(secs(8)).await;
    assert_eq!(begun(2).await, (Way::FanOut, secs(0)));
}
