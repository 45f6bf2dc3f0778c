//! Errors on the wire.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use super::protocol::Protocol;
use crate::local::{ServiceError, ServiceErrorCode};

/// An error answer: HTTP status, the error's name and its text.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// An error that a fault rule asked for.
    pub(super) fn injected(status: u16, code: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, code, "A fault rule of the local server asked for this.")
    }

    /// The error as a body.
    pub(super) fn body(&self, protocol: Protocol) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "__type")]
            code: &'a str,
            message: &'a str,
        }
        protocol.encode(&Body { code: &self.code, message: &self.message }).unwrap_or_default()
    }

    /// The body is no JSON or CBOR, or a member has the wrong type.
    pub(super) fn serialization(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "SerializationException", message)
    }

    /// A required member is absent; worded as the service words it, `member` in camel case.
    pub(super) fn missing(member: &str) -> Self {
        let text = format!("1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null");
        ServiceError::new(ServiceErrorCode::Validation, text).into()
    }

    /// A member is malformed or out of its range. A hostile value must not fill the answer: it is cut short.
    pub(super) fn validation(value: impl std::fmt::Display, member: &str, constraint: &str) -> Self {
        let value: String = value.to_string().chars().take(256).collect();
        ServiceError::validation(value, member, constraint).into()
    }

    pub(super) fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        ServiceError::new(ServiceErrorCode::InvalidArgument, message).into()
    }
}

impl From<ServiceError> for Fault {
    fn from(error: ServiceError) -> Self {
        Self { status: error.code.http_status(), code: Cow::Borrowed(error.code.as_str()), message: error.message }
    }
}
