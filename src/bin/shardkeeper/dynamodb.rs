//! DynamoDB beside the local Kinesis: dynoxide on a runtime of its own, since its SQLite calls block their thread.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use dynoxide::{Database, server::serve_with_shutdown};
use shardkeeper::{Error, ErrorKind, Result};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long [`DynamoDb::stop`] lets running requests finish.
const DRAIN: Duration = Duration::from_secs(3);

/// A running server.
pub(crate) struct DynamoDb {
    runtime: Runtime,
    local_addr: SocketAddr,
    stopping: CancellationToken,
    ended: JoinHandle<()>,
}

impl DynamoDb {
    /// Serves the tables in `file`, or tables in memory, at `addr`.
    pub(crate) fn start(addr: SocketAddr, file: Option<&Path>) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("dynamodb").enable_all().build();
        let runtime = runtime.map_err(|e| Error::new(ErrorKind::Unavailable, "cannot start the threads of DynamoDB").with_source(e))?;
        let database = open(file)?;
        let listener = runtime.block_on(TcpListener::bind(addr)).map_err(|e| cannot_listen(addr, e))?;
        let local_addr = listener.local_addr().map_err(|e| cannot_listen(addr, e))?;
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        let ended = runtime.handle().spawn(async move {
            if let Err(error) = serve_with_shutdown(listener, database, stopped).await {
                tracing::error!(%error, "local DynamoDB failed");
            }
        });
        Ok(Self { runtime, local_addr, stopping, ended })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits for its end, which comes early only when it fails.
    pub(crate) async fn ended(&mut self) {
        // A panic is over as well; the runtime has printed it.
        drop((&mut self.ended).await);
    }

    pub(crate) fn stop(self) {
        self.stopping.cancel();
        let (done, wait) = oneshot::channel::<()>();
        let ended = self.ended;
        drop(self.runtime.handle().spawn(async move {
            drop(tokio::time::timeout(DRAIN, ended).await);
            drop(done);
        }));
        // Either way the channel closes: when the server has ended, or after the time limit.
        drop(wait.blocking_recv());
        self.runtime.shutdown_background();
    }
}

fn open(file: Option<&Path>) -> Result<Database> {
    match file {
        None => Database::memory().map_err(|e| Error::new(ErrorKind::Unavailable, format!("cannot make DynamoDB tables in memory: {e}"))),
        Some(path) => {
            let bad = |what: String| {
                let fix = "choose a directory that this user can write with --data-dir, or remove the file";
                Error::new(ErrorKind::InvalidInput, format!("cannot open the DynamoDB file {}: {what}: {fix}", path.display()))
            };
            let text = path.to_str().ok_or_else(|| bad("the path is not UTF-8".to_owned()))?;
            Database::new(text).map_err(|e| bad(e.to_string()))
        }
    }
}

fn cannot_listen(addr: SocketAddr, error: io::Error) -> Error {
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use: stop the program that has it, or choose another with --dynamodb-port (0 takes any free one)"
        }
        _ => "choose another with --host and --dynamodb-port",
    };
    Error::new(ErrorKind::InvalidInput, format!("DynamoDB cannot listen on {addr}: {fix}")).with_source(error)
}
