//! TLS through rustls: certificates from PEM, sessions over non-blocking sockets. The same events that drive connections
//! also drive the handshake. Compiled only with the feature `tls`; a plain listener never runs it.

use crate::transport::{receive, transmit};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Builds the configuration of new connections from a certificate chain and its key, both PEM.
pub(crate) fn config(
    certificate: &[u8],
    private_key: &[u8],
) -> Result<Arc<ServerConfig>, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
    if chain.is_empty() {
        return Err("there is no PEM certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no PEM private key in it".to_owned(),
        error => format!("the private key: {error}"),
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "the private key isn't the certificate's".to_owned(),
            error => error.to_string(),
        })?;
    // An HTTP/1.0 client may name its version too (as curl --http1.0 does), and would be refused without the second entry.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    Ok(Arc::new(config))
}

/// The TLS state of one connection.
pub(crate) struct Session(ServerConnection);

impl Session {
    pub(crate) fn new(config: Arc<ServerConfig>) -> io::Result<Session> {
        ServerConnection::new(config).map(Session).map_err(io::Error::other)
    }

    /// Reads plaintext, and continues the handshake if it isn't done.
    pub(crate) fn read(&mut self, fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The connection was closed without a `close_notify`. HTTP's own framing shows whether something is
                // missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            let count = self.0.read_tls(&mut Wire(fd))?;
            let processed = self.0.process_new_packets();
            match self.flush(fd) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            if count == 0 && self.0.is_handshaking() {
                return Ok(0);
            }
        }
    }

    /// Encrypts what fits into the session's buffer, and sends what the socket takes of it.
    pub(crate) fn write(&mut self, fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        self.flush(fd)?;
        let count = self.0.writer().write(bytes)?;
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.flush(fd) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    pub(crate) fn flush(&mut self, fd: &OwnedFd) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(&mut Wire(fd))?;
        }
        Ok(())
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    pub(crate) fn is_unflushed(&self) -> bool {
        self.0.wants_write()
    }

    /// Sends `close_notify`, if there is room for it.
    pub(crate) fn say_goodbye(&mut self, fd: &OwnedFd) {
        self.0.send_close_notify();
        let _ = self.flush(fd);
    }
}

/// The socket with the traits that rustls needs.
struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(self.0, buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        transmit(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
