//! Opens the socket of `serve`: passed by a supervisor, at a path or at an address, with or without a certificate. Raises
//! the limit of descriptors for the allowed connections. Runs on the main thread, at start-up and at each SIGHUP.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};
use tiny_http::{ConfigListenAddr, Limits, Listener, Server, SslConfig};

use crate::config::{Config, TlsFiles};
use crate::types::StartupError;
use crate::types::limits::{BODY_BYTES_MAX, DESCRIPTORS_SPARE};

/// Starts the HTTP server on `listener`.
///
/// # Errors
/// The certificate or the socket can't be used.
pub fn listen(config: &Config, listener: Listener) -> Result<Server, StartupError> {
    let limits = Limits { body_bytes_max: BODY_BYTES_MAX, ..Limits::default() };
    raise_descriptor_limit(limits.connections_max + DESCRIPTORS_SPARE);
    let ssl = config.tls.as_ref().map(certificate).transpose()?;
    let server = Server::from_listener_with_limits(listener, ssl, limits);
    server.map_err(|error| StartupError::Listen { addr: config.listen_addr(), reason: error.to_string() })
}

/// Binds a socket at the configured address or path.
///
/// # Errors
/// The address can't be used.
pub fn bind(config: &Config) -> Result<Listener, StartupError> {
    let addr = config.listen_addr();
    let failed = |error: std::io::Error| StartupError::Listen { addr: addr.clone(), reason: error.to_string() };
    address(config).and_then(|addr| addr.bind()).map_err(failed)
}

/// The path of a Unix-domain socket that this process bound. The file is removed when this value is dropped.
pub struct OwnPath<'a>(pub &'a Path);

impl Drop for OwnPath<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

fn address(config: &Config) -> std::io::Result<ConfigListenAddr> {
    match config.unix_path() {
        Some(path) => Ok(ConfigListenAddr::unix_from_path(path)),
        None => ConfigListenAddr::from_socket_addrs(config.listen_addr().as_str()),
    }
}

/// The socket that a supervisor or systemd opened for this process (`LISTEN_FDS`, `LISTEN_PID`). Must be called once and
/// before other threads start, because it removes these variables from the environment.
///
/// # Errors
/// The descriptor that was passed is no listening stream socket.
pub fn handed_over() -> Result<Option<Listener>, StartupError> {
    Listener::from_env()
        .map_err(|error| StartupError::Config { name: "LISTEN_FDS".to_owned(), reason: error.to_string() })
}

/// Reads the certificate and the key, and checks that they belong together.
///
/// # Errors
/// A file can't be read or isn't PEM, or the key doesn't belong to the certificate.
pub fn certificate(files: &TlsFiles) -> Result<SslConfig, StartupError> {
    let refused = |name: &str, path: &Path, reason: &dyn std::fmt::Display| StartupError::Config {
        name: name.to_owned(),
        reason: format!("{}: {reason}", path.display()),
    };
    let read = |name, path: &Path| std::fs::read(path).map_err(|error| refused(name, path, &error));
    let ssl = SslConfig { certificate: read("--tls-cert", &files.cert)?, private_key: read("--tls-key", &files.key)? };
    let both = format!("{} with {}", files.cert.display(), files.key.display());
    ssl.check().map_err(|error| refused("--tls-cert", Path::new(&both), &error))?;
    Ok(ssl)
}

/// At SIGHUP: new connections get the certificate that is now in the files. If it can't be used, the old one stays.
pub fn reload_certificate(server: &Server, files: &TlsFiles) {
    let reloaded = certificate(files).map_err(|error| error.to_string());
    match reloaded.and_then(|ssl| server.reload_tls(&ssl).map_err(|error| error.to_string())) {
        Ok(()) => tracing::info!(file = %files.cert.display(), "certificate reloaded"),
        Err(error) => tracing::error!(error, "certificate not reloaded, the old one stays"),
    }
}

/// Raises the soft limit of descriptors to `wanted`, or as far as the hard limit allows.
fn raise_descriptor_limit(wanted: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    // `None`: there is no limit.
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    limit.current = Some(allowed);
    let raised = setrlimit(Resource::Nofile, limit);
    if raised.is_err() || allowed < wanted {
        tracing::warn!(
            limit = getrlimit(Resource::Nofile).current,
            wanted,
            "too few file descriptors (ulimit -n) for all connections: some will have to wait for others to close"
        );
    }
}

/// The address of the server, as a URL or as `unix:PATH`.
pub fn reachable_at(config: &Config, server: &Server) -> String {
    let addr = server.server_addr();
    if let Some(ip) = addr.clone().to_ip() {
        return format!("{}://{ip}", scheme(config));
    }
    match addr.to_unix().as_ref().and_then(|addr| addr.as_pathname()) {
        Some(path) => format!("unix:{}", path.display()),
        None => "a Unix-domain socket without a path".to_owned(),
    }
}

/// Arguments with which curl on this machine reaches the server.
pub fn curl_arguments(config: &Config, server: &Server) -> String {
    let scheme = scheme(config);
    match server.server_addr().to_ip() {
        Some(addr) => format!("{scheme}://{}", local(addr)),
        None => match reachable_at(config, server).strip_prefix("unix:") {
            Some(path) => format!("--unix-socket {path} {scheme}://localhost"),
            None => format!("{scheme}://localhost"),
        },
    }
}

fn scheme(config: &Config) -> &'static str {
    if config.tls.is_some() { "https" } else { "http" }
}

/// `addr`, with the loopback address in place of an unspecified one, which means all addresses.
fn local(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
