//! How connections come in: accept, count, place in the table, register with epoll. Runs on the thread that takes the
//! listener's event, and on the keeper after a failed accept. Never reads from a connection.

use crate::conn::Conn;
use crate::fault::Fault;
use crate::hub::Hub;
use crate::intake::Intake;
use crate::transport::Transport;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Most connections that a thread accepts before it handles other events.
const ARRIVALS_MAX: usize = 64;

impl Hub {
    /// Accepts waiting connections. If descriptors or memory run out, the keeper accepts the rest later.
    pub(crate) fn accept_waiting(self: &Arc<Hub>) {
        let guard = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listener) = guard.as_ref() else { return };
        for _ in 0..ARRIVALS_MAX {
            match listener.accept() {
                Ok((fd, peer)) => self.welcome(fd, peer),
                Err(Errno::WOULDBLOCK) => {
                    self.is_accept_stalled.store(false, Ordering::Release);
                    return;
                }
                // The client left before it was accepted, or the network reported an earlier error: nothing is wrong with
                // the listener.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::NETDOWN | Errno::HOSTUNREACH) => {}
                Err(_) => {
                    self.stats.add_accept_error();
                    self.is_accept_stalled.store(true, Ordering::Release);
                    self.wake_keeper();
                    return;
                }
            }
        }
        self.rewatch_listener(listener);
    }

    fn welcome(self: &Arc<Hub>, fd: OwnedFd, peer: Option<SocketAddr>) {
        self.stats.add_accepted();
        let is_farewell = !self.table.enter();
        let is_secure = self.is_secure();
        if is_farewell && is_secure {
            // No 503 here: sending it would take a TLS handshake, for which there is no capacity.
            self.stats.add_refused(Fault::TOO_MANY_CONNECTIONS.status);
            return;
        }
        let Ok(mut transport) = self.transport(fd) else {
            return if !is_farewell {
                self.table.leave()
            };
        };
        if is_farewell && self.table.is_full() {
            self.stats.add_refused(Fault::TOO_MANY_CONNECTIONS.status);
            let _ = transport.write(&self.refusal_of(Fault::TOO_MANY_CONNECTIONS, None, &[]));
            return;
        }
        let intake = Intake::new(Arc::clone(&self.bodies));
        let inserted = self.table.insert(|id| Conn::new(id, peer, (is_secure, is_farewell), transport, intake));
        let Some(conn) = inserted else {
            if !is_farewell {
                self.table.leave();
            }
            return;
        };
        self.stats.opened();
        self.set_deadline(conn.id, self.limits.head_timeout);
        self.wake_sleeping_keeper();
        // Claimed before an event can name it, so that the refusal is the first thing that happens to it.
        let is_ours = is_farewell && conn.claim();
        let mut inner = conn.inner();
        let watched = self.watch_conn(inner.transport.fd(), conn.id);
        if is_ours {
            self.refuse(&conn, &mut inner, Fault::TOO_MANY_CONNECTIONS);
        } else if watched.is_err() && conn.claim() {
            self.close(&conn, &mut inner);
        }
        drop(inner);
        if is_ours {
            let request = self.advance(&conn);
            assert!(request.is_none(), "a refused connection brings no request");
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn is_secure(&self) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    fn transport(&self, fd: OwnedFd) -> std::io::Result<Transport> {
        let Some(tls) = &self.tls else { return Ok(Transport::plain(fd)) };
        let config = Arc::clone(&tls.read().unwrap_or_else(PoisonError::into_inner));
        Ok(Transport::tls(fd, crate::tls::Session::new(config)?))
    }

    #[cfg(not(feature = "tls"))]
    fn transport(&self, fd: OwnedFd) -> std::io::Result<Transport> {
        Ok(Transport::plain(fd))
    }
}
