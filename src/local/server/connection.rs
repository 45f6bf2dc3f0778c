//! A connection that can be reset: the client then sees what a broken network shows it, and no orderly end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// A handle to break a connection off.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection {
    broken: CancellationToken,
    reset: Arc<AtomicBool>,
}

impl Connection {
    /// The socket as this connection's.
    pub(super) fn wire(&self, socket: TcpStream) -> Wire {
        Wire { socket, reset: Arc::clone(&self.reset) }
    }

    /// Resets the connection with all its requests; the caller's own ends here.
    pub(super) async fn reset(&self) -> ! {
        self.reset.store(true, Ordering::SeqCst);
        self.broken.cancel();
        std::future::pending().await
    }

    /// Waits until it is reset.
    pub(super) async fn broken(&self) {
        self.broken.cancelled().await;
    }
}

/// A socket that says RST instead of FIN when it is dropped after a reset.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // A socket that refuses is closed in order, which breaks the request off as well.
            drop(self.socket.set_zero_linger());
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
