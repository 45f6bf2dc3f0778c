//! PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy. A policy is kept and given back; nobody is refused
//! anything by it.

use super::{ConsumerReference, Model, ResourceArn, ServiceError, ServiceErrorCode};
use crate::{stream::StreamReference, types::Timestamp};

/// Longest policy, in characters.
const MAX_CHARS: usize = 20 * 1024;

impl Model {
    /// `PutResourcePolicy`: a JSON document of IAM, in the place of the one before.
    ///
    /// # Errors
    /// `ResourceNotFound`, `InvalidArgument` when it is no JSON object.
    pub fn put_resource_policy(&mut self, now: Timestamp, resource: &ResourceArn, policy: &str) -> Result<(), ServiceError> {
        let document: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(policy);
        if document.is_err() || policy.chars().count() > MAX_CHARS {
            return Err(ServiceError::invalid("The policy is not a JSON object of at most 20,480 characters."));
        }
        self.on_policy(now, resource, |own| {
            *own = Some(policy.to_owned());
            Ok(())
        })
    }

    /// `GetResourcePolicy`.
    ///
    /// # Errors
    /// `ResourceNotFound`, also when the resource has no policy.
    pub fn get_resource_policy(&mut self, now: Timestamp, resource: &ResourceArn) -> Result<String, ServiceError> {
        self.on_policy(now, resource, |own| own.clone().ok_or_else(|| no_policy(resource)))
    }

    /// `DeleteResourcePolicy`.
    ///
    /// # Errors
    /// `ResourceNotFound`, also when the resource has no policy.
    pub fn delete_resource_policy(&mut self, now: Timestamp, resource: &ResourceArn) -> Result<(), ServiceError> {
        self.on_policy(now, resource, |own| own.take().map(drop).ok_or_else(|| no_policy(resource)))
    }

    fn on_policy<T>(
        &mut self,
        now: Timestamp,
        resource: &ResourceArn,
        operation: impl FnOnce(&mut Option<String>) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        match resource {
            ResourceArn::Stream(arn) => self.on(now, &StreamReference::Arn(arn.clone()), |stream, cx| {
                let answer = operation(&mut stream.facts.policy)?;
                stream.note(cx);
                Ok(answer)
            }),
            ResourceArn::Consumer(arn) => self.on_consumer(now, &ConsumerReference::Arn(arn.clone()), |stream, name, cx| {
                let consumer = stream.facts.consumers.get_mut(name).expect("looked up before");
                let answer = operation(&mut consumer.policy)?;
                stream.note(cx);
                Ok(answer)
            }),
        }
    }
}

fn no_policy(resource: &ResourceArn) -> ServiceError {
    ServiceError::new(ServiceErrorCode::ResourceNotFound, format!("No policy found for resource {resource}"))
}
