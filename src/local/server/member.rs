//! Members of inputs: from what the wire allows to the crate's types, with the service's words for what is wrong.

use super::fault::Fault;
use crate::{
    local::{ConsumerReference, ResourceArn},
    stream::{ShardPosition, StreamReference},
    types::{ConsumerArn, SequenceNumber, ShardId, StreamArn, StreamName, Timestamp},
};

const NAME_PATTERN: &str = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
const NUMBER_PATTERN: &str = "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,128})";
const HASH_KEY_PATTERN: &str = "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})";
const CONSUMER_ARN_PATTERN: &str = "Member must satisfy regular expression pattern: ^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+";
const RESOURCE_ARN_PATTERN: &str = "Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+";
const POSITIONS: &str =
    "Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]";
const TOO_LONG: &str = "Member must have length less than or equal to 128";
const TOO_SHORT: &str = "Member must have length greater than or equal to 1";

/// What `StreamName` and `StreamARN` say: either is enough, both must agree, and `None` is neither.
pub(super) fn stream_if_any(name: Option<String>, arn: Option<String>) -> Result<Option<StreamReference>, Fault> {
    let name = name.map(stream_name).transpose()?;
    let arn = arn.map(|arn| {
        arn.parse::<StreamArn>().map_err(|_| {
            Fault::validation(
                &arn,
                "streamARN",
                "Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+",
            )
        })
    });
    match (name, arn.transpose()?) {
        (Some(name), Some(arn)) if arn.stream_name() != name => {
            Err(Fault::invalid_argument(format!("StreamARN {arn} does not match StreamName {name}.")))
        }
        (_, Some(arn)) => Ok(Some(StreamReference::Arn(arn))),
        (Some(name), None) => Ok(Some(StreamReference::Name(name))),
        (None, None) => Ok(None),
    }
}

/// As [`stream_if_any`], where one of the two is required.
pub(super) fn stream(name: Option<String>, arn: Option<String>) -> Result<StreamReference, Fault> {
    stream_if_any(name, arn)?.ok_or_else(|| Fault::invalid_argument("Either StreamName or StreamARN must be given."))
}

pub(super) fn stream_name(name: String) -> Result<StreamName, Fault> {
    StreamName::new(&name).map_err(|_| name_fault(&name, "streamName"))
}

pub(super) fn shard_id(id: Option<String>, member: &str) -> Result<ShardId, Fault> {
    let id = required(id, member)?;
    ShardId::new(&id).map_err(|_| name_fault(&id, member))
}

fn name_fault(value: &str, member: &str) -> Fault {
    match value.len() {
        0 => Fault::validation("", member, TOO_SHORT),
        1..=128 => Fault::validation(value, member, NAME_PATTERN),
        _ => Fault::validation(value, member, TOO_LONG),
    }
}

pub(super) fn consumer_arn(arn: Option<String>) -> Result<ConsumerArn, Fault> {
    let arn = required(arn, "consumerARN")?;
    arn.parse().map_err(|_| Fault::validation(&arn, "consumerARN", CONSUMER_ARN_PATTERN))
}

/// What `ConsumerARN`, or `StreamARN` and `ConsumerName`, say; all three must agree.
pub(super) fn consumer(arn: Option<String>, stream_arn: Option<String>, name: Option<String>) -> Result<ConsumerReference, Fault> {
    let Some(text) = arn else {
        let missing = || Fault::invalid_argument("Either ConsumerARN, or StreamARN and ConsumerName, must be given.");
        let name = name.ok_or_else(missing)?;
        return Ok(ConsumerReference::Name { stream: stream_if_any(None, stream_arn)?.ok_or_else(missing)?, name });
    };
    let arn = consumer_arn(Some(text))?;
    let same_stream = stream_arn.is_none_or(|stream| stream == arn.stream_arn().as_str());
    if !same_stream || name.is_some_and(|name| name != arn.consumer_name().as_str()) {
        return Err(Fault::invalid_argument(format!("ConsumerARN {arn} does not match StreamARN and ConsumerName.")));
    }
    Ok(ConsumerReference::Arn(arn))
}

