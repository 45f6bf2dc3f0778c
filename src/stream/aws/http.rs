//! The HTTP client of subscriptions.
//!
//! The SDK's own one leaves the windows of HTTP/2 as they are: 2 MiB a stream and 5 MiB a connection, so that three
//! shards whose handlers are stuck take all there is from their neighbours. Here a connection has a whole window for
//! each of its subscriptions. Pings find out that the other end is gone; they are not sent for the SDK's other calls,
//! since those have time limits.

use std::time::Duration;

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::{Builder, Client, connect::HttpConnector as TcpConnector},
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioTimer},
};

use super::proxy::{Route, is_passable};

/// What a subscription on the first connection may have sent and we have not read. A shard pushes 2 MiB a second, which is
/// 2.8 MB in the base64 and JSON of its events, and half a window is used up before any of it is given back: this is enough
/// for 94 ms between a byte and its acknowledgement.
const WIDEST_WINDOW_BYTES: u32 = 512 * 1024;
/// The same on a fourth connection, and those that follow: HTTP/2's own default. The windows of shards that are not
/// processed are full, beside the byte budget, and hundreds of shards never send at their full rate at once.
const LEAST_WINDOW_BYTES: u32 = 64 * 1024;
/// The read buffer of HTTP/1.1, which is what plain `http` endpoints speak: a connection has one, and another while
/// something is left of the last. The default is 408 KiB.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// When the operating system asks whether a connection of HTTP/1.1 is still there.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Makes a client for each connection; they share the trusted certificates.
#[derive(Clone)]
pub(super) struct HttpClients {
    connector: HttpsConnector<Route>,
    builder: Builder,
    streams_per_connection: usize,
}

impl HttpClients {
    /// `None` where the SDK's client has to do: connections go through a proxy of a kind that only that knows, or the
    /// system's certificates cannot be read, which the SDK will report.
    pub(super) fn new(connect_timeout: Duration, streams_per_connection: usize, ping_interval: Duration, region: &str) -> Option<Self> {
        let proxies = Matcher::from_env();
        if !is_passable(&proxies, region) {
            tracing::warn!(
                "subscriptions go through a proxy that is not an HTTP one, by the SDK's HTTP client: two to a connection, and without pings"
            );
            return None;
        }
        Self::through(proxies, connect_timeout, streams_per_connection, ping_interval)
    }

    #[cfg(test)]
    fn direct(connect_timeout: Duration, streams_per_connection: usize, ping_interval: Duration) -> Option<Self> {
        Self::through(Matcher::builder().build(), connect_timeout, streams_per_connection, ping_interval)
    }

    fn through(proxies: Matcher, connect_timeout: Duration, streams_per_connection: usize, ping_interval: Duration) -> Option<Self> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider()).ok()?;
        let connector = tls.https_or_http().enable_http1().enable_http2().wrap_connector(Route::new(tcp, proxies));
        Some(Self { connector, builder: builder(ping_interval), streams_per_connection })
    }

    /// A client with a connection of its own, beside so many others.
    pub(super) fn connect(&self, others: usize) -> SubscriptionHttp {
        let window = stream_window(others);
        // One window more than streams: what comes for a stream that was just closed counts, too.
        let streams = u32::try_from(self.streams_per_connection).unwrap_or(u32::MAX).saturating_add(1);
        // The protocol's limit is 2^31 - 1.
        let of_connection = window.saturating_mul(streams).min(i32::MAX.unsigned_abs());
        let mut builder = self.builder.clone();
        builder.http2_initial_stream_window_size(window).http2_initial_connection_window_size(of_connection);
        SubscriptionHttp(builder.build(self.connector.clone()))
    }
}

/// The window of a stream on a connection beside so many others.
fn stream_window(others: usize) -> u32 {
    let halvings = u32::try_from(others).unwrap_or(u32::MAX);
    WIDEST_WINDOW_BYTES.checked_shr(halvings).unwrap_or(0).max(LEAST_WINDOW_BYTES)
}

fn builder(ping_interval: Duration) -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(HTTP1_BUFFER_BYTES)
        .http2_keep_alive_interval(ping_interval)
        .http2_keep_alive_timeout(ping_interval);
    builder
}

/// An HTTP client that the SDK calls.
#[derive(Debug, Clone)]
pub(super) struct SubscriptionHttp(Client<HttpsConnector<Route>, SdkBody>);

impl HttpClient for SubscriptionHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SubscriptionHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let response = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x)).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use aws_smithy_types::byte_stream::ByteStream;
    use bytes::Bytes;
    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::{Request, Response, body::Frame, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    const STREAMS: usize = 50;
    const PING_INTERVAL: Duration = Duration::from_secs(10);

    /// A server that never stops to send, whatever it is asked; where it is, and its task.
    async fn endless() -> (String, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (socket, _) = listener.accept().await.expect("a client");
            let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 16 * 1024])));
                Ok::<_, Infallible>(Response::new(StreamBody::new(stream::repeat_with(frame))))
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(1000);
            drop(server.serve_connection(TokioIo::new(socket), service).await);
        });
        (format!("http://{address}/"), serving)
    }

    #[test]
    fn windows_are_wide_for_few_and_small_for_very_many() {
        assert_eq!([0, 1, 2, 3, 4, 1000].map(|others| stream_window(others) / 1024), [512, 256, 128, 64, 64, 64]);
        let of_subscriptions = |count: usize| (0..count).map(|n| u64::from(stream_window(n / STREAMS))).sum::<u64>() / (1024 * 1024);
        assert_eq!([16, 200, 1000].map(of_subscriptions), [8, 46, 96], "MiB");
    }

    #[tokio::test]
    async fn streams_that_nobody_reads_take_no_window_from_others() {
        let (address, _serving) = endless().await;
        let mut clients = HttpClients::direct(Duration::from_secs(3), STREAMS, PING_INTERVAL).expect("trusted certificates");
        // On clear text nothing tells that the server speaks HTTP/2.
        clients.builder.http2_only(true);
        let client = clients.connect(0);
        let open = async || {
            let request = HttpRequest::try_from(Request::get(&address).body(SdkBody::empty()).expect("valid")).expect("valid");
            ByteStream::new(client.call(request).await.expect("answered").into_body())
        };
        let reading = async {
            let mut stuck = Vec::new();
            for _ in 1..STREAMS {
                let mut stream = open().await;
                drop(stream.next().await);
                stuck.push(stream);
            }
            let mut read = 0;
            let mut stream = open().await;
            while read < 16 * 1024 * 1024 {
                read += stream.next().await.expect("endless").expect("readable").len();
            }
        };
        // Passes in less than a second of a slow machine, or never.
        tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the window of the connection is used up");
    }
}
