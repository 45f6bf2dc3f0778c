//! The local stream behind the wire protocol of the service, for any AWS SDK.
//!
//! One port speaks HTTP/1.1 and clear-text HTTP/2 with prior knowledge, and on both awsJson 1.1
//! (`application/x-amz-json-1.1`: most SDKs) and CBOR (`application/x-amz-cbor-1.1`: the SDK for Java). Any
//! signature is accepted; a request without one is refused as the service refuses it.
//!
//! ```text
//! connection ─ http.rs: method, target, signature, size ─ operations/: table of names ─── one file per group ─ LocalKinesis
//!                  ├─ protocol.rs: body to input, output to body (JSON, CBOR)
//!                  ├─ subscription.rs: events as they come, in the framing of event_stream.rs
//!                  └─ faults/: what goes wrong on demand; admin.rs: over HTTP
//! ```

mod admin;
mod connection;
mod event_stream;
mod fault;
mod faults;
mod http;
mod member;
mod operations;
mod protocol;
mod subscription;

use std::{
    fmt::{Debug, Formatter},
    io::ErrorKind as IoErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use self::faults::{ActiveFault, FaultKind, FaultRule, Faults};
use self::{connection::Connection, http::Endpoint};
use super::LocalKinesis;
use crate::{
    error::{Error, ErrorKind, Result},
    random::Randomness,
    task::{Spawner, Task},
};

/// How long [`LocalServer::stop`] lets running requests finish.
const DRAIN: Duration = Duration::from_secs(5);

/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// HTTP/2 requests of one connection at a time; the SDK for Java opens one connection for many shards.
const MAX_CONCURRENT_STREAMS: u32 = 1000;

/// A running server; it ends when stopped or dropped.
pub struct LocalServer {
    local_addr: SocketAddr,
    stopping: CancellationToken,
    faults: Faults,
    accept: Task<()>,
}

impl LocalServer {
    /// Starts to serve `kinesis` at `addr`, on the runtime of the caller. Port 0 takes any free port. Nothing but
    /// loopback should be bound unless the network is trusted: no signature is checked.
    ///
    /// # Errors
    /// `InvalidInput` when the address cannot be bound: in use, not of this machine, or not permitted.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub async fn bind(addr: SocketAddr, kinesis: LocalKinesis) -> Result<Self> {
        Self::bind_with(addr, kinesis, &Spawner::current(), Randomness::from_system()).await
    }

    /// As [`LocalServer::bind`], with the source of request ids and the place where its accept task runs.
    ///
    /// # Errors
    /// As [`LocalServer::bind`].
    pub async fn bind_with(addr: SocketAddr, kinesis: LocalKinesis, spawner: &Spawner, randomness: Randomness) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.map_err(|e| cannot_listen(addr, e))?;
        let local_addr = listener.local_addr().map_err(|e| cannot_listen(addr, e))?;
        let stopping = CancellationToken::new();
        let faults = Faults::default();
        let endpoint = Arc::new(Endpoint::new(kinesis, randomness, faults.clone(), stopping.clone()));
        let accept = spawner.spawn("local-server", accept(listener, endpoint, stopping.clone()));
        Ok(Self { local_addr, stopping, faults, accept })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its fault rules; the admin endpoint changes the same.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What to set as `AWS_ENDPOINT_URL_KINESIS`, such as `http://127.0.0.1:4567`.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        let mut addr = self.local_addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("http://{addr}")
    }

    /// Takes no more connections, lets running requests finish within five seconds, and ends.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        // A failure here is a panic that the spawner has reported, and the server is gone in any case.
        drop(self.accept.join().await);
    }
}

impl Debug for LocalServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalServer({})", self.local_addr)
    }
}

fn cannot_listen(addr: SocketAddr, error: std::io::Error) -> Error {
    let fix = match error.kind() {
        IoErrorKind::AddrInUse => "the port is in use: stop the program that has it, or choose another (0 takes any free one)",
        IoErrorKind::PermissionDenied => "not permitted: choose a port from 1024",
        IoErrorKind::AddrNotAvailable => "the address is not of this machine: use 127.0.0.1",
        _ => "choose another address or port",
    };
    Error::new(ErrorKind::InvalidInput, format!("cannot listen on {addr}: {fix}")).with_source(error)
}

/// Owns all connections: they end with it.
async fn accept(listener: TcpListener, endpoint: Arc<Endpoint>, stopping: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve(socket, Arc::clone(&endpoint), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "local server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("local server stops with requests still running");
    }
}

async fn serve(socket: TcpStream, endpoint: Arc<Endpoint>, stopping: CancellationToken) {
    // Answers are written whole: waiting to fill a segment would only delay them. A socket that refuses works on.
    drop(socket.set_nodelay(true));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_CONCURRENT_STREAMS);
    let connection = Connection::default();
    let wire = TokioIo::new(connection.wire(socket));
    let of_requests = connection.clone();
    let service = service_fn(move |request| {
        let (endpoint, connection) = (Arc::clone(&endpoint), of_requests.clone());
        async move { endpoint.answer(request, &connection).await }
    });
    let exchange = builder.serve_connection(wire, service);
    tokio::pin!(exchange);
    let ended = tokio::select! {
        biased;
        () = connection.broken() => return,
        ended = exchange.as_mut() => ended,
        () = stopping.cancelled() => {
            exchange.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = connection.broken() => return,
                ended = exchange => ended,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection to the local server ended early");
    }
}
