//! A request to an answer: what HTTP carries around the body.

use std::{convert::Infallible, io, panic::AssertUnwindSafe};

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use tokio_util::sync::CancellationToken;

use super::{
    admin,
    connection::Connection,
    event_stream,
    fault::Fault,
    faults::{Effect, Faults, Target},
    operations::{Call, Handler, find},
    protocol::Protocol,
    subscription::EventSource,
};
use crate::{local::LocalKinesis, random::Randomness, task::panic_message};

/// Largest body: a PutRecords of 10 MiB has 14 MiB in base64, keys and names come on top.
const MAX_BODY_BYTES: usize = 20 * 1024 * 1024;

const TARGET_PREFIX: &str = "Kinesis_20131202.";

/// The body of an answer: a whole one, or events as they come.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What all connections share.
pub(super) struct Endpoint {
    kinesis: LocalKinesis,
    randomness: Randomness,
    faults: Faults,
    stopping: CancellationToken,
}

/// A request that was carried out.
enum Answer {
    Whole(Bytes),
    Events(EventSource),
}

impl Endpoint {
    pub(super) const fn new(kinesis: LocalKinesis, randomness: Randomness, faults: Faults, stopping: CancellationToken) -> Self {
        Self { kinesis, randomness, faults, stopping }
    }

    /// Answers every request, the wrong ones too, as far as the fault rules let it.
    pub(super) async fn answer(&self, request: Request<Incoming>, connection: &Connection) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Fault::new(413, "RequestEntityTooLargeException", format!("The body has more than {MAX_BODY_BYTES} bytes.")))
            }
            Err(_) => Err(Fault::serialization("the body broke off")),
        };
        if let Some(path) = admin::path(&head) {
            let answer = admin::answer(&self.faults, &head.method, path, &body.unwrap_or_default());
            return Ok(answer.map(whole));
        }
        let operation = operation(&head);
        let target = || body.as_ref().map_or_else(|_| Target::default(), |body| self.target(&head, body));
        let (delay, effect) = self.faults.decide(operation, target);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match effect {
            None => Ok(self.respond(&head, body)),
            Some(Effect::Refuse(fault)) => Ok(self.respond(&head, Err(fault))),
            Some(Effect::Reset) => connection.reset().await,
            Some(Effect::AnswerLost) => {
                drop(self.respond(&head, body));
                connection.reset().await
            }
            Some(Effect::HalfOpen) => {
                self.stopping.cancelled().await;
                connection.reset().await
            }
        }
    }

    fn respond(&self, head: &Parts, body: Result<Bytes, Fault>) -> Response<Body> {
        let protocol = header(head, header::CONTENT_TYPE.as_str()).and_then(Protocol::from_content_type);
        let request_id = self.request_id();
        let operation = header(head, "x-amz-target").unwrap_or_default();
        let mut content_type = protocol.unwrap_or(Protocol::Json).content_type();
        let mut response = match body.and_then(|body| self.run(head, protocol, operation, body)) {
            Ok(Answer::Whole(body)) => {
                tracing::debug!(operation, %request_id, bytes = body.len(), "answered");
                Response::new(whole(Full::new(body)))
            }
            Ok(Answer::Events(source)) => {
                tracing::debug!(operation, %request_id, "events follow");
                content_type = event_stream::CONTENT_TYPE;
                Response::new(StreamBody::new(source.messages().map_ok(Frame::data)).boxed_unsync())
            }
            Err(fault) => {
                tracing::debug!(operation, %request_id, status = fault.status, error = &*fault.code, "refused");
                refusal(protocol.unwrap_or(Protocol::Json), &fault)
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }

    fn run(&self, head: &Parts, protocol: Option<Protocol>, operation: &str, body: Bytes) -> Result<Answer, Fault> {
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
        let run = || match handler {
            Handler::Whole(handler) => handler(&call).map(Answer::Whole),
            Handler::Events(handler) => {
                let subscription = handler(&call)?;
                let target = self.target(head, &call.body);
                let (faults, stopping) = (self.faults.clone(), self.stopping.clone());
                Ok(Answer::Events(EventSource { subscription, protocol, faults, target, stopping }))
            }
        };
        // A bug must cost its request only: other workers are connected to the same server.
        std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            tracing::error!(operation, panic = %panic_message(&*panic), "operation of the local server panicked");
            Err(Fault::new(500, "InternalFailure", "The local server failed on this request; its log says how."))
        })
    }

    /// What the request is about, as far as its body can be read.
    fn target(&self, head: &Parts, body: &Bytes) -> Target {
        let protocol = header(head, header::CONTENT_TYPE.as_str()).and_then(Protocol::from_content_type);
        protocol.map(|protocol| Call { kinesis: &self.kinesis, protocol, body: body.clone() }.target()).unwrap_or_default()
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

/// The name of the operation that is asked for, or nothing.
fn operation(head: &Parts) -> &str {
    header(head, "x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX)).unwrap_or_default()
}

fn whole(body: Full<Bytes>) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}

fn refusal(protocol: Protocol, fault: &Fault) -> Response<Body> {
    let mut response = Response::new(whole(Full::new(fault.body(protocol))));
    *response.status_mut() = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(code) = HeaderValue::from_str(&fault.code) {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

#[cfg(test)]
#[path = "http_test.rs"]
mod tests;
