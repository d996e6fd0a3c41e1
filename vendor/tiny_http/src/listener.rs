//! Listening sockets: TCP over IPv4 and IPv6, Unix-domain, or a socket that a supervisor opened. Used at start-up, and by
//! the thread that takes the event of a new connection.

use rustix::fs::Mode;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections that the kernel completes before they are accepted: many at once wait instead of being dropped and retried a
/// second later. The kernel clamps it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The mode of a Unix-domain socket: its owner and its group may connect.
const UNIX_MODE: u32 = 0o660;

/// Where to listen.
#[derive(Clone, Debug)]
pub enum ConfigListenAddr {
    /// The first of these addresses that can be bound.
    IP(Vec<SocketAddr>),
    /// A path in the file system, open to its owner and group (mode 0660). A socket that a dead server left there is
    /// replaced.
    Unix(PathBuf),
}

impl ConfigListenAddr {
    /// Resolves `addrs`.
    pub fn from_socket_addrs<A: ToSocketAddrs>(addrs: A) -> io::Result<ConfigListenAddr> {
        addrs.to_socket_addrs().map(|addrs| ConfigListenAddr::IP(addrs.collect()))
    }

    /// A Unix-domain socket at `path`.
    pub fn unix_from_path<P: Into<PathBuf>>(path: P) -> ConfigListenAddr {
        ConfigListenAddr::Unix(path.into())
    }

    /// Opens a socket there, for [`Server::from_listener`](crate::Server::from_listener) in this process or another.
    pub fn bind(&self) -> io::Result<Listener> {
        match self {
            ConfigListenAddr::IP(addrs) => {
                let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
                for addr in addrs {
                    match bind_tcp(*addr) {
                        Ok(listener) => return Ok(Listener::Tcp(listener)),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
            ConfigListenAddr::Unix(path) => bind_unix(path).map(Listener::Unix),
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_left_over = path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_left_over {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The socket has the mode from the beginning. The umask may have removed bits from it, so the mode is also set on the
    // path.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(UNIX_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(UNIX_MODE))?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// A socket to accept connections from.
#[derive(Debug)]
pub enum Listener {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpListener),
    /// Unix-domain.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

impl Listener {
    /// The first socket that a supervisor passed (`LISTEN_FDS`, `LISTEN_PID`); `None`: there is none. Call it once and
    /// before other threads start, because it removes the variables from the environment.
    pub fn from_env() -> io::Result<Option<Listener>> {
        let mut handed_over = listenfd::ListenFd::from_env();
        if handed_over.len() == 0 {
            return Ok(None);
        }
        match handed_over.take_tcp_listener(0) {
            Ok(listener) => Ok(listener.map(Listener::Tcp)),
            Err(_) => handed_over.take_unix_listener(0).map(|listener| listener.map(Listener::Unix)),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<ListenAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(ListenAddr::IP),
            Listener::Unix(listener) => listener.local_addr().map(ListenAddr::Unix),
        }
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.set_nonblocking(true),
            Listener::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// Accepts the next connection: non-blocking and, for TCP, without Nagle's delay.
    pub(crate) fn accept(&self) -> rustix::io::Result<(OwnedFd, Option<SocketAddr>)> {
        let (fd, peer) = acceptfrom_with(self, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        if let Listener::Tcp(_) = self {
            rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
        }
        Ok((fd, peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
    }

    /// Removes the path of a Unix-domain socket from the file system.
    pub(crate) fn unlink(&self) {
        if let Listener::Unix(listener) = self
            && let Ok(addr) = listener.local_addr()
            && let Some(path) = addr.as_pathname()
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum ListenAddr {
    /// TCP.
    IP(SocketAddr),
    /// Unix-domain.
    Unix(std::os::unix::net::SocketAddr),
}

impl ListenAddr {
    /// The address, if it is TCP.
    pub fn to_ip(self) -> Option<SocketAddr> {
        match self {
            ListenAddr::IP(addr) => Some(addr),
            ListenAddr::Unix(_) => None,
        }
    }

    /// The address, if it is Unix-domain.
    pub fn to_unix(self) -> Option<std::os::unix::net::SocketAddr> {
        match self {
            ListenAddr::IP(_) => None,
            ListenAddr::Unix(addr) => Some(addr),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::IP(addr) => addr.fmt(f),
            ListenAddr::Unix(addr) => write!(f, "{addr:?}"),
        }
    }
}
