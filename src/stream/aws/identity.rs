//! Credentials that outlive the trouble of their provider.
//!
//! The SDK's cache loads credentials anew a little before they expire, and from then on all calls fail, or wait, with the
//! provider, although the old ones are still good. Here a provider that is slow or fails is left alone for a while, and calls
//! go on with what there is until it expires.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_kinesis::config::{ConfigBag, IdentityCache, ResolveCachedIdentity, RuntimeComponents, SharedIdentityCache};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        identity::{Identity, IdentityCachePartition, IdentityFuture, SharedIdentityResolver},
        runtime_components::RuntimeComponentsBuilder,
    },
};
use tokio::time::{Instant, timeout};

/// How long before their end credentials are loaded anew, where the configuration does not say: some retries' time.
const BUFFER_TIME: Duration = Duration::from_secs(60);
/// How long a call waits for new credentials while the old ones are good.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure the provider is not asked again for so long, while the old ones are good.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// Time that a request may be on its way: credentials that end sooner are of no use.
const MARGIN: Duration = Duration::from_secs(5);

/// A cache in front of another one.
#[derive(Debug)]
pub(super) struct PatientCache {
    inner: SharedIdentityCache,
    /// The last that were loaded, by provider.
    last: Mutex<BTreeMap<IdentityCachePartition, Last>>,
}

#[derive(Debug, Clone)]
struct Last {
    identity: Identity,
    /// Since when the provider fails, and when it is asked again.
    failed: Option<Instant>,
}

impl PatientCache {
    /// In front of what the configuration has; of one that waits for a provider as long as a call may take if it has none.
    pub(super) fn new(configured: Option<SharedIdentityCache>, call_timeout: Duration) -> Self {
        let inner = configured.unwrap_or_else(|| IdentityCache::lazy().load_timeout(call_timeout).buffer_time(BUFFER_TIME).build());
        Self { inner, last: Mutex::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<IdentityCachePartition, Last>) -> T) -> T {
        f(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn loaded(&self, partition: IdentityCachePartition, identity: &Identity) {
        self.with(|last| last.insert(partition, Last { identity: identity.clone(), failed: None }));
    }

    fn failed(&self, partition: IdentityCachePartition, valid_until: Option<SystemTime>) {
        let first = self.with(|last| last.get_mut(&partition).is_some_and(|last| last.failed.replace(Instant::now()).is_none()));
        if first {
            let valid_until = valid_until.map(aws_smithy_types::DateTime::from);
            tracing::warn!(?valid_until, "new AWS credentials cannot be loaded, going on with the old ones until they expire");
        }
    }
}

impl ResolveCachedIdentity for PatientCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let partition = resolver.cache_partition();
        let now = components.time_source().map(|time| time.now());
        let is_good = |last: &Last| match (last.identity.expiration(), now) {
            (Some(expiration), Some(now)) => expiration > now + MARGIN,
            (None, _) => true,
            (Some(_), None) => false,
        };
        let good = self.with(|last| last.get(&partition).cloned()).filter(is_good);
        IdentityFuture::new(async move {
            let Some(good) = good else {
                let identity = self.inner.resolve_cached_identity(resolver, components, config).await?;
                self.loaded(partition, &identity);
                return Ok(identity);
            };
            if good.failed.is_some_and(|failed| failed.elapsed() < LEFT_ALONE) {
                return Ok(good.identity);
            }
            match timeout(PATIENCE, self.inner.resolve_cached_identity(resolver, components, config)).await {
                Ok(Ok(identity)) => {
                    self.loaded(partition, &identity);
                    Ok(identity)
                }
                Ok(Err(_)) | Err(_) => {
                    self.failed(partition, good.identity.expiration());
                    Ok(good.identity)
                }
            }
        })
    }

    fn validate_base_client_config(&self, components: &RuntimeComponentsBuilder, config: &ConfigBag) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(components, config)
    }

    fn validate_final_config(&self, components: &RuntimeComponents, config: &ConfigBag) -> Result<(), BoxError> {
        self.inner.validate_final_config(components, config)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use aws_credential_types::{
        Credentials,
        provider::{ProvideCredentials, error::CredentialsError, future},
    };

    use aws_smithy_async::time::TimeSource;

    use super::*;
    use crate::{
        ErrorKind,
        stream::{
            ShardIterator, StreamClient,
            aws::{
                AwsStreamClient, Config,
                dribbling::{self, Dribbling},
            },
        },
    };

    const LIFE: Duration = Duration::from_secs(900);

    /// The wall clock of a paused runtime.
    #[derive(Debug, Clone)]
    struct Wall(Instant);

    impl TimeSource for Wall {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400) + self.0.elapsed()
        }
    }

    /// Takes eight seconds for the first credentials, and then fails as told.
    #[derive(Debug)]
    struct Provider {
        wall: Wall,
        asked: Arc<AtomicU32>,
        /// Never answers, in place of failing.
        hangs: bool,
    }

    impl ProvideCredentials for Provider {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let first = self.asked.fetch_add(1, Ordering::Relaxed) == 0;
            future::ProvideCredentials::new(async move {
                if first {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    return Ok(Credentials::new("id", "secret", None, Some(self.wall.now() + LIFE), "test"));
                }
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                Err(CredentialsError::provider_error("out of order"))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_slow_or_fails_is_no_trouble_while_its_credentials_are_good() {
        for hangs in [false, true] {
            let (wall, asked) = (Wall(Instant::now()), Arc::new(AtomicU32::new(0)));
            let server = Dribbling { answer: dribbling::page(1, 10), piece: 1000, freezes_after: usize::MAX };
            let provider = Provider { wall: wall.clone(), asked: Arc::clone(&asked), hangs };
            let builder = server.config().credentials_provider(provider).time_source(wall);
            let client = AwsStreamClient::from_builder(builder, Config::default());
            let (stream, iterator) = ("clicks".parse().expect("valid"), ShardIterator("AAAA".to_owned()));
            let read = || client.get_records(&stream, &iterator, 1);
            read().await.expect("eight seconds are not too long");
            let loaded = Instant::now();
            let mut slowest = Duration::ZERO;
            while loaded.elapsed() < LIFE - Duration::from_secs(10) {
                let sent = Instant::now();
                let page = read().await;
                assert!(page.is_ok(), "hangs: {hangs}, after {:?}: {page:?}", loaded.elapsed());
                slowest = slowest.max(sent.elapsed());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let asked = asked.load(Ordering::Relaxed);
            assert!((3..12).contains(&asked), "it is asked in good time, and not by each call: {asked}");
            assert!(slowest < PATIENCE + Duration::from_secs(1), "{slowest:?}");
            tokio::time::sleep(Duration::from_secs(10)).await;
            let error = read().await.expect_err("they have expired");
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::AccessDenied), "{error:#}");
        }
    }
}
