//! The SDK client of all calls but subscriptions.

use std::sync::{Mutex, PoisonError};

use aws_sdk_kinesis::{Client, Config};
use tokio::time::Instant;

use super::attempts::Attempts;

/// A client that is replaced when a call times out. All calls share one HTTP/2 connection, which may be dead without
/// having said so; a call that is dropped leaves it in the pool, where it is found by each that follows until the kernel
/// gives up, after about fifteen minutes.
pub(super) struct Session {
    config: Config,
    attempts: Attempts,
    current: Mutex<(Client, Instant)>,
}

impl Session {
    pub(super) fn new(config: Config) -> Self {
        let attempts = Attempts::default();
        let config = config.to_builder().interceptor(attempts.clone()).build();
        let current = Mutex::new((Client::from_conf(config.clone()), Instant::now()));
        Self { config, attempts, current }
    }

    /// The attempts of its calls.
    pub(super) const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(super) fn client(&self) -> Client {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// When the present client was made.
    #[cfg(test)]
    pub(super) fn made(&self) -> Instant {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Notes that a call sent at that moment got no answer in time. Of many that time out together, the first replaces the
    /// client.
    pub(super) fn timed_out(&self, sent: Instant) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A client made since is not the one that the call was made with.
        if current.1 <= sent {
            // One made from a configuration without an HTTP client makes one for itself, and so connections of its own. One
            // with the HTTP client of the configuration finds the former connections in it.
            self.attempts.give_up_connections();
            *current = (Client::from_conf(self.config.clone()), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_runtime_api::client::{
        http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        runtime_components::RuntimeComponents,
    };

    use super::*;
    use crate::{
        ErrorKind,
        stream::{ShardIterator, StreamClient, aws::AwsStreamClient},
    };

    /// Accepts requests, and never says anything.
    #[derive(Debug)]
    struct Dead;

    impl HttpConnector for Dead {
        fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::new(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_calls_time_out_is_replaced_once() {
        let dead = http_client_fn(|_: &HttpConnectorSettings, _: &RuntimeComponents| SharedHttpConnector::new(Dead));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(dead);
        let client = AwsStreamClient::from_builder(config, crate::stream::aws::Config::default());
        let since = || client.session.made();
        let (made, stream) = (since(), "clicks".parse().expect("valid"));
        for _ in 0..2 {
            let error = client.describe_stream(&stream).await.expect_err("nobody answers");
            assert_eq!((error.kind(), since()), (ErrorKind::Timeout, Instant::now()));
        }
        assert_eq!(since() - made, Duration::from_secs(20));
        let iterator = ShardIterator("AAAA".to_owned());
        let page = || client.get_records(&stream, &iterator, 1);
        let (first, second) = futures::join!(page(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            page().await
        });
        assert_eq!((first.expect_err("silence").kind(), second.expect_err("silence").kind()), (ErrorKind::Timeout, ErrorKind::Timeout));
        assert_eq!(Instant::now() - since(), Duration::from_secs(1), "the second call was made with the former client, too");
    }
}
