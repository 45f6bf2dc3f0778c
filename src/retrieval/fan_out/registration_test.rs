use futures::future::join_all;

use super::*;
use crate::{
    clock::TokioClock,
    local::{self, Config, CreateStream, Delays, Limits, ListStreamConsumers, LocalKinesis},
    stream::StreamReference,
    task::Spawner,
    testing::{Arrival, Call, Fate, FaultyStream, Operation},
    types::Timestamp,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct Setup {
    kinesis: LocalKinesis,
    stream: StreamReference,
    arn: StreamArn,
}

impl Setup {
    fn new() -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
        let delays = Delays { consumer: secs(7), ..Delays::default() };
        let kinesis = LocalKinesis::new(Config { delays, ..Config::default() }, Arc::new(clock), Randomness::seeded(1));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 1)).expect("created");
        let stream: StreamReference = "clicks".parse().expect("valid");
        let arn = kinesis.describe_stream_summary(&stream).expect("created").description.arn;
        Self { kinesis, stream, arn }
    }

    fn by_name(&self, client: Arc<dyn StreamClient>) -> Registration {
        Registration::by_name(client, self.arn.clone(), "shop".parse().expect("valid"), Randomness::seeded(2), RegistrationPace::default())
    }

    fn worker(&self) -> Registration {
        self.by_name(Arc::new(self.kinesis.clone()))
    }

    /// Other applications register their consumers.
    async fn take_places(&self, places: usize) {
        for _ in 0..places {
            let name = format!("other-{}", self.names().len());
            self.kinesis.register_stream_consumer(&self.stream, &name, std::collections::BTreeMap::new()).expect("a place");
            // Five may be in the making.
            tokio::time::sleep(secs(7)).await;
        }
    }

    /// One of them is retired.
    fn free_place(&self, n: usize) {
        let consumer = local::ConsumerReference::Name { stream: self.stream.clone(), name: format!("other-{n}") };
        self.kinesis.deregister_stream_consumer(&consumer).expect("it was there");
    }

    fn names(&self) -> Vec<String> {
        let page = self.kinesis.list_stream_consumers(&ListStreamConsumers::of(self.stream.clone())).expect("the stream is there");
        page.consumers.into_iter().map(|consumer| consumer.name).collect()
    }

    /// A client whose calls are counted by operation, and refused as told.
    fn counted(&self, refuse: impl Fn(&Call) -> Arrival + Send + Sync + 'static) -> (Arc<dyn StreamClient>, Arc<Mutex<Vec<Operation>>>) {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let network = move |call: &Call| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(call.operation);
            Fate { arrival: refuse(call), ..Fate::default() }
        };
        let client = FaultyStream::new(Arc::new(self.kinesis.clone()), Arc::new(network), Spawner::current(), secs(10));
        (Arc::new(client), calls)
    }
}

fn count(calls: &Mutex<Vec<Operation>>, operation: Operation) -> usize {
    calls.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|o| **o == operation).count()
}

