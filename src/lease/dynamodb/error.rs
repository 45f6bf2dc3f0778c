//! Errors of the SDK by what the caller can do about them.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{
    error::{Error, ErrorKind},
    stream::aws::distrust,
};

/// Code of a condition that did not hold.
pub(super) const CONDITION_FAILED: &str = "ConditionalCheckFailedException";
pub(super) const NOT_FOUND: &str = "ResourceNotFoundException";
pub(super) const IN_USE: &str = "ResourceInUseException";

/// What a call was about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The operation, as the API names it.
    pub(super) operation: &'static str,
    pub(super) table: &'a str,
    pub(super) region: Option<&'a str>,
    /// Where it is not the service's own.
    pub(super) endpoint: Option<&'a str>,
}

const CHECK_THE_WAY: &str = "check the region, AWS_ENDPOINT_URL_DYNAMODB if it is set, and the network";

impl Subject<'_> {
    fn place(&self) -> String {
        let region = self.region.map(|region| format!(" in region {region}")).unwrap_or_default();
        let endpoint = self.endpoint.map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("DynamoDB table {}{region}{endpoint}", self.table)
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{} on {} {what}", self.operation, self.place()))
    }

    /// Converts an error of one attempt. Answers of the service are reduced to code and message: raw responses and
    /// signature errors can hold what has no place in a log.
    pub(super) fn sdk_error<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match &error {
            SdkError::ServiceError(answer) => {
                let meta = answer.err().meta();
                return self.service_error(meta.code(), meta.message(), answer.raw().status().as_u16());
            }
            SdkError::TimeoutError(_) => self.error(ErrorKind::Timeout, "was not answered in time"),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                self.error(ErrorKind::Timeout, &format!("found no connection in time: {CHECK_THE_WAY}"))
            }
            SdkError::DispatchFailure(failure) if failure.is_io() => {
                let what = match failure.as_connector_error().and_then(|error| distrust(error)) {
                    Some(why) => format!("finds no secure connection: {why}"),
                    None => format!("got no answer: the service cannot be reached, or the connection broke: {CHECK_THE_WAY}"),
                };
                self.error(ErrorKind::Unavailable, &what)
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                self.error(ErrorKind::InvalidInput, "cannot be sent: check the endpoint")
            }
            SdkError::DispatchFailure(_) => self.preparation_error(&error),
            SdkError::ResponseError(_) => self.error(ErrorKind::Unavailable, "got an answer that cannot be read"),
            SdkError::ConstructionFailure(_) => self.error(ErrorKind::InvalidInput, "is not a request that can be sent"),
            // The type is open; an unknown outcome is the safe reading.
            _ => self.error(ErrorKind::Unavailable, "failed"),
        }
        .with_source(error)
    }

    /// The request was never sent: no endpoint, or no credentials to sign it with.
    fn preparation_error(&self, error: &(dyn StdError + 'static)) -> Error {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            match inner.downcast_ref() {
                Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                    return self.error(ErrorKind::AccessDenied, "finds no AWS credentials: check the profile, environment or role");
                }
                Some(_) => return self.error(ErrorKind::Unavailable, "gets no AWS credentials at the moment"),
                None => cause = inner.source(),
            }
        }
        if self.region.is_none() {
            return self
                .error(ErrorKind::InvalidInput, "cannot be sent: no AWS region is set: set AWS_REGION, or the region of the SDK config");
        }
        self.error(ErrorKind::Unavailable, "could not be sent")
    }

    fn service_error(&self, code: Option<&str>, message: Option<&str>, status: u16) -> Error {
        let said = || {
            let said: String = message.unwrap_or("no reason given").chars().take(300).collect();
            format!("({}: {said})", code.unwrap_or("no code"))
        };
        match code.unwrap_or_default() {
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TooManyRequestsException" => self.error(ErrorKind::Throttled, &format!("was throttled {}", said())),
            NOT_FOUND => self.error(
                ErrorKind::NotFound,
                "finds no such table: check the table name, the region and the account, or initialize the table first",
            ),
            IN_USE | "TransactionConflictException" | "ReplicatedWriteConflictException" => {
                self.error(ErrorKind::ResourceInUse, &format!("has to wait for another change {}", said()))
            }
            "LimitExceededException" => self.error(ErrorKind::LimitExceeded, &format!("is refused by a limit of the account {}", said())),
            "AccessDeniedException" | "AccessDenied" | "KMSAccessDeniedException" => {
                self.error(ErrorKind::AccessDenied, &format!("is not allowed: grant it to the role or user of the worker {}", said()))
            }
            code @ ("UnrecognizedClientException"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "IncompleteSignature"
            | "InvalidClientTokenId"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken"
            | "NotAuthorizedException"
            | "OptInRequired"
            | "RequestExpired"
            | "SignatureDoesNotMatch") => {
                let what = format!(
                    "is refused, the AWS credentials are wrong, expired or of another region: check credentials, region and the machine's clock ({code})"
                );
                self.error(ErrorKind::AccessDenied, &what)
            }
            _ if status == 429 => self.error(ErrorKind::Throttled, &format!("was throttled {}", said())),
            _ if status == 408 => self.error(ErrorKind::Timeout, &format!("was not received in time {}", said())),
            _ if (400..500).contains(&status) => self.error(ErrorKind::InvalidInput, &format!("is refused as wrong {}", said())),
            // The service failed, or said yes in words that cannot be read.
            _ => self.error(ErrorKind::Unavailable, &format!("failed with HTTP status {status} {}", said())),
        }
    }
}
