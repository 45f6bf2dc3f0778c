//! What the local server writes: messages of event streams, payloads in both formats.

use divan::{Bencher, counter::BytesCount};

#[path = "../../src/local/server"]
#[allow(dead_code, unused_imports, reason = "the library uses the rest, and its tests stay out")]
mod server {
    pub(super) mod event_stream;
    pub(super) mod fault;
    pub(super) mod protocol;

    /// A message with an event of this payload.
    pub(super) fn event(payload: &[u8]) -> usize {
        event_stream::event("SubscribeToShardEvent", protocol::Protocol::Cbor, payload).len()
    }

    /// A payload as JSON.
    pub(super) fn json(body: &mut Vec<u8>, data: &[u8]) {
        protocol::push_json_blob(body, data);
    }

    #[derive(serde::Serialize)]
    struct Payload<'a> {
        #[serde(rename = "Data")]
        data: protocol::BlobRef<'a>,
    }

    /// The payload so many times as CBOR.
    pub(super) fn cbor(data: &[u8], records: usize) -> usize {
        let payloads: Vec<_> = (0..records).map(|_| Payload { data: protocol::BlobRef(data) }).collect();
        protocol::Protocol::Cbor.encode(&payloads).expect("in memory").len()
    }
}

const RECORDS: usize = 500;
const RECORD_BYTES: usize = 1024;

#[divan::bench]
fn message_of_512_kb(bencher: Bencher<'_, '_>) {
    let payload = vec![7; RECORDS * RECORD_BYTES];
    bencher.counter(BytesCount::new(payload.len())).bench(|| server::event(&payload));
}

#[divan::bench]
fn payloads_as_json(bencher: Bencher<'_, '_>) {
    let payload = vec![7; RECORD_BYTES];
    bencher.counter(BytesCount::new(RECORDS * RECORD_BYTES)).bench(|| {
        let mut body = Vec::with_capacity(RECORDS * RECORD_BYTES * 2);
        (0..RECORDS).for_each(|_| server::json(&mut body, &payload));
        body
    });
}

#[divan::bench]
fn payloads_as_cbor(bencher: Bencher<'_, '_>) {
    let payload = vec![7; RECORD_BYTES];
    bencher.counter(BytesCount::new(RECORDS * RECORD_BYTES)).bench(|| server::cbor(&payload, RECORDS));
}
