//! The latest messages, for subscribers that missed some. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

/// A message's number and its payload.
pub type Numbered = (u64, Arc<[u8]>);

/// Messages with consecutive numbers, the oldest first. Holds at most `messages_max` messages and `bytes_max` bytes,
/// but always the last message.
pub struct MessageHistory {
    kept: VecDeque<Numbered>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

/// The answer to a subscriber that asks for all messages from a number on.
#[derive(Debug, PartialEq, Eq)]
pub enum Replay {
    /// The messages from this number on.
    Messages(Vec<Numbered>),
    /// All blocks in the cache, because the messages are no longer kept, or were another process's.
    Snapshot,
}

impl MessageHistory {
    /// An empty history with these bounds.
    pub fn new(messages_max: usize, bytes_max: usize) -> MessageHistory {
        MessageHistory { kept: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    /// The number of the latest message; `None`: there was no message.
    pub fn last(&self) -> Option<u64> {
        self.kept.back().map(|(number, _)| *number)
    }

    /// Adds a message and returns its number, one more than that of the last; the first has 0.
    pub fn push(&mut self, payload: Arc<[u8]>) -> u64 {
        let number = self.last().map_or(0, |last| last + 1);
        self.bytes += payload.len();
        self.kept.push_back((number, payload));
        while self.kept.len() > 1 && (self.kept.len() > self.messages_max || self.bytes > self.bytes_max) {
            self.bytes -= self.kept.pop_front().map_or(0, |(_, payload)| payload.len());
        }
        number
    }

    /// The answer to a subscriber that asks for number `from` and all that follow.
    pub fn from(&self, from: u64) -> Replay {
        let (Some((first, _)), Some(last)) = (self.kept.front(), self.last()) else {
            return Replay::Messages(Vec::new());
        };
        if from < *first || from > last + 1 {
            return Replay::Snapshot;
        }
        Replay::Messages(self.kept.iter().skip((from - first) as usize).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_by_count_and_by_size() {
        let mut history = MessageHistory::new(3, 10);
        assert_eq!((history.last(), history.from(0)), (None, Replay::Messages(Vec::new())));
        let payload = |len: usize| -> Arc<[u8]> { vec![1; len].into() };
        assert_eq!([2, 2, 2, 2].map(|len| history.push(payload(len))), [0, 1, 2, 3]);
        let numbers = |replay| match replay {
            Replay::Messages(messages) => messages.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            Replay::Snapshot => vec![u64::MAX],
        };
        assert_eq!(numbers(history.from(1)), [1, 2, 3]);
        assert_eq!(numbers(history.from(4)), [0; 0], "nothing was missed");
        assert_eq!(numbers(history.from(0)), [u64::MAX], "no longer kept");
        assert_eq!(numbers(history.from(5)), [u64::MAX], "not yet sent: of an earlier process");
        history.push(payload(7));
        assert_eq!(numbers(history.from(3)), [3, 4], "9 bytes");
        history.push(payload(70));
        assert_eq!(numbers(history.from(5)), [5], "the last one is kept whatever its size");
    }
}
