//! What passes between threads: a ring of submissions one way, a reply slot per request the other way.
//!
//! ```text
//! http-N                                                      batch
//! pool.claim() -> (writer, reader)
//! sender.push(Submission { .., reply: writer }) --- ring ---> inbox.drain_into(&mut waiting)
//! reader.wait(..) <------------- reply slot ----------------- writer.push(piece), writer.finish(terminal)
//! reader.publish(verdict, mask) the same slot --------------> writer.verdict(&mut mask)
//! reader.publish_path(path) --- the same slot --------------> writer.ahead()
//! reader.cancel() ------------- the same slot --------------> writer.is_cancelled()
//!                 ------------- the bell -------------------> inbox.park(..) returns
//! ```
//!
//! Everything is bounded and built at start-up; a request allocates nothing here. A thread that has nothing to do parks
//! on its own thread's token, and is unparked (one futex call) only if it sleeps.
//!
//! There is no lock. Writing and reading a reply slot is wait-free. The ring and the pool's free list are crossbeam's
//! `ArrayQueue`, which is lock-free but for one window of a few instructions: a pop that meets a push whose thread
//! was preempted between reserving its place and filling it spins until that thread runs again.
//!
//! The files take their atomics from [`sync`], so that `tests/loom_handoff/` can compile the same files
//! against loom's and try every interleaving.

pub mod bell;
mod blocks;
mod canceller;
mod lease;
mod pace;
mod paths;
pub mod pool;
pub mod reader;
pub mod reply;
pub mod ring;
pub mod shutdown;
mod side;
pub mod submission;
pub mod sync;
pub mod vectors;
mod words;
pub mod writer;

#[cfg(test)]
mod tests;

pub use bell::{WakeHandle, Woke};
pub use blocks::{BlockChange, BlockQuery, BlockReader, BlockWriter, SequenceBlocks, block_feed, block_feed_of};
pub use canceller::Canceller;
pub use pace::Pace;
pub use pool::ReplyPool;
pub use reader::{ReplyReader, ReplyState, Wake, wait_any};
pub use ring::{Inbox, Refused, Sender, ring};
pub use shutdown::{Shutdown, Stage};
pub use submission::{InputsSubmission, Submission, Submitter};
pub use vectors::{VectorsReader, VectorsWriter, vectors};
pub use writer::ReplyWriter;
