//! Streams: names, ARNs and the identifier that lease rows carry.

use super::text::{InvalidText, check_name, text_id};

text_id! {
    /// Name of a stream within its account and region; 1 to 128 characters of `[a-zA-Z0-9_.-]`.
    StreamName, "stream name", |value| check_name("stream name", value, 128)
}

text_id! {
    /// ARN of a stream, `arn:aws:kinesis:<region>:<account>:stream/<name>`.
    StreamArn, "stream ARN", |value| {
        let parts: Vec<&str> = value.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "kinesis", region, account, resource]
                if partition.starts_with("aws") && !region.is_empty() && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) =>
            {
                match resource.strip_prefix("stream/") {
                    Some(name) => check_name("stream name", name, 128),
                    None => Err(InvalidText::new("stream ARN", value, "expected a resource of the form stream/<name>")),
                }
            }
            _ => Err(InvalidText::new("stream ARN", value, "expected arn:aws:kinesis:<region>:<account>:stream/<name>")),
        }
    }
}

impl StreamArn {
    fn part(&self, index: usize) -> &str {
        self.as_str().splitn(6, ':').nth(index).expect("checked when constructed")
    }

    /// The region, such as `eu-central-1`.
    #[must_use]
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account, 12 digits.
    #[must_use]
    pub fn account_id(&self) -> &str {
        self.part(4)
    }

    /// The stream's name.
    #[must_use]
    pub fn stream_name(&self) -> StreamName {
        let name = self.part(5).strip_prefix("stream/").expect("checked when constructed");
        StreamName::new(name).expect("checked when constructed")
    }
}

/// Which stream a lease belongs to, in the form lease rows and lease keys use.
///
/// A worker of one stream uses the plain name; a worker of many streams uses `account:name:epoch`, where the
/// epoch (seconds, by convention the stream's creation time) tells a re-created stream from its predecessor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamIdentifier {
    /// The only stream of an application.
    Single(StreamName),
    /// One of several streams.
    Multi {
        /// Account that owns the stream, 12 digits.
        account_id: String,
        /// The stream's name.
        name: StreamName,
        /// Creation epoch in seconds, greater than 0.
        epoch: u64,
    },
}

impl StreamIdentifier {
    /// The stream's name.
    #[must_use]
    pub const fn name(&self) -> &StreamName {
        match self {
            Self::Single(name) | Self::Multi { name, .. } => name,
        }
    }
}

impl std::fmt::Display for StreamIdentifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Single(name) => write!(f, "{name}"),
            Self::Multi { account_id, name, epoch } => write!(f, "{account_id}:{name}:{epoch}"),
        }
    }
}

impl std::str::FromStr for StreamIdentifier {
    type Err = InvalidText;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = |reason| InvalidText::new("stream identifier", s, reason);
        let parts: Vec<&str> = s.split(':').collect();
        match parts.as_slice() {
            [name] => Ok(Self::Single(StreamName::new(name)?)),
            [account, name, epoch] => {
                if account.is_empty() || !account.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad("the account is not a number"));
                }
                let epoch = epoch.parse().ok().filter(|e| *e > 0).ok_or_else(|| bad("the epoch is not a positive number"))?;
                Ok(Self::Multi { account_id: (*account).to_owned(), name: StreamName::new(name)?, epoch })
            }
            _ => Err(bad("expected <name> or <account>:<name>:<epoch>")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart() {
        let arn: StreamArn = "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks".parse().expect("valid");
        assert_eq!((arn.region(), arn.account_id(), arn.stream_name().as_str()), ("eu-central-1", "123456789012", "clicks"));
        for bad in [
            "clicks",
            "arn:aws:sqs:eu-central-1:123456789012:clicks",
            "arn:aws:kinesis:eu-central-1:12:stream/clicks",
            "arn:aws:kinesis:eu-central-1:123456789012:stream/a b",
        ] {
            assert!(bad.parse::<StreamArn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_round_trip() {
        for text in ["clicks", "123456789012:clicks:1795262400"] {
            assert_eq!(text.parse::<StreamIdentifier>().expect(text).to_string(), text);
        }
        for bad in ["", "a:b", "1:b:0", "x:b:1", "1:b:1:c"] {
            assert!(bad.parse::<StreamIdentifier>().is_err(), "{bad}");
        }
    }
}
