//! What a failed call means: one place that turns the SDK's errors into [`Error`].

use std::{error::Error as StdError, fmt, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};

use super::{attempts::Attempts, tls};
use crate::{
    error::{Error, ErrorKind},
    stream::StreamReference,
    types::ShardId,
};

const NO_CREDENTIALS: &str =
    "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the process a role";

const CHECK_THE_WAY: &str = "check the region, AWS_ENDPOINT_URL_KINESIS if it is set, and the network";

/// A call, as its errors name it: `GetRecords on stream clicks in eu-central-1`.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    pub(super) stream: &'a StreamReference,
    pub(super) region: &'a str,
    pub(super) shard: Option<&'a ShardId>,
    /// Those of the client that makes it.
    pub(super) attempts: &'a Attempts,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on ", self.operation)?;
        if let Some(shard) = self.shard {
            write!(f, "shard {shard} of ")?;
        }
        write!(f, "stream {} in {}", self.stream, self.region)
    }
}

impl Call<'_> {
    pub(super) fn timed_out(self, limit: Duration) -> Error {
        Error::new(ErrorKind::Timeout, format!("{self}: no answer within {} ms", limit.as_millis()))
    }

    /// The beginning of an answer came, and not the rest.
    pub(super) fn fell_silent(self, limit: Duration) -> Error {
        Error::new(ErrorKind::Timeout, format!("{self}: the answer stopped in its midst for {} ms", limit.as_millis()))
    }

    pub(super) fn unreadable(self, what: &'static str) -> Error {
        Error::new(ErrorKind::InvalidData, format!("{self}: the service's answer cannot be read: {what}"))
    }

    /// Never formats an SDK type: their `Debug` shows requests and answers, payloads included.
    pub(super) fn failed<E: ProvideErrorMetadata>(self, failure: SdkError<E, HttpResponse>) -> Error {
        match failure {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let metadata = context.err().meta();
                self.refused(status, metadata.code().unwrap_or(""), metadata.message().unwrap_or(""))
            }
            SdkError::TimeoutError(_) => Error::new(ErrorKind::Timeout, format!("{self}: no answer in time")),
            SdkError::DispatchFailure(context) => match context.as_connector_error() {
                Some(connector) => self.not_sent(connector),
                None => Error::new(ErrorKind::Unavailable, format!("{self}: the service could not be reached: {CHECK_THE_WAY}")),
            },
            SdkError::ResponseError(context) => match context.raw().status().as_u16() {
                // An error without the service's form comes from a proxy or load balancer; its status still counts.
                status @ 400.. => self.refused(status, "", ""),
                status => Error::new(
                    ErrorKind::Unavailable,
                    format!("{self}: the answer with HTTP status {status} broke off or cannot be parsed"),
                ),
            },
            SdkError::ConstructionFailure(_) => Error::new(
                ErrorKind::InvalidInput,
                format!("{self}: the request could not be built: check region, endpoint and credentials of the SDK configuration"),
            ),
            // The SDK's enum is open; what it adds is a failure whose effect is unknown.
            _ => Error::new(ErrorKind::Unavailable, format!("{self}: the call failed in a way this version does not know")),
        }
    }

    /// The connection broke in the middle of an answer, or of a subscription.
    pub(super) fn broken_off(self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{self}: the answer broke off"))
    }

    /// The SDK says that all went well, and no answer passed the interceptor: another one must have made it up.
    pub(super) fn unanswered(self) -> Error {
        let fix = "check the interceptors of the SDK configuration";
        Error::new(ErrorKind::InvalidInput, format!("{self}: the call succeeded without an answer of the service: {fix}"))
    }

    /// No answer came: credentials, name resolution, connection.
    fn not_sent(self, connector: &ConnectorError) -> Error {
        let first: &(dyn StdError + 'static) = connector;
        let causes = || std::iter::successors(Some(first), |e| (*e).source());
        if let Some(credentials) = causes().find_map(|e| e.downcast_ref::<CredentialsError>()) {
            return self.without_credentials(credentials);
        }
        let place = self.attempts.endpoint().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        if connector.is_timeout() {
            return Error::new(ErrorKind::Timeout, format!("{self}: the connection was not made in time{place}: {CHECK_THE_WAY}"));
        }
        if let Some(why) = tls::distrust(connector) {
            return Error::new(ErrorKind::Unavailable, format!("{self}: there is no secure connection to the service{place}: {why}"));
        }
        // The innermost cause is the operating system's or the TLS library's, such as "connection refused".
        let cause = causes().last().map(|e| limited(&e.to_string())).unwrap_or_default();
        // What the SDK finds wrong with its configuration before it sends has no public type, only a text. Should the
        // text change, the error is still reported, as one that a retry might heal.
        if cause.contains("no identity resolver") {
            return Error::new(ErrorKind::AccessDenied, format!("{self}: {NO_CREDENTIALS}"));
        }
        if cause.contains("Missing Region") {
            let fix = "set AWS_REGION, or the region of the SDK config";
            return Error::new(ErrorKind::InvalidInput, format!("{self}: no AWS region is set: {fix}"));
        }
        if connector.is_user() {
            let fix = "check endpoint and HTTP client of the SDK configuration";
            return Error::new(ErrorKind::InvalidInput, format!("{self}: the request could not be sent: {cause}: {fix}"));
        }
        Error::new(ErrorKind::Unavailable, format!("{self}: the service could not be reached{place}: {cause}: {CHECK_THE_WAY}"))
    }

    fn without_credentials(self, error: &CredentialsError) -> Error {
        match error {
            CredentialsError::ProviderTimedOut(_) => {
                Error::new(ErrorKind::Unavailable, format!("{self}: the credentials provider did not answer in time"))
            }
            CredentialsError::ProviderError(_) => Error::new(
                ErrorKind::Unavailable,
                format!("{self}: the credentials provider failed: check profile, role and the endpoint it asks"),
            ),
            CredentialsError::InvalidConfiguration(_) => {
                Error::new(ErrorKind::AccessDenied, format!("{self}: the AWS profile or credentials configuration is invalid: correct it"))
            }
            CredentialsError::CredentialsNotLoaded(_) => Error::new(ErrorKind::AccessDenied, format!("{self}: {NO_CREDENTIALS}")),
            // The SDK's enum is open, and its last variant opaque.
            _ => Error::new(ErrorKind::AccessDenied, format!("{self}: the AWS credentials could not be loaded: check their source")),
        }
    }

    /// The service said no, by name. Matched on the name on the wire and not on the SDK's variants, because each
    /// operation's enum lacks names that the service nevertheless sends (`ValidationException`, signature errors).
    pub(super) fn refused(self, status: u16, code: &str, message: &str) -> Error {
        let message = limited(message);
        let error = |kind, text: &str| {
            let said = if message.is_empty() { String::new() } else { format!(" ({message})") };
            Error::new(kind, format!("{self}: {text}{said}"))
        };
        let name = if code.is_empty() { "the service" } else { code };
        match code {
            "ProvisionedThroughputExceededException" => error(ErrorKind::Throttled, "the shard's read throughput is exceeded"),
            "KMSThrottlingException" => error(ErrorKind::Throttled, "KMS throttled the decryption of records"),
            "ThrottlingException" | "Throttling" | "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown" => {
                error(ErrorKind::Throttled, "the call was throttled")
            }
            "ExpiredIteratorException" => error(ErrorKind::ExpiredIterator, "the shard iterator has expired"),
            "ExpiredNextTokenException" => error(ErrorKind::ExpiredToken, "the page token has expired"),
            "ResourceInUseException" if self.operation == "SubscribeToShard" => {
                error(ErrorKind::ResourceInUse, "the shard has another subscription of this consumer, or the consumer is being changed")
            }
            "ResourceInUseException" => error(ErrorKind::ResourceInUse, "the stream or its consumer is in use or being changed"),
            "LimitExceededException" => error(ErrorKind::LimitExceeded, "a limit of the account is reached"),
            "ResourceNotFoundException" => {
                let text = match self.shard {
                    Some(_) => {
                        "the stream or the shard does not exist: check stream name, region and account; shards past retention are gone"
                    }
                    None => "the stream does not exist: check its name, the region and the account of the credentials",
                };
                error(ErrorKind::NotFound, text)
            }
            "AccessDeniedException" | "AccessDenied" | "UnauthorizedException" | "OptInRequired" => {
                let text = format!("access is denied: allow the identity the action kinesis:{}", self.operation);
                error(ErrorKind::AccessDenied, &text)
            }
            "KMSAccessDeniedException"
            | "KMSDisabledException"
            | "KMSInvalidStateException"
            | "KMSNotFoundException"
            | "KMSOptInRequired" => error(
                ErrorKind::AccessDenied,
                &format!("{code}: the stream's KMS key cannot be used: allow kms:Decrypt and check the key's state"),
            ),
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" | "TokenRefreshRequired" => {
                error(ErrorKind::AccessDenied, &format!("{code}: the AWS credentials have expired: renew them"))
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken"
            | "NotAuthorized"
            | "AuthFailure" => error(
                ErrorKind::AccessDenied,
                &format!("{code}: the AWS credentials are not valid here: check key, session token and region"),
            ),
            "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "RequestTimeTooSkewed" => error(
                ErrorKind::AccessDenied,
                &format!("{code}: the signature is refused: check the secret key, the region and this machine's clock"),
            ),
            "InvalidArgumentException"
            | "ValidationException"
            | "SerializationException"
            | "InvalidParameterValue"
            | "InvalidParameterCombination"
            | "MissingParameter"
            | "MissingAction"
            | "DryRunOperationException"
            | "UnknownOperationException" => error(ErrorKind::InvalidInput, &format!("{code}: the service refused the request's values")),
            "InternalFailure"
            | "InternalFailureException"
            | "InternalServerError"
            | "InternalServiceError"
            | "ServiceUnavailable"
            | "ServiceUnavailableException" => error(ErrorKind::Unavailable, "the service failed"),
            "RequestTimeout" | "RequestTimeoutException" => error(ErrorKind::Timeout, "the service got the request too slowly"),
            // A name this version does not know: the status tells what to do.
            _ => match status {
                401 | 403 => error(ErrorKind::AccessDenied, &format!("{name} refused access with HTTP status {status}")),
                404 => error(ErrorKind::NotFound, &format!("{name} answered with HTTP status 404: check the endpoint")),
                408 => error(ErrorKind::Timeout, "the service got the request too slowly"),
                429 => error(ErrorKind::Throttled, "the call was throttled"),
                400..=499 => error(ErrorKind::InvalidInput, &format!("{name} refused the request with HTTP status {status}")),
                _ => error(ErrorKind::Unavailable, &format!("{name} failed with HTTP status {status}")),
            },
        }
    }
}

