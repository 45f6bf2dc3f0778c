//! Takes answers from the SDK before it reads them.
//!
//! The SDK resolves credentials and endpoint, builds and signs the request, runs the interceptors of the user and sends.
//! What comes back is ours from there on: the body is taken unread, and the SDK gets an empty document in its place. So
//! interceptors of the user see status and headers, and no records.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut},
            dyn_dispatch_hint,
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};

use super::decode::{self, Blocks, Document};

/// The `Content-Type` of CBOR at this service.
const CBOR: &str = "application/x-amz-cbor-1.1";
/// More than any error of the service has.
const MAX_ERROR_BYTES: usize = 256 * 1024;

/// An interceptor of a single call. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Tap(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Takes the place of the request that the SDK wrote.
    cbor: Option<Vec<u8>>,
    answer: Mutex<Option<Answer>>,
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether the server calls it CBOR.
    pub(super) is_cbor: bool,
    /// The name of an error, where a header has it.
    error_code: Option<String>,
    pub(super) length: Option<usize>,
    pub(super) body: SdkBody,
}

impl Tap {
    /// One that sends `body`, which is CBOR, instead of what the SDK wrote.
    pub(super) fn sending(body: Vec<u8>) -> Self {
        Self(Arc::new(Inner { cbor: Some(body), answer: Mutex::default() }))
    }

    /// What came back; `None` when nothing did, and for errors in JSON, which the SDK reads.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.0.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Answer {
    pub(super) const fn is_success(&self) -> bool {
        self.status / 100 == 2
    }

    /// The name and the text of an error.
    pub(super) async fn error(self) -> (String, String) {
        let small = self.length.is_none_or(|length| length <= MAX_ERROR_BYTES);
        let document = if small { decode::read(self.body, self.length, &Blocks::default()).await } else { Ok(Document::default()) };
        let document = document.unwrap_or_default();
        let code = self.error_code.or(document.error_code).unwrap_or_default();
        (plain(&code).to_owned(), document.error_message.unwrap_or_default())
    }
}

/// Without the namespace before a name and the address behind it, which some servers add.
pub(super) fn plain(code: &str) -> &str {
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    code.rsplit_once('#').map_or(code, |(_, code)| code)
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

#[dyn_dispatch_hint]
impl Intercept for Tap {
    fn name(&self) -> &'static str {
        "ShardkeeperTap"
    }

    /// Before signing, since signatures cover the body.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(body) = &self.0.cbor {
            let request = context.request_mut();
            let headers = request.headers_mut();
            headers.insert("content-type", CBOR);
            headers.insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.clone());
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name);
        let is_cbor = header("content-type").is_some_and(|kind| kind.contains("cbor"));
        if !response.status().is_success() && !is_cbor {
            return Ok(());
        }
        let error_code = header("x-amzn-errortype").map(ToOwned::to_owned);
        let length = header("content-length").and_then(|length| length.parse().ok());
        let body = std::mem::replace(response.body_mut(), SdkBody::from("{}"));
        let answer = Answer { status, is_cbor, error_code, length, body };
        *self.0.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(())
    }
}
