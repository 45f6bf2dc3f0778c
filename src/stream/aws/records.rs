//! `GetRecords`, whose answers are decoded here and not by the SDK.
//!
//! CBOR is asked for: it is what the service gives to the SDK for Java, and its payloads need no decoding. A server that
//! refuses it, as some emulators do, is asked once more in JSON, and when that goes well in JSON only, but for an attempt now
//! and then: what stands before a server may change.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_kinesis::error::ProvideErrorMetadata;
use tokio::time::{Instant, timeout};

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

/// How long a server that refused CBOR is asked in JSON only.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is known of the server: clones of a client learn together.
#[derive(Debug, Default)]
pub(super) struct Dialect(Mutex<Known>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Known {
    #[default]
    Nothing,
    /// It has answered in CBOR. What it has once understood it does not unlearn.
    SpeaksCbor,
    /// It refused in CBOR what it granted in JSON. It was last tried at this moment.
    RefusesCbor(Instant),
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// In the one format that it is known to speak, or that the user wants.
    As(Format),
    /// In CBOR, and should it be refused, in JSON.
    Either,
}

impl Dialect {
    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, wanted: Format) -> Ask {
        self.with(|known| match (wanted, &mut *known) {
            (Format::Json, _) => Ask::As(Format::Json),
            (Format::Cbor, Known::Nothing) => Ask::Either,
            (Format::Cbor, Known::SpeaksCbor) => Ask::As(Format::Cbor),
            (Format::Cbor, Known::RefusesCbor(tried)) => {
                let due = tried.elapsed() >= TRY_AGAIN_AFTER;
                if due {
                    *tried = Instant::now();
                }
                if due { Ask::Either } else { Ask::As(Format::Json) }
            }
        })
    }

    /// Notes an answer in CBOR; whether it was refused before.
    fn speaks_cbor(&self) -> bool {
        self.with(|known| matches!(std::mem::replace(known, Known::SpeaksCbor), Known::RefusesCbor(_)))
    }

    /// Notes that JSON was granted what CBOR was not; whether that is new.
    fn refuses_cbor(&self) -> bool {
        self.with(|known| {
            let new = *known == Known::Nothing;
            if new {
                *known = Known::RefusesCbor(Instant::now());
            }
            new
        })
    }
}

/// Whether a refusal speaks of the format of the request. A server that fails, or is asked too often, says nothing of it,
/// however it puts that.
fn is_of_format(status: u16, code: &str) -> bool {
    match code {
        "SerializationException" | "UnknownOperationException" => true,
        "" => matches!(status, 400 | 404 | 406 | 415),
        _ => status == 415,
    }
}

/// Why there are no records.
enum Failed {
    Otherwise(Error),
    /// Perhaps because of the format.
    OfFormat(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let (Failed::Otherwise(error) | Failed::OfFormat(error)) = failed;
        error
    }
}

impl AwsStreamClient {
    /// One attempt; two where it is not known whether the server speaks CBOR.
    pub(super) async fn fetch(
        &self,
        call: Call<'_>,
        stream: &StreamReference,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordsPage> {
        let ask = self.dialect.ask(self.config.records_format);
        let format = if let Ask::As(format) = ask { format } else { Format::Cbor };
        match self.fetch_as(format, call, stream, iterator, limit).await {
            Err(Failed::OfFormat(_)) if ask == Ask::Either => {
                let page = self.fetch_as(Format::Json, call, stream, iterator, limit).await?;
                if self.dialect.refuses_cbor() {
                    tracing::info!(client = %self, "the server does not speak CBOR, going on in JSON, which costs twice the CPU time");
                }
                Ok(page)
            }
            outcome => Ok(outcome?),
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
        let begun = async {
            let outcome = request.customize().interceptor(tap.clone()).send().await;
            let Some(answer) = tap.answer() else {
                let Err(failure) = outcome else { return Err(Failed::Otherwise(call.unanswered())) };
                // Without an answer it cannot be the format.
                let status = failure.raw_response().map(|answer| answer.status().as_u16());
                let of_format = status.is_some_and(|status| is_of_format(status, failure.code().unwrap_or("")));
                let error = call.failed(failure);
                return Err(if of_format { Failed::OfFormat(error) } else { Failed::Otherwise(error) });
            };
            if answer.is_success() {
                return Ok(answer);
            }
            let status = answer.status;
            let (code, message) = answer.error().await;
            let error = call.refused(status, &code, &message);
            Err(if is_of_format(status, &code) { Failed::OfFormat(error) } else { Failed::Otherwise(error) })
        };
        let (sent, time_limit) = (Instant::now(), self.config.get_records_timeout);
        let answer = match timeout(time_limit, begun).await {
            Ok(answer) => answer?,
            Err(_) => {
                self.session.timed_out(sent);
                return Err(Failed::Otherwise(call.timed_out(time_limit)));
            }
        };
        if answer.is_cbor && self.dialect.speaks_cbor() {
            tracing::info!(client = %self, "the server speaks CBOR now, going on in it");
        }
        self.page(answer, call, sent).await.map_err(Failed::Otherwise)
    }

    /// Reads the body of an answer to a call sent at that moment: as long as it takes, unless it stops in its midst.
    async fn page(&self, answer: Answer, call: Call<'_>, sent: Instant) -> Result<RecordsPage> {
        let silence = self.config.get_records_silence_timeout;
        let document = decode::read(answer.body, answer.length, silence, &self.blocks).await.map_err(|unread| match unread {
            Unread::Broken => call.broken_off(),
            Unread::Silent => {
                self.session.timed_out(sent);
                call.fell_silent(silence)
            }
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

#[cfg(test)]
#[path = "records_test.rs"]
mod tests;
