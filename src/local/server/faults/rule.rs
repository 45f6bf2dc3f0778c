//! A fault rule: which requests, how often, what happens.

use std::time::Duration;

use super::super::operations::find;
use crate::error::{Error, ErrorKind, Result};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It is answered this much later. Delays of several rules add up.
    Latency(Duration),
    /// It is refused for its rate: `ProvisionedThroughputExceededException` where records are read or written,
    /// `LimitExceededException` elsewhere.
    Throttle,
    /// It is answered with status 500, `InternalFailureException`.
    Error500,
    /// The connection is reset before anything is done; over HTTP/2 all its requests break off.
    ConnectionReset,
    /// It is never answered.
    HalfOpen,
    /// It is done, and the connection is reset instead of an answer.
    AnswerLost,
    /// A GetRecords is answered with `ExpiredIteratorException`.
    ExpireIterators,
    /// A running subscription ends: with an exception of this name in the stream, or else broken off.
    CutSubscription {
        /// Name of the exception, such as `InternalFailureException`.
        error: Option<String>,
    },
    /// A running subscription freezes: nothing more is sent, and the connection stays.
    FreezeSubscription,
    /// It is refused with an exception of this name.
    Refuse {
        /// Name of the exception, such as `KMSAccessDeniedException`.
        error: String,
        /// HTTP status, 400 to 599; exceptions that the caller can do something about have 400.
        status: u16,
    },
}

/// Which requests a fault happens to, and how often. In JSON:
///
/// ```json
/// {"operation": "GetRecords", "stream": "clicks", "shard": "shardId-000000000000",
///  "skip": 2, "count": 3, "probability": 0.5, "seed": 7, "kind": "latency", "millis": 200}
/// ```
/// Everything but `kind` may be absent. Kinds: `latency` (with `millis`), `throttle`, `error500`, `connection_reset`,
/// `half_open`, `answer_lost`, `expire_iterators`, `cut_subscription` (may have `error`), `freeze_subscription`, `refuse`
/// (with `error`; `status` is 400 when absent).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct FaultRule {
    /// The operation, such as `GetRecords`; `None` (`*` in JSON) is any. For [`FaultKind::ExpireIterators`] it is
    /// GetRecords, and for [`FaultKind::CutSubscription`] and [`FaultKind::FreezeSubscription`] SubscribeToShard,
    /// whatever this says.
    pub operation: Option<String>,
    /// Name of the stream; `None` is any.
    pub stream: Option<String>,
    /// Id of the shard; `None` is any. Requests without a shard, such as PutRecords, do not match a shard.
    pub shard: Option<String>,
    /// Matching requests (for subscriptions: events) that pass before the first is hit.
    pub skip: u64,
    /// How many are hit; `None` is without end.
    pub count: Option<u64>,
    /// Share of the matching requests that is hit, above 0 to 1.
    pub probability: f64,
    /// Seed of the draw; the same seed draws the same sequence.
    pub seed: u64,
    /// What happens.
    pub kind: FaultKind,
}

impl FaultRule {
    /// Happens to every request.
    #[must_use]
    pub const fn new(kind: FaultKind) -> Self {
        Self { operation: None, stream: None, shard: None, skip: 0, count: None, probability: 1.0, seed: 0, kind }
    }

    /// Only to requests for this operation, such as `GetRecords`.
    #[must_use]
    pub fn operation(mut self, name: impl Into<String>) -> Self {
        self.operation = Some(name.into());
        self
    }

    /// Only to requests about the stream of this name.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = Some(name.into());
        self
    }

    /// Only to requests about the shard of this id.
    #[must_use]
    pub fn shard(mut self, id: impl Into<String>) -> Self {
        self.shard = Some(id.into());
        self
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub const fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Happens so many times, and no more.
    #[must_use]
    pub const fn count(mut self, times: u64) -> Self {
        self.count = Some(times);
        self
    }

    /// Happens to this share of the matching requests, above 0 to 1, drawn from the seed.
    #[must_use]
    pub const fn probability(mut self, share: f64, seed: u64) -> Self {
        self.probability = share;
        self.seed = seed;
        self
    }

    /// Refuses what can never happen.
    pub(in crate::local::server) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
        if let Some(name) = self.operation.as_deref().filter(|name| find(name).is_none()) {
            return wrong(format!("fault rule: operation {name:?} is not known: give one such as GetRecords, or *"));
        }
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            return wrong(format!("fault rule: probability {} is not above 0 and at most 1", self.probability));
        }
        if self.count == Some(0) {
            return wrong("fault rule: count 0 never happens: give 1 or more, or leave it out".to_owned());
        }
        let named = match &self.kind {
            FaultKind::CutSubscription { error } => error.as_deref(),
            FaultKind::Refuse { error, .. } => Some(error.as_str()),
            _ => None,
        };
        // It becomes the value of a header.
        if named.is_some_and(|name| !(1..=64).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return wrong("fault rule: error is no name of an exception: give one such as InternalFailureException".to_owned());
        }
        if let FaultKind::Refuse { status, .. } = &self.kind
            && !(400..600).contains(status)
        {
            return wrong(format!("fault rule: status {status} is none of a refusal: give one from 400 to 599"));
        }
        Ok(())
    }
}

/// A rule as it is written.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    #[serde(default)]
    skip: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(default)]
    seed: u64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    millis: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

