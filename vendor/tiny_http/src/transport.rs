//! One socket, plain or TLS, never blocking: reads and writes return `WouldBlock` instead. Used by the thread that owns the
//! connection.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use crate::tls::Session;

/// A connected socket, plain or with TLS.
pub(crate) struct Transport {
    fd: OwnedFd,
    #[cfg(feature = "tls")]
    session: Option<Box<Session>>,
}

impl Transport {
    pub(crate) fn plain(fd: OwnedFd) -> Transport {
        Transport {
            fd,
            #[cfg(feature = "tls")]
            session: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(fd: OwnedFd, session: Session) -> Transport {
        Transport { fd, session: Some(Box::new(session)) }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether a read that returned fewer bytes than asked for has emptied the socket. With TLS that can't be concluded.
    pub(crate) fn short_read_means_empty(&self) -> bool {
        !self.is_secure()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn is_secure(&self) -> bool {
        false
    }

    /// Reads the bytes that are there; 0 means that the client closed its sending side.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            return session.read(&self.fd, buffer);
        }
        receive(&self.fd, buffer)
    }

    /// Takes as many of `bytes` as fit. With TLS they may be taken and not yet sent, see [`Transport::flush`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            return session.write(&self.fd, bytes);
        }
        transmit(&self.fd, bytes)
    }

    /// Sends bytes that [`Transport::write`] took and TLS still holds.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            return session.flush(&self.fd);
        }
        Ok(())
    }

    /// Whether [`Transport::flush`] has something to do.
    pub(crate) fn is_unflushed(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.session {
            return session.is_unflushed();
        }
        false
    }

    /// Whether an answer can be sent: not before a TLS handshake is complete.
    pub(crate) fn can_answer(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.session {
            return !session.is_handshaking();
        }
        true
    }

    /// Writes all of `bytes`, waiting for the client to read. Fails after `stall` without a byte taken.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8], stall: Duration) -> io::Result<()> {
        loop {
            let step = match bytes.is_empty() {
                true => self.flush().map(|()| None),
                false => self.write(bytes).map(Some),
            };
            match step {
                Ok(None) => return Ok(()),
                Ok(Some(count)) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_writable(stall)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_writable(&self, stall: Duration) -> io::Result<()> {
        let end = Instant::now() + stall;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "the client doesn't read"));
            }
            let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Closes the sending side. Errors are ignored: they mean that the client is already gone.
    pub(crate) fn end_writing(&mut self) {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.session {
            session.say_goodbye(&self.fd);
        }
        let _ = shutdown(&self.fd, Shutdown::Write);
    }

    /// Closes both directions at once, even if another thread still holds the descriptor for a moment.
    pub(crate) fn cut(&self) {
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}

/// Converts `duration` for a system call.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(1 << 31) as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    rustix::io::retry_on_intr(|| recv(fd, &mut *buffer, RecvFlags::DONTWAIT))
        .map(|(count, _)| count)
        .map_err(Into::into)
}

pub(crate) fn transmit(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    rustix::io::retry_on_intr(|| send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)).map_err(Into::into)
}
