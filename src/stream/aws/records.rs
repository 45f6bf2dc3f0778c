//! `GetRecords`, whose answers are decoded here and not by the SDK.
//!
//! CBOR is asked for: it is what the service gives to the SDK for Java, and its payloads need no decoding. A server that
//! refuses it, as some emulators do, is asked once more in JSON, and when that goes well in JSON only.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{
    AwsStreamClient, Format,
    decode::{self, Document, Unread},
    error::Call,
    tap::{Answer, Tap},
};
use crate::{
    error::{Error, Result},
    stream::{RecordsPage, ShardIterator, StreamReference},
};

/// What is known of the server: clones of a client learn together.
#[derive(Debug, Default)]
pub(super) struct Dialect(AtomicU8);

const UNTRIED: u8 = 0;
/// It has answered in CBOR.
const SPEAKS_CBOR: u8 = 1;
/// It refused CBOR what it granted in JSON.
const REFUSES_CBOR: u8 = 2;

impl Dialect {
    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) == state
    }

    fn learn(&self, state: u8) {
        // What it has once understood it does not unlearn.
        _ = self.0.compare_exchange(UNTRIED, state, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Why there are no records.
enum Failed {
    Final(Error),
    /// Perhaps because of the format.
    Doubtful(Error),
}

impl AwsStreamClient {
    /// One attempt; two while it is not known whether the server speaks CBOR.
    pub(super) async fn fetch(
        &self,
        call: Call<'_>,
        stream: &StreamReference,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordsPage> {
        let format = if self.dialect.is(REFUSES_CBOR) { Format::Json } else { self.config.records_format };
        match self.fetch_as(format, call, stream, iterator, limit).await {
            Ok(page) => Ok(page),
            Err(Failed::Final(error)) => Err(error),
            Err(Failed::Doubtful(_)) => match self.fetch_as(Format::Json, call, stream, iterator, limit).await {
                Ok(page) => {
                    tracing::debug!(client = %self, "the server does not speak CBOR, going on in JSON");
                    self.dialect.learn(REFUSES_CBOR);
                    Ok(page)
                }
                Err(Failed::Final(error) | Failed::Doubtful(error)) => Err(error),
            },
        }
    }

    async fn fetch_as(
        &self,
        format: Format,
        call: Call<'_>,
        stream: &StreamReference,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordsPage, Failed> {
        let arn = match stream {
            StreamReference::Name(_) => None,
            StreamReference::Arn(arn) => Some(arn.as_str()),
        };
        let tap = match format {
            Format::Cbor => Tap::sending(decode::cbor::get_records(&iterator.0, limit, arn)),
            Format::Json => Tap::default(),
        };
        // Larger numbers than the SDK can hold are refused as too large anyway.
        let sdk_limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let request =
            self.session.client().get_records().set_stream_arn(arn.map(ToOwned::to_owned)).shard_iterator(&iterator.0).limit(sdk_limit);
        let outcome = request.customize().interceptor(tap.clone()).send().await;
        let untried = format == Format::Cbor && self.dialect.is(UNTRIED);
        let Some(answer) = tap.answer() else {
            let Err(failure) = outcome else { return Err(Failed::Final(call.unanswered())) };
            // Without an answer it cannot be the format.
            let doubtful = untried && failure.raw_response().is_some();
            let error = call.failed(failure);
            return Err(if doubtful { Failed::Doubtful(error) } else { Failed::Final(error) });
        };
        if answer.is_success() {
            if answer.is_cbor {
                self.dialect.learn(SPEAKS_CBOR);
            }
            return self.page(answer, call).await.map_err(Failed::Final);
        }
        let status = answer.status;
        let (code, message) = answer.error().await;
        let error = call.refused(status, &code, &message);
        match &*code {
            "SerializationException" | "UnknownOperationException" | "" if untried => Err(Failed::Doubtful(error)),
            _ => Err(Failed::Final(error)),
        }
    }

    async fn page(&self, answer: Answer, call: Call<'_>) -> Result<RecordsPage> {
        let document = decode::read(answer.body, answer.length, &self.blocks).await.map_err(|unread| match unread {
            Unread::Broken => call.broken_off(),
            Unread::Defect(defect) => Error::from(defect).context(call),
        })?;
        into_page(document).map_err(|error| error.context(call))
    }
}

fn into_page(mut document: Document) -> Result<RecordsPage> {
    Ok(RecordsPage {
        records: document.take_records(),
        millis_behind_latest: document.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0),
        child_shards: document.take_child_shards()?,
        next_iterator: document.next_iterator.map(ShardIterator),
    })
}
