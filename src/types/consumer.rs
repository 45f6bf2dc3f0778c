//! Stream consumers of enhanced fan-out: their names and ARNs.

use super::{
    stream::{StreamArn, StreamName},
    text::{InvalidText, check_name, text_id},
};

text_id! {
    /// Name of a stream consumer, unique among the consumers of its stream; 1 to 128 characters of `[a-zA-Z0-9_.-]`.
    ConsumerName, "consumer name", |value| check_name("consumer name", value, 128)
}

text_id! {
    /// ARN of a stream consumer, `arn:aws:kinesis:<region>:<account>:stream/<stream>/consumer/<name>:<created>`, the last
    /// in seconds since the epoch: a consumer that was registered anew has another.
    ConsumerArn, "consumer ARN", |value| {
        let bad = || InvalidText::new("consumer ARN", value, "expected <stream ARN>/consumer/<name>:<created>");
        let (stream, name, created) = split(value).ok_or_else(bad)?;
        if !created.bytes().all(|b| b.is_ascii_digit()) || created.parse::<u64>().is_err() {
            return Err(bad());
        }
        StreamArn::new(stream)?;
        check_name("consumer name", name, 128)
    }
}

fn split(arn: &str) -> Option<(&str, &str, &str)> {
    let (stream, consumer) = arn.split_once("/consumer/")?;
    let (name, created) = consumer.split_once(':')?;
    Some((stream, name, created))
}

impl ConsumerArn {
    /// The stream that it consumes.
    #[must_use]
    pub fn stream_arn(&self) -> StreamArn {
        let (stream, ..) = split(self.as_str()).expect("checked when constructed");
        StreamArn::new(stream).expect("checked when constructed")
    }

    /// Name of the stream that it consumes.
    #[must_use]
    pub fn stream_name(&self) -> StreamName {
        self.stream_arn().stream_name()
    }

    /// The consumer's name.
    #[must_use]
    pub fn consumer_name(&self) -> ConsumerName {
        let (_, name, _) = split(self.as_str()).expect("checked when constructed");
        ConsumerName::new(name).expect("checked when constructed")
    }

    /// When it was registered, in seconds since the epoch.
    #[must_use]
    pub fn created_secs(&self) -> u64 {
        let (.., created) = split(self.as_str()).expect("checked when constructed");
        created.parse().expect("checked when constructed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks";

    #[test]
    fn arns_are_taken_apart() {
        let arn: ConsumerArn = format!("{STREAM}/consumer/shop.v2:1795262400").parse().expect("valid");
        assert_eq!((arn.stream_arn().as_str(), arn.stream_name().as_str()), (STREAM, "clicks"));
        assert_eq!((arn.consumer_name().as_str(), arn.created_secs()), ("shop.v2", 1_795_262_400));
    }

    #[test]
    fn what_is_no_consumer_arn_is_refused() {
        for bad in ["", "shop", STREAM, "stream/clicks/consumer/shop:1"] {
            assert!(bad.parse::<ConsumerArn>().is_err(), "{bad}");
        }
        for bad in [
            "/consumer/shop",
            "/consumer/:1",
            "/consumer/shop:",
            "/consumer/shop:x",
            "/consumer/a b:1",
            "/consumer/a:1:2",
            "/consumer/a:18446744073709551616",
        ] {
            assert!(format!("{STREAM}{bad}").parse::<ConsumerArn>().is_err(), "{bad}");
        }
    }
}
