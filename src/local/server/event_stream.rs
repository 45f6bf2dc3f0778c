//! Event streams (`application/vnd.amazon.eventstream`): messages with headers, each guarded by two checksums.
//!
//! ```text
//! total length u32 │ headers length u32 │ CRC-32 of these 8 bytes │ headers │ payload │ CRC-32 of everything before
//! header: length of name u8 │ name │ 7 (a text) │ length of value u16 │ value
//! ```
//! Format: <https://smithy.io/2.0/aws/amazon-eventstream.html>.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{fault::Fault, protocol::Protocol};

/// The `Content-Type` of an answer that is an event stream.
pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
const TEXT: u8 = 7;

/// An event, such as `initial-response` or `SubscribeToShardEvent`.
pub(super) fn event(name: &str, protocol: Protocol, payload: &[u8]) -> Bytes {
    message(&[(":message-type", "event"), (":event-type", name), (":content-type", protocol.content_type())], payload)
}

/// An error that ends the stream.
pub(super) fn exception(protocol: Protocol, fault: &Fault) -> Bytes {
    let payload = fault.body(protocol);
    message(&[(":message-type", "exception"), (":exception-type", &fault.code), (":content-type", protocol.content_type())], &payload)
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_len: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let total = PRELUDE_BYTES + headers_len + payload.len() + CHECKSUM_BYTES;
    let length = |n: usize| u32::try_from(n).expect("events have at most 14 MiB");
    let mut message = BytesMut::with_capacity(total);
    message.put_u32(length(total));
    message.put_u32(length(headers_len));
    message.put_u32(crc32fast::hash(&message));
    for (name, value) in headers {
        message.put_u8(u8::try_from(name.len()).expect("names of headers are short"));
        message.put_slice(name.as_bytes());
        message.put_u8(TEXT);
        message.put_u16(u16::try_from(value.len()).expect("values of headers are short"));
        message.put_slice(value.as_bytes());
    }
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;
    use proptest::prelude::*;

    use super::*;

    fn headers(message: &aws_smithy_types::event_stream::Message) -> Vec<(String, String)> {
        let text = |value: &aws_smithy_types::event_stream::HeaderValue| value.as_string().expect("a text").as_str().to_owned();
        message.headers().iter().map(|header| (header.name().as_str().to_owned(), text(header.value()))).collect()
    }

    proptest! {
        #[test]
        fn the_sdks_decoder_reads_what_is_written(payload: Vec<u8>) {
            let written = event("SubscribeToShardEvent", Protocol::Json, &payload);
            let read = read_message_from(&mut &written[..]).expect("valid");
            prop_assert_eq!(&read.payload()[..], &payload[..]);
            let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            prop_assert_eq!(headers(&read), [
                own(":message-type", "event"),
                own(":event-type", "SubscribeToShardEvent"),
                own(":content-type", "application/x-amz-json-1.1"),
            ]);
        }
    }

    #[test]
    fn errors_are_exceptions_with_their_name_and_text() {
        let written = exception(Protocol::Json, &Fault::new(400, "ResourceInUseException", "Another one."));
        let read = read_message_from(&mut &written[..]).expect("valid");
        assert_eq!(headers(&read)[1], (":exception-type".to_owned(), "ResourceInUseException".to_owned()));
        let body: serde_json::Value = serde_json::from_slice(read.payload()).expect("JSON");
        assert_eq!(body["message"], "Another one.");
    }
}