#[tokio::test(start_paused = true)]
async fn a_missing_consumer_is_registered_once_by_all_workers_and_shards_together() {
    let setup = Setup::new();
    let workers: Vec<_> = (0..3).map(|_| setup.worker()).collect();
    let started = Instant::now();
    let found = join_all(workers.iter().flat_map(|worker| (0..100).map(|_| worker.arn()))).await;
    let arns: Vec<_> = found.into_iter().map(|arn| arn.expect("registered")).collect();
    assert!(arns.iter().all(|arn| *arn == arns[0]) && arns[0].consumer_name().as_str() == "shop");
    assert!((secs(7)..secs(12)).contains(&started.elapsed()), "it is waited for until it is active: {:?}", started.elapsed());
    assert_eq!(setup.names(), ["shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_that_miss_it_look_once() {
    let setup = Setup::new();
    let (client, calls) = setup.counted(|_| Arrival::Delivered);
    let registration = setup.by_name(client);
    let arn = registration.arn().await.expect("registered");
    let sent = Instant::now();
    let before = count(&calls, Operation::DescribeStreamConsumer);
    for _ in 0..1000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        registration.not_found(&arn, sent);
        assert_eq!(registration.arn().await.expect("it is there"), arn);
    }
    assert_eq!(count(&calls, Operation::DescribeStreamConsumer), before + 1);
    assert_eq!(count(&calls, Operation::RegisterStreamConsumer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_vanished_is_registered_anew_but_not_by_who_knows_its_successor() {
    let setup = Setup::new();
    let registration = setup.worker();
    let first = registration.arn().await.expect("registered");
    registration.deregister().await.expect("it was there");
    tokio::time::sleep(secs(8)).await;
    assert!(setup.names().is_empty());
    registration.deregister().await.expect("gone already is no error");
    let second = registration.arn().await.expect("registered");
    assert_ne!(first, second);
    // A late answer about the first says nothing about the second.
    registration.not_found(&first, Instant::now());
    assert_eq!(registration.state().known.as_ref().map(|(arn, _)| arn.clone()), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_by_arn_is_never_registered() {
    let setup = Setup::new();
    let arn: ConsumerArn = format!("{}/consumer/shop:1795262400", setup.arn).parse().expect("valid");
    let registration = Registration::by_arn(Arc::new(setup.kinesis.clone()), arn, Randomness::seeded(2));
    let error = registration.arn().await.expect_err("nobody registered it");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("shop:1795262400") && error.message().contains("register it"), "{error}");
    assert!(setup.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_is_waited_out() {
    let setup = Setup::new();
    let (client, _calls) = setup.counted(|call| match call.number {
        1 => Arrival::Reset,
        2 => Arrival::Lost,
        3 => Arrival::Refused(ErrorKind::LimitExceeded),
        5 => Arrival::Refused(ErrorKind::ResourceInUse),
        7 => Arrival::Refused(ErrorKind::LimitExceeded),
        _ => Arrival::Delivered,
    });
    setup.by_name(client).arn().await.expect("registered in the end");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_is_asked_again_by_the_next_who_needs_it() {
    let setup = Setup::new();
    let (client, calls) = setup.counted(|call| {
        assert!(call.number > 4, "as told");
        Arrival::Delivered
    });
    let registration = setup.by_name(client);
    for _ in 0..2 {
        let (first, second) = futures::join!(registration.arn(), registration.arn());
        for outcome in [first, second] {
            let error = outcome.expect_err("it panicked");
            assert!(error.is_retryable() && error.message().contains("as told"), "{error}");
        }
    }
    registration.arn().await.expect("registered");
    assert_eq!(count(&calls, Operation::RegisterStreamConsumer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_all_the_consumers_it_may_is_told_so_at_once() {
    let setup = Setup::new();
    setup.take_places(20).await;
    let (client, calls) = setup.counted(|_| Arrival::Delivered);
    let registration = setup.by_name(client);
    let asked = Instant::now();
    let error = registration.arn().await.expect_err("there is no place");
    assert_eq!((error.kind(), asked.elapsed(), count(&calls, Operation::RegisterStreamConsumer)), (ErrorKind::LimitExceeded, secs(0), 1));
    for part in ["shop of stream clicks", "has 20 of the 20", "deregister"] {
        assert!(error.message().contains(part), "{part} is missing: {error}");
    }
    assert!(!registration.may_have_place().await && !registration.was_used());
    // A thousand shards that ask for ten minutes cost little.
    for _ in 0..600 {
        registration.arn().await.expect_err("there is no place");
        tokio::time::sleep(secs(1)).await;
    }
    assert!((10..=20).contains(&count(&calls, Operation::RegisterStreamConsumer)));
    setup.free_place(3);
    tokio::time::sleep(secs(70)).await;
    assert!(registration.may_have_place().await);
    registration.arn().await.expect("a place is free");
    assert!(registration.may_have_place().await && registration.was_used(), "its own");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_may_be_that_of_the_places_is_waited_out_for_half_a_minute() {
    let setup = Setup::new();
    setup.kinesis.configure(|config| config.limits.consumers_per_stream = Some(0));
    let (client, calls) = setup.counted(|call| match call.operation {
        Operation::ListStreamConsumers => Arrival::Refused(ErrorKind::AccessDenied),
        _ => Arrival::Delivered,
    });
    let registration = setup.by_name(client);
    let error = registration.arn().await.expect_err("the account has less");
    assert_eq!((error.kind(), count(&calls, Operation::RegisterStreamConsumer)), (ErrorKind::LimitExceeded, 6));
    assert!(error.message().contains("an unknown number"), "{error}");
    assert!(registration.may_have_place().await, "nobody knows");
    // It is looked for anew when asked again some time later.
    tokio::time::sleep(FULL_LASTS).await;
    setup.kinesis.configure(|config| config.limits.consumers_per_stream = Some(1));
    registration.arn().await.expect("a place is free");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_not_that_of_the_places_is_waited_out() {
    let setup = Setup::new();
    setup.kinesis.configure(|config| config.limits.consumers_in_creation = Some(0));
    let registration = setup.worker();
    let (outcome, ()) = futures::join!(registration.arn(), async {
        tokio::time::sleep(secs(3600)).await;
        assert!(registration.waits_for().is_some());
        setup.kinesis.configure(|config| config.limits.consumers_in_creation = Some(5));
    });
    outcome.expect("the account may make consumers again");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_an_error_that_names_the_consumer() {
    let setup = Setup::new();
    for operation in [Operation::DescribeStreamConsumer, Operation::RegisterStreamConsumer] {
        let (client, _calls) = setup
            .counted(move |call| if call.operation == operation { Arrival::Refused(ErrorKind::AccessDenied) } else { Arrival::Delivered });
        let error = setup.by_name(client).arn().await.expect_err("not allowed");
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert!(error.message().contains("shop of stream clicks"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_met_between_other_refusals_do_not_add_up() {
    let setup = Setup::new();
    // Registering is refused as while the stream is changed, now and then for its rate.
    let (client, calls) = setup.counted(|call| match (call.operation, call.number) {
        (Operation::RegisterStreamConsumer, n) if n < 60 && n % 8 < 2 => Arrival::Refused(ErrorKind::LimitExceeded),
        (Operation::RegisterStreamConsumer, n) if n < 60 => Arrival::Refused(ErrorKind::ResourceInUse),
        _ => Arrival::Delivered,
    });
    setup.by_name(client).arn().await.expect("registered in the end");
    assert!(count(&calls, Operation::RegisterStreamConsumer) > 20);
}

#[tokio::test(start_paused = true)]
async fn who_may_subscribe_and_nothing_else_uses_a_consumer_by_its_arn() {
    let setup = Setup::new();
    let (client, calls) = setup.counted(|call| match call.operation {
        Operation::DescribeStreamConsumer => Arrival::Refused(ErrorKind::AccessDenied),
        _ => Arrival::Delivered,
    });
    let arn: ConsumerArn = format!("{}/consumer/shop:1795262400", setup.arn).parse().expect("valid");
    let registration = Registration::by_arn(client, arn.clone(), Randomness::seeded(2));
    for _ in 0..10 {
        assert_eq!(registration.arn().await.expect("taken as it is"), arn);
    }
    assert_eq!(count(&calls, Operation::DescribeStreamConsumer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_lasts_is_looked_at_now_and_then_for_all_shards() {
    let setup = Setup::new();
    let (client, calls) = setup.counted(|_| Arrival::Refused(ErrorKind::AccessDenied));
    let registration = setup.by_name(client);
    for _ in 0..1000 {
        assert_eq!(registration.arn().await.expect_err("not allowed").kind(), ErrorKind::AccessDenied);
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&calls, Operation::DescribeStreamConsumer), 4, "in twenty seconds");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_stream_consumers_are_registered_one_after_the_other_and_no_refusal_is_taken_for_a_full_stream() {
    let setup = Setup::new();
    let enforced = setup.kinesis.config().limits;
    // Five at a time, each of which takes so long that most calls are refused for it.
    setup.kinesis.configure(|config| (config.limits, config.delays.consumer) = (Limits::off(), secs(20)));
    let (client, calls) = setup.counted(|_| Arrival::Delivered);
    let pace = RegistrationPace::default();
    let mut registrations = Vec::new();
    for n in 0..100 {
        let name = format!("s{n}").parse().expect("valid");
        setup.kinesis.create_stream(&CreateStream::provisioned(name, 1)).expect("created");
        let stream: StreamReference = format!("s{n}").parse().expect("valid");
        let arn = setup.kinesis.describe_stream_summary(&stream).expect("created").description.arn;
        let (name, random) = ("shop".parse().expect("valid"), Randomness::seeded(n));
        registrations.push(Registration::by_name(Arc::clone(&client), arn, name, random, pace.clone()));
    }
    setup.kinesis.configure(|config| config.limits = enforced);
    let start = Instant::now();
    // Shards that are given up stop to wait: what they began rests, and has to go on for others.
    let given_up = registrations.iter().map(|registration| tokio::time::timeout(secs(5), registration.arn()));
    join_all(given_up).await;
    tokio::time::sleep(secs(300)).await;
    for outcome in join_all(registrations.iter().map(Registration::arn)).await {
        outcome.expect("registered");
    }
    let took = start.elapsed();
    assert!(took < secs(300 + 100 / 5 * 30), "{took:?}");
    let registered = count(&calls, Operation::RegisterStreamConsumer);
    assert!(registered as u64 <= took.as_secs(), "{registered} calls in {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_subscribed_to_once_a_second_whoever_asks() {
    let registration = Setup::new().worker();
    let start = Instant::now();
    let turn = async |shard: u64, asked_at: u64| {
        sleep_until(start + Duration::from_millis(asked_at)).await;
        registration.turn(&ShardId::from_index(shard)).await;
        u64::try_from(start.elapsed().as_millis()).expect("seconds")
    };
    let turns = futures::join!(turn(0, 0), turn(0, 0), turn(1, 10), turn(0, 300), turn(0, 9000));
    assert_eq!(turns, (0, 1000, 10, 2000, 9000));
    assert_eq!(registration.0.turns.lock().unwrap_or_else(PoisonError::into_inner).len(), 1, "what is over is forgotten");
}
