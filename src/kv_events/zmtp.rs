//! ZeroMQ's protocol as far as a publisher needs it: ZMTP 3.0 (rfc.zeromq.org/spec/23) without security. Pure: bytes
//! in, requests and bytes out.
//!
//! One listening socket acts as a PUB socket for peers that subscribe (SUB, XSUB) and as a ROUTER socket for peers that
//! send requests (REQ, DEALER). A peer names its type first; the answer depends on it.
//!
//! Why not a library: libzmq (crates `zmq`, `zmq-sys`) is C++ with threads of its own that abort the process if a
//! system call is refused, as `--sandbox` refuses some; `zeromq` and `rzmq` need an async runtime, and the latter's
//! licence is MPL-2.0. The part of the protocol that is needed fits into this file.

use crate::types::limits::{ZMTP_FRAME_BYTES_MAX, ZMTP_FRAMES_MAX};

/// Bytes that both sides send first: signature, version 3.0, mechanism NULL, not a server, and filler.
const GREETING_BYTES: usize = 64;
const MECHANISM: &[u8; 20] = b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Bits of a frame's first byte.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a peer has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// A subscription to messages whose topic begins with these bytes. From a SUB socket.
    Subscribe(Vec<u8>),
    /// The end of a subscription to topics that begin with these bytes.
    Cancel(Vec<u8>),
    /// The frames of a whole message of a REQ or DEALER socket.
    Request(Vec<Vec<u8>>),
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFault(pub &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZmtpStage {
    Greeting,
    /// The greeting was valid; the peer has not named its type.
    Handshake,
    /// The peer subscribes.
    Subscriber,
    /// The peer sends requests.
    Asker,
}

/// The protocol's state for one connection.
pub struct ZmtpWire {
    stage: ZmtpStage,
    /// Bytes received that are not a whole frame yet.
    input: Vec<u8>,
    /// Frames of a message that isn't complete.
    frames: Vec<Vec<u8>>,
}

impl Default for ZmtpWire {
    fn default() -> Self {
        ZmtpWire { stage: ZmtpStage::Greeting, input: Vec::new(), frames: Vec::new() }
    }
}

impl ZmtpWire {
    /// The bytes to send at once on a new connection.
    pub fn greeting() -> [u8; GREETING_BYTES] {
        let mut greeting = [0; GREETING_BYTES];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting[12..32].copy_from_slice(MECHANISM);
        greeting
    }

    /// Whether the peer sends requests, rather than subscribing.
    pub fn is_asker(&self) -> bool {
        self.stage == ZmtpStage::Asker
    }

    /// Takes received `bytes` and appends to `reply` what must be sent at once. Returns what the peer has asked for.
    ///
    /// # Errors
    /// The peer speaks another protocol, or is of a type that this socket doesn't serve. `reply` may then hold a last
    /// message to it.
    pub fn take(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<Vec<PeerRequest>, PeerFault> {
        self.input.extend_from_slice(bytes);
        let mut asked = Vec::new();
        if self.stage == ZmtpStage::Greeting {
            if self.input.len() < GREETING_BYTES {
                return Ok(asked);
            }
            let rest = self.input.split_off(GREETING_BYTES);
            check_greeting(&self.input)?;
            self.input = rest;
            self.stage = ZmtpStage::Handshake;
        }
        while let Some(frame) = self.next_frame()? {
            match (frame.is_command, self.stage) {
                (true, ZmtpStage::Handshake) => self.handshake(&frame.body, reply)?,
                (false, ZmtpStage::Handshake) => return Err(PeerFault("a message before READY")),
                (true, _) => asked.extend(command(&frame.body, reply)),
                (false, ZmtpStage::Subscriber) => asked.extend(subscription(&frame)),
                (false, _) => asked.extend(self.request(frame)?),
            }
        }
        Ok(asked)
    }

    /// Takes the next whole frame from `input`.
    fn next_frame(&mut self) -> Result<Option<Frame>, PeerFault> {
        let Some(&flags) = self.input.first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(PeerFault("not a frame of ZMTP 3"));
        }
        let head = if flags & LONG == 0 { 2 } else { 9 };
        let Some(size) = self.input.get(1..head) else { return Ok(None) };
        let size = size.iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
        if size > ZMTP_FRAME_BYTES_MAX as u64 {
            return Err(PeerFault("a frame is too long"));
        }
        let end = head + size as usize;
        if self.input.len() < end {
            return Ok(None);
        }
        let body = self.input[head..end].to_vec();
        self.input.drain(..end);
        Ok(Some(Frame { is_command: flags & COMMAND != 0, has_more: flags & MORE != 0, body }))
    }

    /// Reads the peer's READY command, and answers it according to the peer's type.
    fn handshake(&mut self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), PeerFault> {
        let Some(properties) = body.strip_prefix(b"\x05READY") else {
            return Err(PeerFault("not a READY command"));
        };
        let (stage, kind) = match property(properties, b"socket-type") {
            Some(b"SUB" | b"XSUB") => (ZmtpStage::Subscriber, "PUB"),
            Some(b"REQ" | b"DEALER") => (ZmtpStage::Asker, "ROUTER"),
            _ => {
                let reason = "this socket serves SUB, XSUB, REQ and DEALER";
                let mut body = b"\x05ERROR".to_vec();
                body.push(reason.len() as u8);
                body.extend_from_slice(reason.as_bytes());
                write_frame(reply, COMMAND, &body);
                return Err(PeerFault("another type of socket"));
            }
        };
        let mut body = b"\x05READY\x0bSocket-Type".to_vec();
        body.extend_from_slice(&(kind.len() as u32).to_be_bytes());
        body.extend_from_slice(kind.as_bytes());
        write_frame(reply, COMMAND, &body);
        self.stage = stage;
        Ok(())
    }

    /// Adds a frame of a request. Returns the request when it is complete.
    fn request(&mut self, frame: Frame) -> Result<Option<PeerRequest>, PeerFault> {
        if self.frames.len() == ZMTP_FRAMES_MAX {
            return Err(PeerFault("a message has too many frames"));
        }
        self.frames.push(frame.body);
        Ok((!frame.has_more).then(|| PeerRequest::Request(std::mem::take(&mut self.frames))))
    }
}

struct Frame {
    is_command: bool,
    has_more: bool,
    body: Vec<u8>,
}

fn check_greeting(greeting: &[u8]) -> Result<(), PeerFault> {
    if greeting[0] != 0xff || greeting[9] & 1 != 1 {
        return Err(PeerFault("no ZeroMQ peer"));
    }
    if greeting[10] < 3 {
        return Err(PeerFault("a ZeroMQ peer older than version 4"));
    }
    if greeting[12..32] != *MECHANISM {
        return Err(PeerFault("the peer wants a security mechanism; this socket has none"));
    }
    Ok(())
}

/// The value of the property with this name, in upper or lower case. Names and values are preceded by their lengths.
fn property<'a>(mut properties: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let (&name_len, rest) = properties.split_first()?;
        let (found, rest) = rest.split_at_checked(usize::from(name_len))?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*value_len) as usize)?;
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        properties = rest;
    }
}

