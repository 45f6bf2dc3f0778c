//! How each stream of a worker is read, settled when it starts.

use std::{sync::Arc, time::Duration};

use super::streams::KnownStream;
use crate::{
    error::Result,
    random::Randomness,
    retrieval::{
        Access, Choice, Consumer, Retrieval,
        fan_out::{Registration, RegistrationPace},
    },
    stream::StreamClient,
    types::ConsumerName,
};

/// How long a worker waits at its start for a stream consumer that is to be used in any case. What is wrong for good is known
/// by then, and is told at once; to make one can take longer, which its shards wait for.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// How to read this stream.
///
/// # Errors
/// What keeps a stream consumer from being used that is to be used in any case, and will not go away by itself: told at once and
/// by name.
pub(super) async fn resolve(
    client: &Arc<dyn StreamClient>,
    stream: &KnownStream,
    application: &str,
    retrieval: &Retrieval,
    random: &Randomness,
    pace: &RegistrationPace,
) -> Result<Access> {
    let by_name = |name| Registration::by_name(Arc::clone(client), stream.arn.clone(), name, random.clone(), pace.clone());
    let registration = match retrieval {
        Retrieval::Polling => return Ok(Access::Polling),
        Retrieval::FanOut(Consumer::Arn(arn)) => Registration::by_arn(Arc::clone(client), arn.clone(), random.clone()),
        Retrieval::FanOut(Consumer::Name(name)) => by_name(name.clone()),
        Retrieval::FanOut(Consumer::OfApplication) => by_name(ConsumerName::new(application)?),
        Retrieval::Automatic => {
            let name = match ConsumerName::new(application) {
                Ok(name) => name,
                Err(error) => {
                    tracing::warn!(stream = %stream.reference, %error, "no enhanced fan-out: the stream is polled");
                    return Ok(Access::Polling);
                }
            };
            let choice = Choice::new(by_name(name), random.clone());
            choice.begin().await;
            return Ok(Access::Automatic(choice));
        }
    };
    match tokio::time::timeout(START_PATIENCE, registration.arn()).await {
        Err(_) => {
            tracing::info!(stream = %stream.reference, consumer = %registration, "the stream consumer is not active yet; the shards wait for it");
        }
        Ok(Ok(consumer)) => tracing::info!(stream = %stream.reference, %consumer, "the stream is read by enhanced fan-out"),
        // Shards subscribe as soon as it is there, and their status says what they wait for.
        Ok(Err(error)) if error.is_retryable() => {
            tracing::warn!(stream = %stream.reference, error = format!("{error:#}"), "the stream consumer cannot be used yet");
        }
        Ok(Err(error)) => return Err(error.context(format!("cannot read stream {} by enhanced fan-out", stream.reference))),
    }
    Ok(Access::FanOut(registration))
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ErrorKind,
        clock::TokioClock,
        lease::MemoryLeaseTable,
        local::{Config, CreateStream, Limits, ListStreamConsumers, LocalKinesis, PutEntry},
        processor::RecordProcessorFactory,
        stream::StreamReference,
        task::Spawner,
        testing::{Arrival, Call, Fate, FaultyStream, Operation, ProcessorLog, What},
        types::{InitialPosition, Timestamp},
        worker::{Worker, WorkerHandle},
    };

    fn kinesis() -> LocalKinesis {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
        let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
        for name in ["clicks", "orders"] {
            kinesis.create_stream(&CreateStream::provisioned(name.parse().expect("valid"), 2)).expect("created");
            let stream: StreamReference = name.parse().expect("valid");
            for n in 0..10 {
                kinesis.put_record(&stream, PutEntry::new(format!("key-{n}"), name), None).expect("put");
            }
        }
        kinesis
    }

    fn consumers(kinesis: &LocalKinesis, stream: &str) -> Vec<String> {
        let page = kinesis.list_stream_consumers(&ListStreamConsumers::of(stream.parse().expect("valid"))).expect("the stream is there");
        page.consumers.into_iter().map(|consumer| consumer.name).collect()
    }

    fn worker(client: Arc<dyn StreamClient>, factory: impl RecordProcessorFactory) -> crate::worker::WorkerBuilder {
        Worker::builder("shop", "clicks", factory)
            .stream_client(client)
            .lease_table(Arc::new(MemoryLeaseTable::default()))
            .initial_position(InitialPosition::TrimHorizon)
            .randomness(Randomness::seeded(3))
            .spawner(Spawner::current())
            .stop_on_signals(false)
    }

    /// Runs until so many records are processed, then stops.
    async fn run(worker: Worker, log: &ProcessorLog, records: usize) -> WorkerHandle {
        run_on(worker, log, records, Duration::from_secs(60), Duration::ZERO).await
    }

    /// Until so many records are processed, and for so long beyond that.
    async fn run_on(worker: Worker, log: &ProcessorLog, records: usize, most: Duration, beyond: Duration) -> WorkerHandle {
        let handle = worker.handle();
        let mut running = Spawner::current().spawn("worker", worker.run());
        let count = |what: &What| if let What::ProcessRecords { records, .. } = what { records.len() } else { 0 };
        let done = log.wait_until(|calls| calls.iter().map(|call| count(&call.what)).sum::<usize>() >= records);
        tokio::time::timeout(most, done).await.expect("that is enough");
        tokio::time::sleep(beyond).await;
        handle.shutdown();
        running.join().await.expect("no panic").expect("a clean end");
        handle
    }

    #[tokio::test(start_paused = true)]
    async fn each_stream_is_read_as_told_and_consumers_stay_until_they_are_deregistered_on_request() {
        let (kinesis, log) = (kinesis(), ProcessorLog::default());
        let worker = worker(Arc::new(kinesis.clone()), log.factory())
            .stream("orders")
            .retrieval(Retrieval::FanOut(Consumer::OfApplication))
            .stream_retrieval("orders".parse().expect("valid"), Retrieval::Polling)
            .build()
            .expect("complete");
        let handle = run(worker, &log, 20).await;
        assert_eq!(log.processed().len(), 20);
        assert_eq!((consumers(&kinesis, "clicks"), consumers(&kinesis, "orders")), (vec!["shop".to_owned()], vec![]));
        let deregistered = handle.deregister_stream_consumers().await.expect("they are there");
        assert_eq!(deregistered, ["clicks".parse().expect("valid")]);
        assert!(consumers(&kinesis, "clicks").is_empty());
        handle.deregister_stream_consumers().await.expect("gone is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn deregistering_tries_all_and_leaves_what_is_not_the_applications_own() {
        let (kinesis, log) = (kinesis(), ProcessorLog::default());
        let (clicks, orders): (StreamReference, StreamReference) = ("clicks".parse().expect("valid"), "orders".parse().expect("valid"));
        let theirs = kinesis.register_stream_consumer(&orders, "theirs", std::collections::BTreeMap::new()).expect("a place is free");
        kinesis.create_stream(&CreateStream::provisioned("views".parse().expect("valid"), 1)).expect("created");
        let refused = Arc::new(std::sync::atomic::AtomicUsize::new(2));
        let left = Arc::clone(&refused);
        let network = move |call: &Call| {
            let refuse = call.operation == Operation::DeregisterStreamConsumer
                && left
                    .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
            Fate { arrival: if refuse { Arrival::Refused(ErrorKind::AccessDenied) } else { Arrival::Delivered }, ..Fate::default() }
        };
        let client = FaultyStream::new(Arc::new(kinesis.clone()), Arc::new(network), Spawner::current(), Duration::from_secs(10));
        let worker = worker(Arc::new(client), log.factory())
            .stream("orders")
            .stream("views")
            .retrieval(Retrieval::FanOut(Consumer::OfApplication))
            .stream_retrieval("orders".parse().expect("valid"), Retrieval::FanOut(Consumer::Arn(theirs.arn)))
            .build()
            .expect("complete");
        let handle = run(worker, &log, 20).await;
        let error = handle.deregister_stream_consumers().await.expect_err("refused twice");
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert!(error.message().contains("clicks") && error.message().contains("views"), "{error}");
        let deregistered = handle.deregister_stream_consumers().await.expect("no longer refused");
        assert_eq!(deregistered, [clicks, "views".parse().expect("valid")]);
        assert_eq!(["clicks", "views"].map(|stream| consumers(&kinesis, stream).len()), [0, 0]);
        assert_eq!(consumers(&kinesis, "orders"), ["theirs"]);
    }

    #[tokio::test(start_paused = true)]
    async fn automatic_subscribes_where_it_can_and_polls_where_it_cannot() {
        for (others, registered) in [(19, 20), (20, 20)] {
            let (kinesis, log) = (kinesis(), ProcessorLog::default());
            let enforced = kinesis.config().limits;
            kinesis.configure(|config| config.limits = Limits::off());
            for n in 0..others {
                let stream = "clicks".parse().expect("valid");
                kinesis
                    .register_stream_consumer(&stream, &format!("other-{n}"), std::collections::BTreeMap::new())
                    .expect("a place is free");
            }
            kinesis.configure(|config| config.limits = enforced);
            let worker = worker(Arc::new(kinesis.clone()), log.factory()).retrieval(Retrieval::Automatic).build().expect("complete");
            let handle = run(worker, &log, 10).await;
            assert_eq!(log.processed().len(), 10);
            let consumers = consumers(&kinesis, "clicks");
            assert_eq!((consumers.len(), consumers.contains(&"shop".to_owned())), (registered, others < 20));
            let deregistered = handle.deregister_stream_consumers().await.expect("it is there, or never was");
            assert_eq!(deregistered.len(), 20 - others);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_new_streams_are_all_read_by_fan_out() {
        // Automatic polls until there is a consumer, and five are made at a time.
        for (retrieval, beyond) in [(Retrieval::FanOut(Consumer::OfApplication), 0), (Retrieval::Automatic, 900)] {
            let (kinesis, log) = (kinesis(), ProcessorLog::default());
            let enforced = kinesis.config().limits;
            kinesis.configure(|config| (config.limits, config.delays.consumer) = (Limits::off(), Duration::from_secs(20)));
            let mut builder = worker(Arc::new(kinesis.clone()), log.factory()).retrieval(retrieval);
            for n in 1..100 {
                let name = format!("s{n}");
                kinesis.create_stream(&CreateStream::provisioned(name.parse().expect("valid"), 1)).expect("created");
                kinesis.put_record(&name.parse().expect("valid"), PutEntry::new("key", "data"), None).expect("put");
                builder = builder.stream(name);
            }
            kinesis.configure(|config| config.limits = enforced);
            run_on(builder.build().expect("complete"), &log, 109, Duration::from_secs(1800), Duration::from_secs(beyond)).await;
            assert_eq!(log.processed().len(), 109);
            for n in 1..100 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(consumers(&kinesis, &format!("s{n}")), ["shop"], "s{n}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn automatic_polls_while_its_stream_consumer_is_being_made() {
        let (kinesis, log) = (kinesis(), ProcessorLog::default());
        kinesis.configure(|config| config.delays.consumer = Duration::from_secs(300));
        let worker = worker(Arc::new(kinesis.clone()), log.factory()).retrieval(Retrieval::Automatic).build().expect("complete");
        run(worker, &log, 10).await;
        assert_eq!((log.processed().len(), consumers(&kinesis, "clicks").len()), (10, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_consumer_that_is_being_made_keeps_no_other_stream_waiting() {
        let (kinesis, log) = (kinesis(), ProcessorLog::default());
        kinesis.configure(|config| config.delays.consumer = Duration::from_secs(300));
        let worker = worker(Arc::new(kinesis.clone()), log.factory())
            .stream("orders")
            .retrieval(Retrieval::FanOut(Consumer::OfApplication))
            .stream_retrieval("orders".parse().expect("valid"), Retrieval::Polling)
            .build()
            .expect("complete");
        run(worker, &log, 10).await;
        assert!(log.processed().iter().all(|record| &record.data()[..] == b"orders"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_may_not_register_says_so_at_once() {
        let network = |call: &Call| Fate {
            arrival: if call.operation == Operation::RegisterStreamConsumer {
                Arrival::Refused(ErrorKind::AccessDenied)
            } else {
                Arrival::Delivered
            },
            ..Fate::default()
        };
        let client = FaultyStream::new(Arc::new(kinesis()), Arc::new(network), Spawner::current(), Duration::from_secs(10));
        let worker = worker(Arc::new(client), ProcessorLog::default().factory())
            .retrieval(Retrieval::FanOut(Consumer::Name("till".parse().expect("valid"))))
            .build()
            .expect("complete");
        let error = worker.run().await.expect_err("it cannot read");
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert!(error.message().contains("clicks") && error.message().contains("till"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn retrieval_that_cannot_be_is_refused_before_anything_starts() {
        let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/shop:1795262400";
        let build = |retrieval| worker(Arc::new(kinesis()), ProcessorLog::default().factory()).retrieval(retrieval).build();
        let error = build(Retrieval::FanOut(Consumer::Arn(arn.parse().expect("valid")))).expect_err("of another stream");
        assert!(error.message().contains("clicks") && error.message().contains(arn), "{error}");
        let error = worker(Arc::new(kinesis()), ProcessorLog::default().factory())
            .stream_retrieval("orders".parse().expect("valid"), Retrieval::Automatic)
            .build()
            .expect_err("it does not read that stream");
        assert!(error.message().contains("orders"), "{error}");
        let error = Worker::builder("a b", "clicks", ProcessorLog::default().factory())
            .local(&kinesis())
            .retrieval(Retrieval::FanOut(Consumer::OfApplication))
            .build()
            .expect_err("no name of a consumer");
        assert!(error.message().contains("a b"), "{error}");
    }
}