/// The other side's text is data: cut short.
fn limited(text: &str) -> String {
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Error {
        let stream: StreamReference = "clicks".parse().expect("valid");
        let attempts = &Attempts::default();
        Call { operation: "GetRecords", stream: &stream, region: "eu-central-1", shard: None, attempts }.refused(status, code, "said so")
    }

    #[test]
    fn each_name_says_what_to_do() {
        use ErrorKind as K;
        for (status, code, kind) in [
            (400, "ProvisionedThroughputExceededException", K::Throttled),
            (400, "KMSThrottlingException", K::Throttled),
            (400, "ThrottlingException", K::Throttled),
            (400, "ExpiredIteratorException", K::ExpiredIterator),
            (400, "ExpiredNextTokenException", K::ExpiredToken),
            (400, "ResourceInUseException", K::ResourceInUse),
            (400, "LimitExceededException", K::LimitExceeded),
            (400, "ResourceNotFoundException", K::NotFound),
            (400, "AccessDeniedException", K::AccessDenied),
            (400, "KMSAccessDeniedException", K::AccessDenied),
            (400, "ExpiredTokenException", K::AccessDenied),
            (400, "UnrecognizedClientException", K::AccessDenied),
            (400, "InvalidSignatureException", K::AccessDenied),
            (403, "SomethingNew", K::AccessDenied),
            (400, "InvalidArgumentException", K::InvalidInput),
            (400, "ValidationException", K::InvalidInput),
            (400, "SomethingNew", K::InvalidInput),
            (500, "InternalFailure", K::Unavailable),
            (503, "", K::Unavailable),
            (429, "", K::Throttled),
        ] {
            assert_eq!(refused(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_missing_stream_is_named_with_region_and_fix() {
        let text = refused(400, "ResourceNotFoundException").to_string();
        for part in ["GetRecords", "stream clicks", "eu-central-1", "check its name", "said so"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
