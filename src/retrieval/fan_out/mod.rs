//! Reading with `SubscribeToShard`: the stream pushes each shard's records to a registered stream consumer, which has
//! 2 MiB a second of every shard for itself.
//!
//! ```text
//! registration ─▶ consumer ARN          one per application and stream
//!                     │
//! reader task:  subscribe ─▶ pump task ─▶ link (1 event) ─▶ cursor ─▶ queue ─▶ next()
//!                  ▲   the only one that asks the                │
//!                  └── subscription for events      plan (pure): what an outcome leads to
//! ```
//!
//! A subscription goes on from the continuation number of the last event taken over, whatever ended the one before. It
//! is renewed before its five minutes are over: the successor is opened while the old one is still read, and what both
//! deliver is delivered once.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Result},
    limits,
    settings::{DAY, check_span},
    types::{ConsumerArn, ConsumerName},
};

mod contention;
mod plan;
mod pump;
mod reader;
mod registration;
mod source;

pub(crate) use registration::{Registration, RegistrationPace};
pub(crate) use source::{FanOutSource, Subscriber};

/// How shards are read by subscription.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// How long a subscription may say nothing while it is waited for; default 15 s. Then it is taken for half-open, and
    /// another is begun. The service sends events every five seconds to idle subscriptions, too. The time in which this
    /// side is busy does not count. KCL: 60 s, fixed.
    pub silence_timeout: Duration,
    /// How often the endpoint sends events to idle subscriptions; default 5 s, which is what the service does. A shorter time
    /// is for emulators that can be set so: it allows for a shorter `silence_timeout`.
    pub idle_event_interval: Duration,
    /// Age at which a subscription is renewed; default 4 min 30 s, less up to a tenth so that shards do not renew in
    /// step. The service ends it after 5 minutes.
    pub renew_after: Duration,
    /// How long a subscription may wait for room, when processing is slower than the stream; default 2 min. Then it is
    /// closed, and begun anew where it stopped when there is room.
    pub park_after: Duration,
    /// Events buffered ahead of processing, per shard; default 8, within the worker's byte budget.
    pub max_buffered_events: usize,
    /// Most records of a batch, 1 to 10,000; default 10,000. An event that has more becomes several batches. KCL: no such
    /// setting.
    pub max_records: u32,
    /// How long a shard that cannot be read for a reason that seldom passes by itself (stream not found, access denied)
    /// waits between attempts, once that is confirmed; default 30 s.
    pub blocked_retry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            silence_timeout: Duration::from_secs(15),
            idle_event_interval: limits::SUBSCRIPTION_IDLE_EVENT_INTERVAL,
            renew_after: Duration::from_secs(270),
            park_after: Duration::from_secs(120),
            max_buffered_events: 8,
            max_records: limits::GET_RECORDS_MAX_RECORDS,
            blocked_retry_interval: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fields and their values.
    pub fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        check_span("fan_out idle_event_interval", self.idle_event_interval, Duration::from_millis(1)..=DAY / 2)?;
        // An event on its way is no silence.
        let least = self.idle_event_interval.mul_f64(1.2);
        check_span("fan_out silence_timeout", self.silence_timeout, least..=DAY)?;
        // The service refuses quick successors, and ends subscriptions by their age.
        check_span("fan_out renew_after", self.renew_after, limits::SUBSCRIBE_MIN_INTERVAL * 2..=limits::SUBSCRIPTION_TTL)?;
        check_span("fan_out park_after", self.park_after, Duration::from_secs(1)..=DAY)?;
        check_span("fan_out blocked_retry_interval", self.blocked_retry_interval, Duration::ZERO..=DAY)?;
        if !(1..=1000).contains(&self.max_buffered_events) {
            return bad(format!("fan_out max_buffered_events is {}, expected 1 to 1000", self.max_buffered_events));
        }
        if !(1..=limits::GET_RECORDS_MAX_RECORDS).contains(&self.max_records) {
            return bad(format!("fan_out max_records is {}, expected 1 to {}", self.max_records, limits::GET_RECORDS_MAX_RECORDS));
        }
        Ok(())
    }
}

/// Which stream consumer an application subscribes with.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consumer {
    /// The one named as the application, registered when it is missing. KCL: the default.
    #[default]
    OfApplication,
    /// The one of this name, registered when it is missing. KCL: `consumerName`.
    Name(ConsumerName),
    /// This one, which somebody else registers. KCL: `consumerArn`.
    Arn(ConsumerArn),
}

/// How the shards of a stream are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retrieval {
    /// With `GetRecords`: the shard's 2 MiB and 5 calls a second are shared with all applications that poll.
    #[default]
    Polling,
    /// By enhanced fan-out, with a throughput of one's own and less delay, which the service bills for.
    FanOut(Consumer),
    /// By enhanced fan-out while the application's stream consumer is there or can be registered, else by polling.
    ///
    /// Nothing waits for it: while the consumer is made, its places are taken (a stream has 20), or a permission is missing,
    /// the shards are polled. Each worker looks again every ten minutes, less up to a half, and its shards go over to
    /// subscriptions after the last record delivered, without a stop; and back, should the consumer be gone for longer than
    /// it takes to register it anew. Where it may not subscribe (`AccessDenied`) that is tried again after some hours.
    /// Workers of one application may read in different ways for a while.
    Automatic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        Config::default().validate().expect("the defaults are valid");
        for (field, config) in [
            ("silence_timeout", Config { silence_timeout: Duration::ZERO, ..Config::default() }),
            ("silence_timeout", Config { silence_timeout: Duration::from_millis(5999), ..Config::default() }),
            ("silence_timeout", Config { idle_event_interval: Duration::from_secs(13), ..Config::default() }),
            ("idle_event_interval", Config { idle_event_interval: Duration::ZERO, ..Config::default() }),
            ("renew_after", Config { renew_after: Duration::from_secs(9), ..Config::default() }),
            ("renew_after", Config { renew_after: Duration::from_secs(301), ..Config::default() }),
            ("park_after", Config { park_after: Duration::ZERO, ..Config::default() }),
            ("park_after", Config { park_after: Duration::MAX, ..Config::default() }),
            ("max_records", Config { max_records: 0, ..Config::default() }),
            ("max_buffered_events", Config { max_buffered_events: 0, ..Config::default() }),
        ] {
            let error = config.validate().expect_err(field);
            assert!(error.message().contains(field), "{error}");
        }
    }

    #[test]
    fn retrieval_is_plain_data() {
        for (text, retrieval) in [
            (r#""polling""#, Retrieval::Polling),
            (r#""automatic""#, Retrieval::Automatic),
            (r#"{"fan_out":"of_application"}"#, Retrieval::FanOut(Consumer::OfApplication)),
            (r#"{"fan_out":{"name":"shop"}}"#, Retrieval::FanOut(Consumer::Name("shop".parse().expect("valid")))),
        ] {
            assert_eq!(serde_json::from_str::<Retrieval>(text).expect(text), retrieval);
            assert_eq!(serde_json::to_string(&retrieval).expect("plain data"), text);
        }
    }
}