pub(super) fn resource(arn: Option<String>) -> Result<ResourceArn, Fault> {
    let arn = required(arn, "resourceARN")?;
    arn.parse().map_err(|_| Fault::validation(&arn, "resourceARN", RESOURCE_ARN_PATTERN))
}

/// Where to read from; `member` names the type of the position.
pub(super) fn position(
    name: Option<String>,
    member: &str,
    number: Option<&str>,
    timestamp: Option<Timestamp>,
) -> Result<ShardPosition, Fault> {
    let name = required(name, member)?;
    let number = || match number {
        Some(number) => sequence_number(number, "startingSequenceNumber"),
        None => Err(Fault::invalid_argument(format!("Must either specify StartingSequenceNumber or a type other than {name}."))),
    };
    match name.as_str() {
        "TRIM_HORIZON" => Ok(ShardPosition::TrimHorizon),
        "LATEST" => Ok(ShardPosition::Latest),
        "AT_SEQUENCE_NUMBER" => Ok(ShardPosition::AtSequenceNumber(number()?)),
        "AFTER_SEQUENCE_NUMBER" => Ok(ShardPosition::AfterSequenceNumber(number()?)),
        "AT_TIMESTAMP" => match timestamp {
            Some(at) => Ok(ShardPosition::AtTimestamp(at)),
            None => Err(Fault::invalid_argument("Must specify Timestamp for a position of type AT_TIMESTAMP.")),
        },
        other => Err(Fault::validation(other, member, POSITIONS)),
    }
}

pub(super) fn sequence_number(number: &str, member: &str) -> Result<SequenceNumber, Fault> {
    SequenceNumber::parse(number).map_err(|_| Fault::validation(number, member, NUMBER_PATTERN))
}

pub(super) fn hash_key(key: &str, member: &str) -> Result<u128, Fault> {
    let form = !key.is_empty() && key.len() <= 39 && key.bytes().all(|b| b.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    if !form {
        return Err(Fault::validation(key, member, HASH_KEY_PATTERN));
    }
    key.parse().map_err(|_| {
        Fault::invalid_argument(format!("Invalid {member}. {member} must be in the range: [0, 2^128-1]. Specified value was {key}"))
    })
}

pub(super) fn required<T>(value: Option<T>, member: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::missing(member))
}

/// A count; its upper bound is the model's business.
pub(super) fn count(value: Option<i64>, member: &str) -> Result<Option<u32>, Fault> {
    let Some(value) = value else { return Ok(None) };
    if value <= 0 {
        return Err(Fault::validation(value, member, "Member must have value greater than or equal to 1"));
    }
    let value = i32::try_from(value).map_err(|_| Fault::serialization(format!("{member} does not fit an integer")))?;
    Ok(Some(value.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks";

    #[test]
    fn a_stream_is_named_once_or_twice_alike() {
        let own = |s: &str| Some(s.to_owned());
        assert!(matches!(stream(own("clicks"), None), Ok(StreamReference::Name(_))));
        assert!(matches!(stream(own("clicks"), own(ARN)), Ok(StreamReference::Arn(_))));
        for (name, arn, code) in [
            (None, None, "InvalidArgumentException"),
            (own("other"), own(ARN), "InvalidArgumentException"),
            (own("a b"), None, "ValidationException"),
            (own(""), None, "ValidationException"),
            (None, own("clicks"), "ValidationException"),
        ] {
            assert_eq!(stream(name.clone(), arn.clone()).expect_err("wrong").code, code, "{name:?} {arn:?}");
        }
    }

    #[test]
    fn numbers_are_checked_as_the_service_checks_them() {
        assert_eq!(hash_key("340282366920938463463374607431768211455", "newStartingHashKey").expect("largest"), u128::MAX);
        assert_eq!(
            hash_key("340282366920938463463374607431768211456", "newStartingHashKey").expect_err("too large").code,
            "InvalidArgumentException"
        );
        for bad in ["", "-1", "01", "x", "9999999999999999999999999999999999999999"] {
            assert_eq!(hash_key(bad, "newStartingHashKey").expect_err(bad).code, "ValidationException");
        }
        assert!(count(Some(0), "limit").is_err() && count(Some(-1), "limit").is_err() && count(Some(i64::MAX), "limit").is_err());
        assert_eq!(count(Some(7), "limit").expect("fits"), Some(7));
    }
}
