//! KV events: opens their socket and starts the thread that publishes them. Main thread, at start-up.

use std::sync::Arc;

use super::stack::Stack;
use crate::config::Config;
use crate::config::settings::http::KV_EVENTS;
use crate::handoff::BlockReader;
use crate::kv_events::{Outlet, Publisher, PublisherParts};
use crate::types::StartupError;

/// Opens the socket of `--kv-events`. Must come before the sandbox is applied.
///
/// # Errors
/// The address can't be used.
pub fn bind(config: &Config) -> Result<Option<Outlet>, StartupError> {
    let Some(events) = &config.kv_events else { return Ok(None) };
    let refused = |error: std::io::Error| config.refuse(&KV_EVENTS, format!("{}: {error}", events.address));
    Outlet::bind(&events.address, &events.topic).map(Some).map_err(refused)
}

/// Starts the thread that publishes what the batching thread of `stack` tells. It ends after that thread.
///
/// # Errors
/// The system can't start more threads.
pub fn start(config: &Config, stack: &Stack, outlet: Outlet, blocks: BlockReader) -> Result<(), StartupError> {
    let Some(events) = &config.kv_events else { return Ok(()) };
    let address = outlet.local_addr().map_or_else(|| events.address.to_string(), |addr| format!("tcp://{addr}"));
    tracing::info!(topic = events.topic, block_size = config.kv_block_tokens, "KV events on {address}");
    let publisher = Publisher::new(PublisherParts {
        blocks,
        outlet,
        topic: events.topic.clone(),
        model: stack.model.name.clone(),
        metrics: Arc::clone(&stack.metrics),
    });
    let started = std::thread::Builder::new().name("kv-events".into()).spawn(move || publisher.run());
    started.map(drop).map_err(|error| StartupError::System {
        doing: "start the thread of KV events".into(),
        reason: error.to_string(),
    })
}