/// Handles a command after the handshake: answers PING, and reads ZMTP 3.1's commands for subscriptions. Others are
/// ignored.
fn command(body: &[u8], reply: &mut Vec<u8>) -> Option<PeerRequest> {
    if let Some(ping) = body.strip_prefix(b"\x04PING") {
        // A time to live of two bytes, then the context that PONG repeats.
        let mut pong = b"\x04PONG".to_vec();
        pong.extend_from_slice(ping.get(2..).unwrap_or_default());
        write_frame(reply, COMMAND, &pong);
        return None;
    }
    let subscribe = body.strip_prefix(b"\x09SUBSCRIBE").map(|topic| PeerRequest::Subscribe(topic.to_vec()));
    subscribe.or_else(|| body.strip_prefix(b"\x06CANCEL").map(|topic| PeerRequest::Cancel(topic.to_vec())))
}

/// Reads a SUB socket's message: 1 or 0, and a prefix of topics.
fn subscription(frame: &Frame) -> Option<PeerRequest> {
    match frame.body.split_first()? {
        (1, topic) => Some(PeerRequest::Subscribe(topic.to_vec())),
        (0, topic) => Some(PeerRequest::Cancel(topic.to_vec())),
        _ => None,
    }
}

fn write_frame(to: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => to.extend_from_slice(&[flags, len]),
        Err(_) => {
            to.push(flags | LONG);
            to.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    to.extend_from_slice(body);
}

/// The bytes of a message with these frames.
pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 9).sum());
    for (i, frame) in frames.iter().enumerate() {
        write_frame(&mut bytes, if i + 1 < frames.len() { MORE } else { 0 }, frame);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(kind: &str) -> Vec<u8> {
        let mut body = b"\x05READY\x08identity\0\0\0\0\x0bSocket-Type".to_vec();
        body.extend_from_slice(&(kind.len() as u32).to_be_bytes());
        body.extend_from_slice(kind.as_bytes());
        let mut bytes = Vec::new();
        write_frame(&mut bytes, COMMAND, &body);
        bytes
    }

    /// The state after the handshake with a peer of this type.
    fn open(kind: &str) -> ZmtpWire {
        let (mut wire, mut reply) = (ZmtpWire::default(), Vec::new());
        let hello: Vec<u8> = ZmtpWire::greeting().into_iter().chain(ready(kind)).collect();
        assert_eq!(wire.take(&hello, &mut reply), Ok(Vec::new()));
        wire
    }

    #[test]
    fn a_subscriber_meets_a_publisher_however_its_bytes_are_cut() {
        let mut bytes = ZmtpWire::greeting().to_vec();
        bytes.extend(ready("SUB"));
        bytes.extend(message(&[b"\x01kv@"]));
        bytes.extend(message(&[b"\x00kv@"]));
        for size in [1, 7, 64, bytes.len()] {
            let (mut wire, mut reply) = (ZmtpWire::default(), Vec::new());
            let asked: Vec<PeerRequest> =
                bytes.chunks(size).flat_map(|part| wire.take(part, &mut reply).expect("it is ZMTP")).collect();
            assert_eq!(asked, [PeerRequest::Subscribe(b"kv@".to_vec()), PeerRequest::Cancel(b"kv@".to_vec())]);
            assert_eq!(reply, b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
            assert!(!wire.is_asker());
        }
    }

    #[test]
    fn an_asker_meets_a_router() {
        let (mut wire, mut reply) = (open("DEALER"), Vec::new());
        assert!(wire.is_asker());
        let long = vec![7; 300];
        let bytes = message(&[b"", &long]);
        assert_eq!(wire.take(&bytes[..200], &mut reply), Ok(Vec::new()));
        assert_eq!(wire.take(&bytes[200..], &mut reply), Ok(vec![PeerRequest::Request(vec![Vec::new(), long])]));
        assert!(reply.is_empty());
    }

    #[test]
    fn signs_of_life_and_subscriptions_of_the_next_version_are_understood() {
        let (mut wire, mut reply, mut bytes) = (open("SUB"), Vec::new(), Vec::new());
        for body in [&b"\x04PING\0\x0aabc"[..], b"\x09SUBSCRIBEkv", b"\x06CANCELkv", b"\x07WHATEVER"] {
            write_frame(&mut bytes, COMMAND, body);
        }
        let asked = wire.take(&bytes, &mut reply);
        assert_eq!(asked, Ok(vec![PeerRequest::Subscribe(b"kv".to_vec()), PeerRequest::Cancel(b"kv".to_vec())]));
        assert_eq!(reply, b"\x04\x08\x04PONGabc");
    }

    #[test]
    fn other_peers_are_told_off() {
        let greeting = |change: fn(&mut [u8; 64])| {
            let mut greeting = ZmtpWire::greeting();
            change(&mut greeting);
            ZmtpWire::default().take(&greeting, &mut Vec::new())
        };
        assert_eq!(greeting(|bytes| bytes[0] = b'G'), Err(PeerFault("no ZeroMQ peer")));
        assert_eq!(greeting(|bytes| bytes[10] = 1), Err(PeerFault("a ZeroMQ peer older than version 4")));
        assert!(greeting(|bytes| bytes[12..17].copy_from_slice(b"CURVE")).is_err());
        let (mut wire, mut reply) = (ZmtpWire::default(), Vec::new());
        assert!(wire.take(&[&ZmtpWire::greeting()[..], &ready("PUB")].concat(), &mut reply).is_err());
        assert!(reply.windows(5).any(|window| window == b"ERROR"));
        let mut huge = vec![LONG];
        huge.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(open("SUB").take(&huge, &mut Vec::new()), Err(PeerFault("a frame is too long")));
        let many: Vec<&[u8]> = vec![b""; ZMTP_FRAMES_MAX + 1];
        assert_eq!(open("REQ").take(&message(&many), &mut Vec::new()), Err(PeerFault("a message has too many frames")));
        assert!(open("REQ").take(b"\xff\xff", &mut Vec::new()).is_err());
        for cut in [&b""[..], b"\x0bSocket", b"\x0bSocket-Type\0\0", b"\x0bSocket-Type\0\0\0\x09PUB"] {
            assert_eq!(property(cut, b"socket-type"), None);
        }
    }
}
