//! The thread `kv-events`: applies the batching thread's changes, numbers messages and sends them.
//!
//! It polls every 20 ms while there is a connection or something changes, otherwise every 100 ms, so that no thread
//! needs to wake it. A new subscriber gets one message with the latest number that contains the whole cache
//! (`AllBlocksCleared`, then every block), then each message that follows. It may ask for earlier messages, as with
//! vLLM: a request of one number in 8 bytes is answered with all messages from that number on, each as `number,
//! payload`, then with the number -1 and an empty payload. If these messages are no longer kept, the whole cache is
//! sent instead, under the latest number.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::history::{MessageHistory, Replay};
use super::message::{Event, encode_batch};
use super::mirror::Mirror;
use super::outlet::{Outlet, PeerId, Wish};
use super::zmtp::message;
use crate::handoff::BlockReader;
use crate::metrics::{KvEventCounts, Metrics};
use crate::types::limits::{
    KV_EVENT_BLOCKS_MAX, KV_EVENTS_IDLE_MS, KV_EVENTS_KEPT_BYTES_MAX, KV_EVENTS_KEPT_MAX, KV_EVENTS_LOOK_MS,
    KV_MESSAGE_BLOCKS_MAX,
};

/// The number that ends a replay: -1.
const END: u64 = u64::MAX;

/// The parts of a publisher.
pub struct PublisherParts {
    /// Changes from the batching thread.
    pub blocks: BlockReader,
    /// The socket and its connections.
    pub outlet: Outlet,
    /// The first frame of each message.
    pub topic: String,
    /// The model's name, from which the names of blocks are made.
    pub model: String,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// The thread's state.
pub struct Publisher {
    blocks: BlockReader,
    outlet: Outlet,
    topic: Vec<u8>,
    metrics: Arc<Metrics>,
    mirror: Mirror,
    history: MessageHistory,
    /// The whole cache as payloads, and the message number up to which it is valid.
    snapshot: Option<(u64, Vec<Arc<[u8]>>)>,
}

impl Publisher {
    /// A publisher, whose first message clears what subscribers knew of an earlier process.
    pub fn new(parts: PublisherParts) -> Publisher {
        let mirror = Mirror::new(&parts.model, parts.blocks.block_tokens());
        let mut publisher = Publisher {
            blocks: parts.blocks,
            outlet: parts.outlet,
            topic: parts.topic.into_bytes(),
            metrics: parts.metrics,
            mirror,
            history: MessageHistory::new(KV_EVENTS_KEPT_MAX, KV_EVENTS_KEPT_BYTES_MAX),
            snapshot: None,
        };
        // Message number 0: a new process holds no blocks.
        publisher.publish(&[Event::Cleared]);
        publisher
    }

    /// Runs until the batching thread has ended.
    pub fn run(mut self) {
        loop {
            let is_over = self.blocks.is_closed();
            let is_busy = self.round();
            if is_over {
                return;
            }
            std::thread::sleep(if is_busy {
                Duration::from_millis(KV_EVENTS_LOOK_MS)
            } else {
                Duration::from_millis(KV_EVENTS_IDLE_MS)
            });
        }
    }

    /// Makes one round. Returns whether there was work, or a connection.
    pub fn round(&mut self) -> bool {
        for (peer, wish) in self.outlet.receive() {
            match wish {
                Wish::Everything => self.tell_everything(peer),
                Wish::Request(frames) => self.replay(peer, &frames),
            }
        }
        let mut changes = 0;
        while let Some(change) = self.blocks.pop() {
            self.mirror.apply(&change);
            changes += 1;
        }
        let events = if changes > 0 { self.mirror.take_events(KV_EVENT_BLOCKS_MAX) } else { Vec::new() };
        for events in by_size(&events) {
            self.publish(events);
        }
        let is_left = self.outlet.send();
        let counts = self.counts();
        counts.subscribers.set(self.outlet.subscribers() as u64);
        counts.blocks.set(self.mirror.len() as u64);
        is_left || changes > 0 || !self.outlet.is_empty()
    }

    fn counts(&self) -> &KvEventCounts {
        self.metrics.kv_events()
    }

