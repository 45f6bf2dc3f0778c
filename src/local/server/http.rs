//! A request to an answer: what HTTP carries around the body.

use std::{convert::Infallible, panic::AssertUnwindSafe};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;

use super::{
    fault::Fault,
    operations::{Call, find},
    protocol::Protocol,
};
use crate::{local::LocalKinesis, random::Randomness, task::panic_message};

/// Largest body: a PutRecords of 10 MiB has 14 MiB in base64, keys and names come on top.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;

const TARGET_PREFIX: &str = "Kinesis_20131202.";

/// What all connections share.
pub(super) struct Endpoint {
    kinesis: LocalKinesis,
    randomness: Randomness,
}

impl Endpoint {
    pub(super) const fn new(kinesis: LocalKinesis, randomness: Randomness) -> Self {
        Self { kinesis, randomness }
    }

    /// Answers every request, the wrong ones too.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Fault::new(413, "RequestEntityTooLargeException", format!("The body has more than {MAX_BODY_BYTES} bytes.")))
            }
            Err(_) => Err(Fault::serialization("the body broke off")),
        };
        Ok(self.respond(&head, body))
    }

    fn respond(&self, head: &Parts, body: Result<Bytes, Fault>) -> Response<Full<Bytes>> {
        let protocol = header(head, header::CONTENT_TYPE.as_str()).and_then(Protocol::from_content_type);
        let request_id = self.request_id();
        let operation = header(head, "x-amz-target").unwrap_or_default();
        let mut response = match body.and_then(|body| self.run(head, protocol, operation, body)) {
            Ok(body) => {
                tracing::debug!(operation, %request_id, bytes = body.len(), "answered");
                Response::new(Full::new(body))
            }
            Err(fault) => {
                tracing::debug!(operation, %request_id, status = fault.status, error = fault.code, "refused");
                refusal(protocol.unwrap_or(Protocol::Json), &fault)
            }
        };
        let headers = response.headers_mut();
        let content_type = protocol.unwrap_or(Protocol::Json).content_type();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }

    fn run(&self, head: &Parts, protocol: Option<Protocol>, operation: &str, body: Bytes) -> Result<Bytes, Fault> {
        if head.method != Method::POST {
            return Err(Fault::new(404, "UnknownOperationException", "Kinesis answers POST requests of an AWS SDK only."));
        }
        let unknown = || Fault::new(400, "UnknownOperationException", "The operation or its Content-Type is not known here.");
        let protocol = protocol.ok_or_else(unknown)?;
        let handler = operation.strip_prefix(TARGET_PREFIX).and_then(find).ok_or_else(unknown)?;
        let signed =
            head.headers.contains_key(header::AUTHORIZATION) || head.uri.query().is_some_and(|query| query.contains("X-Amz-Signature="));
        if !signed {
            return Err(Fault::new(400, "MissingAuthenticationTokenException", "Missing Authentication Token"));
        }
        let call = Call { kinesis: &self.kinesis, protocol, body };
        // A bug must cost its request only: other workers are connected to the same server.
        std::panic::catch_unwind(AssertUnwindSafe(|| handler(&call))).unwrap_or_else(|panic| {
            tracing::error!(operation, panic = %panic_message(&*panic), "operation of the local server panicked");
            Err(Fault::new(500, "InternalFailure", "The local server failed on this request; its log says how."))
        })
    }

    /// In the form of a UUID, as the service's are.
    fn request_id(&self) -> String {
        let (a, b) = (self.randomness.next_u64(), self.randomness.next_u64());
        format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xffff, b >> 48, b & 0xffff_ffff_ffff)
    }
}

fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(protocol: Protocol, fault: &Fault) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        code: &'static str,
        message: &'a str,
    }
    let body = protocol.encode(&Body { code: fault.code, message: &fault.message }).unwrap_or_default();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(fault.code));
    response
}

#[cfg(test)]
#[path = "http_test.rs"]
mod tests;
