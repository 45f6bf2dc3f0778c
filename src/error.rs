//! Errors by what the caller can do about them.

use std::{borrow::Cow, error::Error as StdError, fmt};

/// Result of the crate's fallible operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The service asked to slow down: try again later. Nothing happened.
    Throttled,
    /// The service failed, or could not be reached: try again. A write may have taken effect.
    Unavailable,
    /// No answer in time: try again. A write may have taken effect.
    Timeout,
    /// A shard iterator outlived its five minutes: get another from the last position.
    ExpiredIterator,
    /// A ListShards page token outlived its five minutes: list anew.
    ExpiredToken,
    /// The resource is being changed, or in use: try again later. Nothing happened.
    ResourceInUse,
    /// A limit of the account is reached: try again later, or raise it. Nothing happened.
    LimitExceeded,
    /// The stream, shard, table or consumer does not exist.
    NotFound,
    /// The credentials do not allow it, or are missing or expired; of a file, this user may not write it.
    AccessDenied,
    /// A call or setting is wrong; the message says which value, and the fix.
    InvalidInput,
    /// What was read cannot be right, such as a lease row without a checkpoint.
    InvalidData,
    /// The lease table or stream is not what this application used before.
    Mismatch,
    /// Another worker holds the lease now: stop working on the shard. Nothing was written.
    LeaseLost,
    /// The worker is stopping.
    Shutdown,
    /// The application's own code failed or panicked.
    Processor,
    /// A bug in this crate: please report it.
    Internal,
}

/// An error with its kind, a message that names the shard, lease or value, and the cause as [`StdError::source`].
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

impl Error {
    /// An error without a deeper cause.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context` before the message, as in `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// What the caller does about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Throttled
                | ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::ResourceInUse
                | ErrorKind::LimitExceeded
                | ErrorKind::ExpiredIterator
                | ErrorKind::ExpiredToken
        )
    }

    /// Whether it is certain that a write did not take effect. After any other error the outcome is unknown:
    /// read back, and trust only a later successful conditional write.
    #[must_use]
    pub const fn has_no_side_effects(&self) -> bool {
        !matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if f.alternate() {
            let mut source = self.source();
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self:#}", self.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<crate::types::InvalidText> for Error {
    fn from(error: crate::types::InvalidText) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}
