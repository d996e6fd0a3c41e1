//! tiny_http for a server that faces a network: pull a request, answer it, no runtime.
//!
//! ```
//! use std::sync::Arc;
//! use tiny_http::{Response, Server};
//!
//! let server = Arc::new(Server::http("127.0.0.1:0")?);
//! let worker = std::thread::spawn({
//!     let server = Arc::clone(&server);
//!     move || {
//!         for request in server.incoming_requests() {
//!             let _ = request.respond(Response::from_string("hello"));
//!         }
//!     }
//! });
//! server.unblock();
//! worker.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! The names and shapes are those of tiny_http 0.12; [`Limits`], [`ResponseStream`], [`ClientWatch`] and [`Stats`] are added.
//! A request reaches a worker only when it is complete and valid. `limits.rs` bounds what a client can cost.
//!
//! The rooms, from the socket inwards: `listener` and `arrive` let connections in, `table` holds them, `conn` says which thread
//! owns one, `hub` is where workers wait, `queue` holds work that waits for them, `drive` reads and writes a connection, `keeper`
//! checks deadlines, `transport` and `tls` carry bytes. `intake`, `head` and `chunked` turn bytes into requests and are pure.
//! `request`, `response`, `stream` and `exchange` send answers. `watch` notices when a client leaves. `fault` has the refusals,
//! `refusal` their form.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod arrive;
mod budget;
mod chunked;
mod conn;
mod date;
mod drive;
mod exchange;
mod fault;
mod head;
mod header;
mod hub;
mod intake;
mod keeper;
mod limits;
mod listener;
mod message;
#[doc(hidden)]
pub mod probe;
mod queue;
mod refusal;
mod request;
mod response;
mod server;
mod stats;
mod stream;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod watch;

pub use header::{Header, HeaderField, HeaderValue};
pub use limits::{HalfClose, Limits};
pub use listener::{ConfigListenAddr, ListenAddr, Listener};
pub use message::{HTTPVersion, Method, StatusCode};
pub use refusal::{Refusal, Refused};
pub use request::Request;
pub use response::{Response, ResponseBox};
pub use server::{IncomingRequests, Server, ServerConfig, SslConfig, StartError};
pub use stats::{REFUSALS, Stats};
pub use stream::ResponseStream;
pub use watch::ClientWatch;
