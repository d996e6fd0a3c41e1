//! The public interface of a server: listen, hand out requests, count, end. Every thread may call every method.

use crate::hub::{Hub, Received};
use crate::keeper;
use crate::limits::Limits;
use crate::listener::{ConfigListenAddr, ListenAddr, Listener};
use crate::refusal::{Refusal, Refused};
use crate::request::Request;
use crate::stats::Stats;
use std::error::Error;
use std::io;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

/// Why a server can't start.
pub type StartError = Box<dyn Error + Send + Sync + 'static>;

/// Where a server listens, and with which certificate.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub addr: ConfigListenAddr,
    /// TLS, if wanted. If the crate was built without the feature `tls`, starting fails.
    pub ssl: Option<SslConfig>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone)]
pub struct SslConfig {
    /// The chain, the server's own certificate first.
    pub certificate: Vec<u8>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub private_key: Vec<u8>,
}

impl SslConfig {
    /// Checks that both parts can be read and belong together.
    ///
    /// # Errors
    /// What is wrong, or that the crate was built without the feature `tls`.
    pub fn check(&self) -> Result<(), StartError> {
        #[cfg(feature = "tls")]
        return crate::tls::config(&self.certificate, &self.private_key).map(|_| ());
        #[cfg(not(feature = "tls"))]
        return Err(NO_TLS.into());
    }
}

#[cfg(not(feature = "tls"))]
const NO_TLS: &str = "this build has no TLS: the feature `tls` is off";

impl std::fmt::Debug for SslConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SslConfig(..)")
    }
}

/// A listening server. When it is dropped, it stops listening and closes its idle connections. Requests that workers hold
/// can still be answered.
pub struct Server {
    hub: Arc<Hub>,
    addr: ListenAddr,
    /// Whether this server bound a path in the file system, which it then removes.
    owns_path: bool,
}

impl Server {
    /// Listens on the first of `addr` that can be bound, with the default limits.
    pub fn http<A: ToSocketAddrs>(addr: A) -> Result<Server, StartError> {
        Server::new(ServerConfig { addr: ConfigListenAddr::from_socket_addrs(addr)?, ssl: None })
    }

    /// Like `http`, with TLS.
    pub fn https<A: ToSocketAddrs>(addr: A, config: SslConfig) -> Result<Server, StartError> {
        Server::new(ServerConfig { addr: ConfigListenAddr::from_socket_addrs(addr)?, ssl: Some(config) })
    }

    /// Listens on a Unix-domain socket.
    pub fn http_unix(path: impl Into<PathBuf>) -> Result<Server, StartError> {
        Server::new(ServerConfig { addr: ConfigListenAddr::unix_from_path(path), ssl: None })
    }

    /// Listens as configured, with the default limits.
    pub fn new(config: ServerConfig) -> Result<Server, StartError> {
        Server::with_limits(config, Limits::default())
    }

    /// Listens as configured, within `limits`.
    pub fn with_limits(config: ServerConfig, limits: Limits) -> Result<Server, StartError> {
        Server::start(config.addr.bind()?, config.ssl, limits, true)
    }

    /// Serves on an existing listener, with the default limits.
    pub fn from_listener<L: Into<Listener>>(listener: L, ssl: Option<SslConfig>) -> Result<Server, StartError> {
        Server::from_listener_with_limits(listener, ssl, Limits::default())
    }

    /// Serves on an existing listener, such as [`Listener::from_env`]'s, within `limits`.
    pub fn from_listener_with_limits<L: Into<Listener>>(
        listener: L,
        ssl: Option<SslConfig>,
        limits: Limits,
    ) -> Result<Server, StartError> {
        Server::start(listener.into(), ssl, limits, false)
    }

    fn start(
        listener: Listener,
        ssl: Option<SslConfig>,
        limits: Limits,
        owns_path: bool,
    ) -> Result<Server, StartError> {
        let addr = listener.local_addr()?;
        let hub = Arc::new(with_tls(Hub::new(listener, limits)?, ssl)?);
        let kept = Arc::clone(&hub);
        let keeper = thread::Builder::new().name("http-keeper".into()).spawn(move || keeper::run(&kept))?;
        let _ = hub.keeper.set(keeper.thread().clone());
        Ok(Server { hub, addr, owns_path })
    }