    fn publish(&mut self, events: &[Event]) {
        let payload: Arc<[u8]> = encode_batch(unix_s(), events).into();
        let number = self.history.push(Arc::clone(&payload));
        let lost = self.outlet.publish(&self.live(number, &payload));
        self.snapshot = None;
        self.counts().messages.inc();
        self.counts().lost.add(lost as u64);
    }

    /// A message as subscribers receive it.
    fn live(&self, number: u64, payload: &[u8]) -> Arc<[u8]> {
        message(&[&self.topic, &number.to_be_bytes(), payload]).into()
    }

    fn tell_everything(&mut self, peer: PeerId) {
        let (number, payloads) = self.snapshot();
        let messages: Vec<Arc<[u8]>> = payloads.iter().map(|payload| self.live(number, payload)).collect();
        self.outlet.answer(peer, messages);
    }

    /// The whole cache, under the latest number. Subscribers that connect at the same time share it.
    fn snapshot(&mut self) -> (u64, Vec<Arc<[u8]>>) {
        self.counts().snapshots.inc();
        let number = self.history.last().unwrap_or(0);
        let made = self.snapshot.get_or_insert_with(|| {
            let events = self.mirror.snapshot(KV_EVENT_BLOCKS_MAX);
            let payloads = by_size(&events).map(|events| encode_batch(unix_s(), events).into()).collect();
            (number, payloads)
        });
        made.clone()
    }

    /// Answers a request for earlier messages. Other requests are ignored, as in vLLM.
    fn replay(&mut self, peer: PeerId, frames: &[Vec<u8>]) {
        // A REQ socket, and a DEALER that imitates one, puts an empty frame first, and expects it in the answer.
        let (delimiter, number): (&[&[u8]], _) = match frames {
            [empty, number] if empty.is_empty() => (&[b""], number),
            [number] => (&[], number),
            _ => return,
        };
        let Ok(from) = <[u8; 8]>::try_from(number.as_slice()) else { return };
        self.counts().replays.inc();
        let messages = match self.history.from(u64::from_be_bytes(from)) {
            Replay::Messages(messages) => messages,
            Replay::Snapshot => {
                let (number, payloads) = self.snapshot();
                payloads.into_iter().map(|payload| (number, payload)).collect()
            }
        };
        let end: [(u64, Arc<[u8]>); 1] = [(END, Arc::new([]))];
        let framed = messages.into_iter().chain(end).map(|(number, payload)| {
            let number = number.to_be_bytes();
            message(&[delimiter, &[&number[..], &payload[..]]].concat()).into()
        });
        self.outlet.answer(peer, framed.collect::<Vec<Arc<[u8]>>>());
    }
}

/// Cuts events into messages of at most `KV_MESSAGE_BLOCKS_MAX` blocks, or of one event.
fn by_size(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut blocks = 0;
        let fits = |event: &&Event| {
            blocks += event.blocks();
            blocks <= KV_MESSAGE_BLOCKS_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (message, left) = rest.split_at(count);
        rest = left;
        (!message.is_empty()).then_some(message)
    })
}

