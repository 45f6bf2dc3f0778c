//! Errors as the service names and words them.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};

/// Name of an error of the service, as it stands in the `__type` of an answer and in an entry of PutRecords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ServiceErrorCode {
    /// The stream or shard does not exist.
    ResourceNotFound,
    /// The stream exists already, or is not in a state for the call.
    ResourceInUse,
    /// A limit of the account or a rate of a control call is reached.
    LimitExceeded,
    /// An argument is well-formed and wrong.
    InvalidArgument,
    /// An argument is malformed or out of its range.
    Validation,
    /// A shard's read or write rate is used up.
    ProvisionedThroughputExceeded,
    /// A shard iterator is older than five minutes.
    ExpiredIterator,
    /// A page token is older than five minutes.
    ExpiredNextToken,
    /// The service failed.
    InternalFailure,
}

impl ServiceErrorCode {
    /// The name on the wire, such as `ResourceNotFoundException`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::ResourceInUse => "ResourceInUseException",
            Self::LimitExceeded => "LimitExceededException",
            Self::InvalidArgument => "InvalidArgumentException",
            Self::Validation => "ValidationException",
            Self::ProvisionedThroughputExceeded => "ProvisionedThroughputExceededException",
            Self::ExpiredIterator => "ExpiredIteratorException",
            Self::ExpiredNextToken => "ExpiredNextTokenException",
            Self::InternalFailure => "InternalFailureException",
        }
    }

    /// The HTTP status: 500 for failures of the service, 400 for everything else.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InternalFailure => 500,
            _ => 400,
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::ResourceNotFound => ErrorKind::NotFound,
            Self::ResourceInUse => ErrorKind::ResourceInUse,
            Self::LimitExceeded => ErrorKind::LimitExceeded,
            Self::InvalidArgument | Self::Validation => ErrorKind::InvalidInput,
            Self::ProvisionedThroughputExceeded => ErrorKind::Throttled,
            Self::ExpiredIterator => ErrorKind::ExpiredIterator,
            Self::ExpiredNextToken => ErrorKind::ExpiredToken,
            Self::InternalFailure => ErrorKind::Unavailable,
        }
    }
}

impl std::fmt::Display for ServiceErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of the service: its name and its message, both as the service gives them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServiceError {
    /// The error's name.
    pub code: ServiceErrorCode,
    /// Its text; names streams and shards, never payloads or partition keys.
    pub message: Cow<'static, str>,
}

impl ServiceError {
    /// An error with this name and text.
    #[must_use]
    pub fn new(code: ServiceErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// A `ValidationException` about one member, worded as the service words it: `constraint` is such as
    /// `Member must have value greater than or equal to 1`.
    #[must_use]
    pub fn validation(value: impl std::fmt::Display, member: &str, constraint: &str) -> Self {
        Self::new(
            ServiceErrorCode::Validation,
            format!("1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"),
        )
    }

    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ServiceErrorCode::InvalidArgument, message)
    }
}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        Self::new(error.code.kind(), error.to_string())
    }
}