    /// Waits for a request. Any number of threads may wait; each request wakes one of them and no other.
    ///
    /// # Errors
    /// [`Server::unblock`] was called, or the kernel refuses to wait.
    pub fn recv(&self) -> io::Result<Request> {
        match self.hub.recv(None)? {
            Received::Request(request) => Ok(request),
            Received::TimeUp | Received::Unblocked => Err(io::Error::other("thread unblocked")),
        }
    }

    /// Waits for a request, at most for `timeout`. `Ok(None)`: the time is up, or the thread was unblocked.
    pub fn recv_timeout(&self, timeout: Duration) -> io::Result<Option<Request>> {
        match self.hub.recv(Some(timeout))? {
            Received::Request(request) => Ok(Some(request)),
            Received::TimeUp | Received::Unblocked => Ok(None),
        }
    }

    /// A request, if one is there already. Doesn't wait.
    pub fn try_recv(&self) -> io::Result<Option<Request>> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Makes one thread return from `recv` with an error: one that waits, or the next that calls.
    pub fn unblock(&self) {
        self.hub.unblock();
    }

    /// The requests, one after the other, until unblocked.
    pub fn incoming_requests(&self) -> IncomingRequests<'_> {
        IncomingRequests { server: self }
    }

    /// The address it listens on, with the assigned port if port 0 was asked for.
    pub fn server_addr(&self) -> ListenAddr {
        self.addr.clone()
    }

    /// The number of open connections, without connections that get a 503.
    pub fn num_connections(&self) -> usize {
        self.hub.table.guests()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.hub.stats
    }

    /// Lets `shape` write the answers to requests that this crate refuses. The first call decides; later ones are ignored.
    /// It runs on the thread that refuses, and must not wait.
    pub fn shape_refusals(&self, shape: impl Fn(&Refused<'_>) -> Refusal + Send + Sync + 'static) {
        let _ = self.hub.shape.set(Box::new(shape));
    }

    /// The limits it runs within.
    pub fn limits(&self) -> &Limits {
        &self.hub.limits
    }

    /// Stops listening, closes idle connections, and lets every further answer close its connection. Requests that are
    /// complete or arriving are still served. Can't be undone.
    pub fn drain(&self) {
        self.hub.is_draining.store(true, Ordering::Release);
        let listener = self.hub.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener
            && self.owns_path
        {
            listener.unlink();
        }
        self.hub.wake_keeper();
    }

    /// Uses another certificate for new connections. Existing ones keep theirs.
    ///
    /// # Errors
    /// The certificate can't be used; the old one stays.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self, config: &SslConfig) -> Result<(), StartError> {
        let tls = self.hub.tls.as_ref().ok_or("this server was started without TLS")?;
        let config = crate::tls::config(&config.certificate, &config.private_key)?;
        *tls.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Always an error: the crate was built without the feature `tls`.
    #[cfg(not(feature = "tls"))]
    pub fn reload_tls(&self, _: &SslConfig) -> Result<(), StartError> {
        Err(NO_TLS.into())
    }
}

#[cfg(feature = "tls")]
fn with_tls(mut hub: Hub, ssl: Option<SslConfig>) -> Result<Hub, StartError> {
    if let Some(ssl) = ssl {
        hub.tls = Some(std::sync::RwLock::new(crate::tls::config(&ssl.certificate, &ssl.private_key)?));
    }
    Ok(hub)
}

#[cfg(not(feature = "tls"))]
fn with_tls(hub: Hub, ssl: Option<SslConfig>) -> Result<Hub, StartError> {
    if ssl.is_some() { Err(NO_TLS.into()) } else { Ok(hub) }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.is_abandoned.store(true, Ordering::Release);
        self.drain();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({}, {} connections)", self.addr, self.num_connections())
    }
}

/// An iterator over a server's requests, which waits for the next one.
#[derive(Debug)]
pub struct IncomingRequests<'a> {
    server: &'a Server,
}

impl Iterator for IncomingRequests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.server.recv().ok()
    }
}