/// What a kind may have beside it.
const MEMBERS: [(&str, &[&str]); 10] = [
    ("latency", &["millis"]),
    ("throttle", &[]),
    ("error500", &[]),
    ("connection_reset", &[]),
    ("half_open", &[]),
    ("answer_lost", &[]),
    ("expire_iterators", &[]),
    ("cut_subscription", &["error"]),
    ("freeze_subscription", &[]),
    ("refuse", &["error", "status"]),
];

impl TryFrom<Text> for FaultRule {
    type Error = String;

    fn try_from(text: Text) -> std::result::Result<Self, String> {
        let Some((_, members)) = MEMBERS.iter().find(|(kind, _)| *kind == text.kind) else {
            return Err(format!("kind {:?} is not known", text.kind));
        };
        let given = [("millis", text.millis.is_some()), ("error", text.error.is_some()), ("status", text.status.is_some())];
        if let Some((member, _)) = given.into_iter().find(|(member, given)| *given && !members.contains(member)) {
            return Err(format!("{} takes no {member}", text.kind));
        }
        let kind = match text.kind.as_str() {
            "latency" => FaultKind::Latency(Duration::from_millis(text.millis.ok_or("latency needs millis")?)),
            "throttle" => FaultKind::Throttle,
            "error500" => FaultKind::Error500,
            "connection_reset" => FaultKind::ConnectionReset,
            "half_open" => FaultKind::HalfOpen,
            "answer_lost" => FaultKind::AnswerLost,
            "expire_iterators" => FaultKind::ExpireIterators,
            "cut_subscription" => FaultKind::CutSubscription { error: text.error },
            "freeze_subscription" => FaultKind::FreezeSubscription,
            _ => FaultKind::Refuse { error: text.error.ok_or("refuse needs error")?, status: text.status.unwrap_or(400) },
        };
        Ok(Self {
            operation: text.operation.filter(|name| name != "*"),
            stream: text.stream,
            shard: text.shard,
            skip: text.skip,
            count: text.count,
            probability: text.probability.unwrap_or(1.0),
            seed: text.seed,
            kind,
        })
    }
}

impl From<FaultRule> for Text {
    fn from(rule: FaultRule) -> Self {
        let (mut millis, mut error, mut status) = (None, None, None);
        let kind = match rule.kind {
            FaultKind::Latency(delay) => {
                millis = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
                "latency"
            }
            FaultKind::Throttle => "throttle",
            FaultKind::Error500 => "error500",
            FaultKind::ConnectionReset => "connection_reset",
            FaultKind::HalfOpen => "half_open",
            FaultKind::AnswerLost => "answer_lost",
            FaultKind::ExpireIterators => "expire_iterators",
            FaultKind::CutSubscription { error: name } => {
                error = name;
                "cut_subscription"
            }
            FaultKind::FreezeSubscription => "freeze_subscription",
            FaultKind::Refuse { error: name, status: code } => {
                (error, status) = (Some(name), Some(code));
                "refuse"
            }
        };
        Self {
            operation: rule.operation,
            stream: rule.stream,
            shard: rule.shard,
            skip: rule.skip,
            count: rule.count,
            probability: (rule.probability < 1.0).then_some(rule.probability),
            seed: rule.seed,
            kind: kind.to_owned(),
            millis,
            error,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_and_read_alike() {
        for text in [
            r#"{"operation":"GetRecords","stream":"clicks","shard":"shardId-000000000000","skip":2,"count":3,"probability":0.5,"seed":7,"kind":"latency","millis":200}"#,
            r#"{"skip":0,"seed":0,"kind":"cut_subscription","error":"InternalFailureException"}"#,
            r#"{"skip":0,"count":1,"seed":0,"kind":"answer_lost"}"#,
            r#"{"skip":0,"seed":0,"kind":"freeze_subscription"}"#,
            r#"{"skip":0,"seed":0,"kind":"refuse","error":"KMSDisabledException","status":400}"#,
        ] {
            let rule: FaultRule = serde_json::from_str(text).expect(text);
            rule.check().expect(text);
            assert_eq!(serde_json::to_string(&rule).expect("written"), text);
        }
        let any: FaultRule = serde_json::from_str(r#"{"operation":"*","kind":"throttle"}"#).expect("valid");
        assert_eq!(any, FaultRule::new(FaultKind::Throttle));
    }

    #[test]
    fn what_can_never_happen_is_refused() {
        for bad in [
            r"{}",
            r#"{"kind":"earthquake"}"#,
            r#"{"kind":"latency"}"#,
            r#"{"kind":"throttle","millis":5}"#,
            r#"{"kind":"throttle","colour":"red"}"#,
            r#"{"kind":"throttle","count":-1}"#,
            r#"{"kind":"throttle","status":400}"#,
            r#"{"kind":"refuse"}"#,
        ] {
            assert!(serde_json::from_str::<FaultRule>(bad).is_err(), "{bad}");
        }
        for bad in [
            FaultRule::new(FaultKind::Throttle).operation("DropTable"),
            FaultRule::new(FaultKind::Throttle).count(0),
            FaultRule::new(FaultKind::Throttle).probability(0.0, 1),
            FaultRule::new(FaultKind::Throttle).probability(f64::NAN, 1),
            FaultRule::new(FaultKind::CutSubscription { error: Some(String::new()) }),
            FaultRule::new(FaultKind::Refuse { error: "no name".to_owned(), status: 400 }),
            FaultRule::new(FaultKind::Refuse { error: "KMSDisabledException".to_owned(), status: 200 }),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