fn unix_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::{BlockChange, BlockWriter, block_feed};
    use crate::kv_events::history::Numbered;
    use crate::types::{EventsAddress, SeqId, Token};
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn publisher() -> (Publisher, BlockWriter) {
        let (writer, blocks, _) = block_feed(2);
        let address = EventsAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let outlet = Outlet::bind(&address, "t").unwrap();
        let (topic, model) = ("t".to_owned(), "m".to_owned());
        (Publisher::new(PublisherParts { blocks, outlet, topic, model, metrics: Arc::default() }), writer)
    }

    /// Connects a socket of this kind, completes its handshake, and sends `first`.
    fn connect(publisher: &mut Publisher, kind: &[u8], first: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(publisher.outlet.local_addr().unwrap()).unwrap();
        let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
        ready.push(kind.len() as u8);
        ready.extend_from_slice(kind);
        let head = [4, ready.len() as u8];
        client.write_all(&[&super::super::zmtp::ZmtpWire::greeting()[..], &head, &ready, first].concat()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// Makes rounds until `client` has got as many bytes as `expected` has, after the handshake, and compares them.
    fn expect(publisher: &mut Publisher, client: &mut TcpStream, skip: usize, expected: &[u8]) {
        let (mut got, mut bytes) = (Vec::new(), [0; 4_096]);
        for _ in 0..10_000 {
            publisher.round();
            if let Ok(count) = client.read(&mut bytes) {
                got.extend_from_slice(&bytes[..count]);
            }
            if got.len() >= skip + expected.len() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(got.get(skip..), Some(expected));
    }

    fn change(seq: u16, kept: usize, added: &[u32]) -> BlockChange {
        BlockChange { seq: SeqId(seq), kept, added: added.iter().copied().map(Token).collect() }
    }

    #[test]
    fn subscribers_are_told_everything_and_askers_what_they_missed() {
        let (mut publisher, writer) = publisher();
        writer.push(change(0, 0, &[1, 2, 3, 4])).unwrap();
        publisher.round();
        writer.push(change(0, 1, &[])).unwrap();
        publisher.round();
        assert_eq!(publisher.history.last(), Some(2), "cleared, stored, removed");
        // Greeting and READY have 64 and 27 bytes; for a ROUTER 64 and 30.
        let mut subscriber = connect(&mut publisher, b"SUB", &message(&[b"\x01"]));
        let events = publisher.mirror.snapshot(9);
        let mut got = vec![0; 0];
        for _ in 0..10_000 {
            publisher.round();
            let mut bytes = [0; 4_096];
            if let Ok(count) = subscriber.read(&mut bytes) {
                got.extend_from_slice(&bytes[..count]);
            }
            if got.len() > 64 + 27 {
                break;
            }
        }
        // The message contains the time, so only its beginning and end are compared.
        let snapshot = message(&[b"t", &2_u64.to_be_bytes(), &encode_batch(0.0, &events)]);
        assert_eq!(got[91..105], snapshot[..14]);
        assert_eq!(got[got.len() - 50..], snapshot[snapshot.len() - 50..]);

        let Replay::Messages(messages) = publisher.history.from(1) else { panic!("they are kept") };
        let wire = |delimiter: &[&[u8]], (number, payload): &Numbered| {
            message(&[delimiter, &[&number.to_be_bytes()[..], &payload[..]]].concat())
        };
        let end = (END, Arc::from([]));
        for (delimiter, kind) in [(&[&b""[..]][..], b"REQ".as_slice()), (&[], b"DEALER")] {
            let request = message(&[delimiter, &[&1_u64.to_be_bytes()[..]]].concat());
            let mut asker = connect(&mut publisher, kind, &request);
            let replay: Vec<u8> =
                messages.iter().chain([&end]).flat_map(|numbered| wire(delimiter, numbered)).collect();
            expect(&mut publisher, &mut asker, 64 + 30, &replay);
        }
        let metrics = publisher.counts();
        assert_eq!((metrics.messages.get(), metrics.snapshots.get(), metrics.replays.get()), (3, 1, 2));
        assert_eq!((metrics.subscribers.get(), metrics.blocks.get(), metrics.lost.get()), (1, 1, 0));
        // A number of an earlier process is answered with the whole cache and the end mark.
        let mut asker = connect(&mut publisher, b"DEALER", &message(&[&900_u64.to_be_bytes()]));
        let mut bytes = Vec::new();
        while bytes.len() <= 94 || !bytes.ends_with(&wire(&[], &end)) {
            publisher.round();
            let mut part = [0; 4_096];
            let count = asker.read(&mut part).unwrap_or(0);
            bytes.extend_from_slice(&part[..count]);
        }
        assert_eq!(publisher.counts().snapshots.get(), 2);
    }

    #[test]
    fn messages_are_cut_by_their_blocks() {
        let removed = |count| Event::Removed(vec![super::super::hash::BlockHash(1); count]);
        let events = [removed(KV_MESSAGE_BLOCKS_MAX), Event::Cleared, removed(1), removed(9_999), removed(2)];
        let counts: Vec<usize> = by_size(&events).map(<[Event]>::len).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        assert_eq!(by_size(&[]).count(), 0);
    }
}
