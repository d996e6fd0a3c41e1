//! The socket on which KV events are published, and its connections. Sockets never block: the thread that owns them
//! tries again in its next round. Each connection's queue is bounded.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::zmtp::{PeerRequest, ZmtpWire};
use crate::types::EventsAddress;
use crate::types::limits::{
    KV_EVENTS_HANDSHAKE_S_MAX, KV_EVENTS_PEERS_MAX, KV_EVENTS_QUEUE_BYTES_MAX, KV_EVENTS_READ_BYTES, ZMTP_TOPICS_MAX,
};

enum EventsListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn prepare(self) -> io::Result<Stream> {
        match &self {
            Stream::Tcp(stream) => stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true))?,
            Stream::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(self)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(from),
            Stream::Unix(stream) => stream.write(from),
        }
    }
}

/// The number of a connection, which is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerId(u64);

/// One connection.
struct Peer {
    id: PeerId,
    stream: Stream,
    wire: ZmtpWire,
    /// Prefixes of the topics to which it subscribed.
    topics: Vec<Vec<u8>>,
    /// Messages to send; `sent` bytes of the first are already sent.
    queue: VecDeque<Arc<[u8]>>,
    sent: usize,
    queued_bytes: usize,
    /// Whether messages were dropped because its queue was full. It then gets no message until its queue is empty, and
    /// after that a snapshot of all blocks.
    is_behind: bool,
    since: Instant,
    has_failed: bool,
}

/// What a connection needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// A snapshot of all blocks: it has just subscribed, or has room again after messages were dropped.
    Everything,
    /// An answer to the request with these frames.
    Request(Vec<Vec<u8>>),
}

/// The listening socket and its connections.
pub struct Outlet {
    listener: EventsListener,
    peers: Vec<Peer>,
    next_id: u64,
    topic: Vec<u8>,
}

impl Outlet {
    /// Opens the socket. Must be called before the sandbox is applied.
    ///
    /// # Errors
    /// The address can't be used.
    pub fn bind(address: &EventsAddress, topic: &str) -> io::Result<Outlet> {
        let listener = match address {
            EventsAddress::Tcp { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port))?;
                listener.set_nonblocking(true)?;
                EventsListener::Tcp(listener)
            }
            EventsAddress::Ipc(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                EventsListener::Unix(listener)
            }
        };
        Ok(Outlet { listener, peers: Vec::new(), next_id: 0, topic: topic.as_bytes().to_vec() })
    }

    /// The address of a TCP socket, with its actual port; `None` for a Unix-domain socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            EventsListener::Tcp(listener) => listener.local_addr().ok(),
            EventsListener::Unix(_) => None,
        }
    }

    /// The number of connections that subscribe to this topic.
    pub fn subscribers(&self) -> usize {
        self.peers.iter().filter(|peer| peer.subscribes(&self.topic)).count()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Accepts new connections and reads from all. Returns what they need.
    pub fn receive(&mut self) -> Vec<(PeerId, Wish)> {
        self.accept();
        let mut wishes = Vec::new();
        for peer in &mut self.peers {
            let id = peer.id;
            wishes.extend(peer.receive(&self.topic).into_iter().map(|wish| (id, wish)));
        }
        self.peers.retain(|peer| !peer.has_failed);
        wishes
    }

    fn accept(&mut self) {
        // At the limit, further connections wait in the kernel.
        while self.peers.len() < KV_EVENTS_PEERS_MAX {
            let accepted = match &self.listener {
                EventsListener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
                EventsListener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            };
            // Errors other than "no connection waits" (such as no free descriptor) are retried in the next round.
            let Ok(stream) = accepted else { return };
            let Ok(stream) = stream.prepare() else { continue };
            let id = PeerId(self.next_id);
            self.next_id += 1;
            let mut peer = Peer::new(id, stream);
            peer.push(ZmtpWire::greeting().to_vec().into());
            self.peers.push(peer);
        }
    }

    /// Queues a message for every subscriber. Returns how many didn't get it because their queue was full.
    pub fn publish(&mut self, message: &Arc<[u8]>) -> usize {
        let mut lost = 0;
        for peer in self.peers.iter_mut().filter(|peer| peer.subscribes(&self.topic)) {
            peer.is_behind |= peer.queued_bytes + message.len() > KV_EVENTS_QUEUE_BYTES_MAX;
            match peer.is_behind {
                true => lost += 1,
                false => peer.push(Arc::clone(message)),
            }
        }
        lost
    }

    /// Queues messages for one connection, whatever the length of its queue.
    pub fn answer(&mut self, to: PeerId, messages: impl IntoIterator<Item = Arc<[u8]>>) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == to) {
            messages.into_iter().for_each(|message| peer.push(message));
        }
    }

    /// Sends as much as the kernel accepts. Returns whether anything is left.
    pub fn send(&mut self) -> bool {
        self.peers.iter_mut().for_each(Peer::send);
        self.peers.retain(|peer| !peer.has_failed);
        self.peers.iter().any(|peer| !peer.queue.is_empty())
    }
}

