//! The way to the service: straight, or through the proxy that the environment names.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not, are read as curl and the SDK do. Through a
//! proxy goes a tunnel (`CONNECT`), inside of which all is as without one: TLS, HTTP/2, windows and pings.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use aws_smithy_runtime_api::box_error::BoxError;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::Uri;
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector as TcpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

/// Makes connections.
#[derive(Debug, Clone)]
pub(super) struct Route {
    tcp: TcpConnector,
    proxies: Arc<Matcher>,
}

impl Route {
    pub(super) fn new(tcp: TcpConnector, proxies: Matcher) -> Self {
        Self { tcp, proxies: Arc::new(proxies) }
    }
}

/// Whether the proxy before the service of a region, if there is one, is spoken to in plain HTTP. Those that want TLS
/// themselves, or are no HTTP proxies, are left to the SDK's client.
pub(super) fn is_passable(proxies: &Matcher, region: &str) -> bool {
    ["https", "http"].into_iter().all(|scheme| {
        let endpoint = format!("{scheme}://kinesis.{region}.amazonaws.com/").parse::<Uri>();
        let proxy = endpoint.ok().and_then(|endpoint| proxies.intercept(&endpoint));
        proxy.is_none_or(|proxy| proxy.uri().scheme_str() == Some("http"))
    })
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, service: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&service) else {
            return self.tcp.call(service).map_err(Into::into).boxed();
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        tunnel.call(service).map_err(Into::into).boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        (listener, address)
    }

    fn route(proxies: Matcher) -> Route {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        Route::new(tcp, proxies)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_tunnel_with_name_and_password() {
        let (proxy, address) = listen().await;
        let mut route = route(Matcher::builder().https(format!("http://me:secret@{address}")).build());
        let service = "https://kinesis.eu-central-1.amazonaws.com/".parse().expect("valid");
        let asked = async {
            let (mut socket, _) = proxy.accept().await.expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                socket.read_buf(&mut asked).await.expect("a request");
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("still open");
            (socket, String::from_utf8(asked).expect("text").to_lowercase())
        };
        let ((mut socket, asked), connected) = futures::join!(asked, route.call(service));
        assert!(asked.starts_with("connect kinesis.eu-central-1.amazonaws.com:443 http/1.1"), "{asked}");
        assert!(asked.contains("proxy-authorization: basic bwu6c2vjcmv0"), "{asked}");
        socket.write_all(b"hello").await.expect("still open");
        let mut said = [0; 5];
        connected.expect("connected").inner_mut().read_exact(&mut said).await.expect("open");
        assert_eq!(&said, b"hello", "what follows is between us and the service");
    }

    #[tokio::test]
    async fn what_no_proxy_names_is_gone_to_directly() {
        let ((service, address), (_proxy, elsewhere)) = (listen().await, listen().await);
        let mut route = route(Matcher::builder().all(format!("http://{elsewhere}")).no("127.0.0.1,.amazonaws.com").build());
        let endpoint = format!("https://{address}/").parse().expect("valid");
        let (accepted, connected) = futures::join!(service.accept(), route.call(endpoint));
        let connected = connected.expect("connected").into_inner().local_addr().expect("open");
        assert_eq!(accepted.expect("a client").1, connected);
    }

    #[test]
    fn proxies_of_other_kinds_are_not_for_us_unless_they_are_not_in_the_way() {
        let region = "eu-central-1";
        let all = |proxy: &str| Matcher::builder().all(proxy.to_owned());
        assert!(is_passable(&Matcher::builder().build(), region));
        assert!(is_passable(&all("http://proxy:3128").build(), region));
        assert!(is_passable(&all("proxy:3128").build(), region));
        for other in ["socks5://proxy:1080", "https://proxy:3128"] {
            assert!(!is_passable(&all(other).build(), region), "{other}");
            assert!(is_passable(&all(other).no(".amazonaws.com").build(), region), "{other}");
        }
    }
}
