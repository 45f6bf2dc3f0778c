//! TLS in front of the local server, which speaks none: what a client meets at the service's own endpoint.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer},
};
use tokio_util::sync::CancellationToken;

use crate::rig::Result;

/// Decrypts and passes on what comes, connection by connection.
#[derive(Debug)]
pub(super) struct Front {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
    _accepting: JoinSet<()>,
}

/// A connection whose handshake is done.
#[derive(Debug, Clone)]
struct Connection {
    /// What was negotiated, such as `h2`.
    protocol: String,
    frozen: CancellationToken,
}

impl Front {
    /// Starts with a certificate for `host`, whose authority is written to the file.
    pub(super) async fn start(server: SocketAddr, host: &str, authority: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        // By its name a client knows whether it has ever heard of it.
        params.distinguished_name.push(DnType::CommonName, authority.display().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(authority, issuer.pem())?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &issuer)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions()?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), server, Arc::clone(&connections)));
        Ok(Self { address, connections, _accepting: accepting })
    }

    /// Where it is, by the address that its certificate is for.
    pub(super) fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What each connection so far speaks.
    pub(super) fn protocols(&self) -> Vec<String> {
        self.all().into_iter().map(|connection| connection.protocol).collect()
    }

    /// Makes all present connections half-open: nothing comes through any more, in either direction, and nothing says so.
    /// How many there were.
    pub(super) fn freeze(&self) -> usize {
        let all = self.all();
        all.iter().for_each(|connection| connection.frozen.cancel());
        all.len()
    }

    fn all(&self) -> Vec<Connection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: SocketAddr, connections: Arc<Mutex<Vec<Connection>>>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // For want of file descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        open.spawn(pass(socket, acceptor.clone(), server, Arc::clone(&connections)));
    }
}

async fn pass(socket: TcpStream, acceptor: TlsAcceptor, server: SocketAddr, connections: Arc<Mutex<Vec<Connection>>>) {
    // A client that does not trust the certificate goes away here.
    let (Ok(mut client), Ok(mut server)) = (acceptor.accept(socket).await, TcpStream::connect(server).await) else { return };
    let protocol = client.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let connection = Connection { protocol, frozen: CancellationToken::new() };
    connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
    tokio::select! {
        biased;
        () = connection.frozen.cancelled() => std::future::pending().await,
        // However it ends, both sides see it.
        _ = copy_bidirectional(&mut client, &mut server) => {}
    }
}