impl Peer {
    fn new(id: PeerId, stream: Stream) -> Peer {
        Peer {
            id,
            stream,
            wire: ZmtpWire::default(),
            topics: Vec::new(),
            queue: VecDeque::new(),
            sent: 0,
            queued_bytes: 0,
            is_behind: false,
            since: Instant::now(),
            has_failed: false,
        }
    }

    fn subscribes(&self, topic: &[u8]) -> bool {
        self.topics.iter().any(|beginning| topic.starts_with(beginning))
    }

    fn push(&mut self, bytes: Arc<[u8]>) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    fn receive(&mut self, topic: &[u8]) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if self.is_behind && self.queue.is_empty() {
            self.is_behind = false;
            wishes.push(Wish::Everything);
        }
        let mut bytes = [0; KV_EVENTS_READ_BYTES];
        // A connection that sends requests is read again only after it got its last answer.
        while !self.has_failed && (self.queue.is_empty() || !self.wire.is_asker()) {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.has_failed = true,
                Ok(count) => self.take(&bytes[..count], topic, &mut wishes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.has_failed = true,
            }
            if !wishes.is_empty() {
                break;
            }
        }
        let is_idle = self.topics.is_empty() && !self.wire.is_asker();
        self.has_failed |= is_idle && self.since.elapsed() > Duration::from_secs(KV_EVENTS_HANDSHAKE_S_MAX);
        wishes
    }

    fn take(&mut self, bytes: &[u8], topic: &[u8], wishes: &mut Vec<Wish>) {
        let mut reply = Vec::new();
        let asked = self.wire.take(bytes, &mut reply);
        if !reply.is_empty() {
            self.push(reply.into());
        }
        let asked = match asked {
            Ok(asked) => asked,
            Err(fault) => {
                tracing::debug!(peer = self.id.0, "KV events: {}", fault.0);
                self.send();
                self.has_failed = true;
                return;
            }
        };
        for one in asked {
            match one {
                PeerRequest::Subscribe(beginning) => {
                    let is_new = topic.starts_with(&beginning) && !self.subscribes(topic);
                    if self.topics.len() == ZMTP_TOPICS_MAX {
                        self.has_failed = true;
                        return;
                    }
                    self.topics.push(beginning);
                    wishes.extend(is_new.then_some(Wish::Everything));
                }
                PeerRequest::Cancel(beginning) => {
                    if let Some(at) = self.topics.iter().position(|known| *known == beginning) {
                        self.topics.swap_remove(at);
                    }
                }
                PeerRequest::Request(frames) => wishes.push(Wish::Request(frames)),
            }
        }
    }

    fn send(&mut self) {
        while let (Some(first), false) = (self.queue.front(), self.has_failed) {
            match self.stream.write(&first[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    if self.sent == first.len() {
                        self.queued_bytes -= self.sent;
                        self.sent = 0;
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.has_failed = true,
            }
        }
    }
}

/// Removes a socket at `path` that a process left behind and on which none listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    let refuses = || UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if is_socket && refuses() { fs::remove_file(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv_events::zmtp::message;

    /// The first bytes of a SUB socket, with a subscription to `topic`.
    fn subscriber(topic: &[u8]) -> Vec<u8> {
        let ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";
        let subscription = [b"\x01", topic].concat();
        [&ZmtpWire::greeting()[..], ready, &message(&[&subscription])].concat()
    }

    fn outlet() -> (Outlet, TcpStream) {
        let address = EventsAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let outlet = Outlet::bind(&address, "kv@a").unwrap();
        let client = TcpStream::connect(outlet.local_addr().unwrap()).unwrap();
        (outlet, client)
    }

    /// Polls until a connection needs something.
    fn wishes(outlet: &mut Outlet) -> Vec<(PeerId, Wish)> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let wishes = outlet.receive();
            if !wishes.is_empty() {
                return wishes;
            }
            outlet.send();
        }
        Vec::new()
    }

    #[test]
    fn a_subscriber_that_reads_nothing_loses_messages_and_is_told_everything_later() {
        let (mut outlet, mut client) = outlet();
        client.write_all(&subscriber(b"kv@")).unwrap();
        let begun = wishes(&mut outlet);
        assert!(matches!(begun[..], [(_, Wish::Everything)]), "{begun:?}");
        assert_eq!(outlet.subscribers(), 1);
        let payload: Arc<[u8]> = vec![7; 1 << 20].into();
        let mut lost = 0;
        for _ in 0..64 {
            lost += outlet.publish(&payload);
            outlet.send();
        }
        assert!((1..64).contains(&lost), "{lost} of 64 MiB");
        assert!(outlet.peers[0].queued_bytes <= KV_EVENTS_QUEUE_BYTES_MAX);
        let mut read = vec![0; 1 << 20];
        let again = loop {
            client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let _ = client.read(&mut read);
            outlet.send();
            let wishes = outlet.receive();
            if !wishes.is_empty() {
                break wishes;
            }
        };
        assert_eq!(again, begun, "it has room again");
        assert_eq!(outlet.publish(&payload), 0);
    }

    #[test]
    fn other_topics_other_protocols_and_closed_connections_get_nothing() {
        let (mut outlet, mut client) = outlet();
        client.write_all(&subscriber(b"other")).unwrap();
        let mut browser = TcpStream::connect(outlet.local_addr().unwrap()).unwrap();
        browser.write_all(&[b'G'; 64]).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // The second subscriber is dropped; the first stays connected, but none of its topics matches.
        let mut seen = 0;
        while Instant::now() < until && !(seen == 2 && outlet.peers.len() == 1 && !outlet.peers[0].topics.is_empty()) {
            assert_eq!(outlet.receive(), []);
            seen = seen.max(outlet.next_id);
            outlet.send();
        }
        assert_eq!((outlet.peers.len(), outlet.subscribers()), (1, 0));
        let mut rest = Vec::new();
        browser.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, ZmtpWire::greeting(), "its connection was closed");
        drop(client);
        while Instant::now() < until && !outlet.is_empty() {
            outlet.receive();
        }
        assert!(outlet.is_empty());
    }

    #[test]
    fn a_socket_that_a_dead_process_left_is_replaced_and_a_living_one_is_not() {
        let path = std::env::temp_dir().join(format!("cllm-events-{}", std::process::id()));
        let address = EventsAddress::Ipc(path.clone());
        let first = Outlet::bind(&address, "").unwrap();
        assert!(Outlet::bind(&address, "").is_err());
        drop(first);
        assert!(path.exists());
        assert!(Outlet::bind(&address, "").is_ok());
        fs::remove_file(&path).unwrap();
    }
}
