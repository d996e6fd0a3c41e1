//! Makes the state that HTTP threads share, and starts these threads.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tiny_http::Server;

use super::stack::Stack;
use crate::chat::ChatTemplate;
use crate::config::Config;
use crate::constrain::Constrainer;
use crate::handoff::BlockQuery;
use crate::http::{Access, Defaults, Service, ServiceParts, serve_requests};
use crate::topology::{CorePlan, pin};
use crate::types::StartupError;

/// Makes the state that HTTP threads share, for a running stack. `blocks`: where KV events are published.
pub fn service(
    config: &Config,
    stack: &Stack,
    template: ChatTemplate,
    access: Access,
    blocks: Option<BlockQuery>,
) -> Arc<Service> {
    let parts = ServiceParts {
        tokenizer: Arc::clone(&stack.tokenizer),
        constrainer: Constrainer::new(Arc::clone(&stack.tokenizer)).looking_ahead(stack.speculates),
        access,
        template,
        submitter: stack.submitter.clone(),
        replies: stack.replies.clone(),
        in_flight_max: usize::from(config.parallel) + config.queue,
        stream_ping: config.stream_ping,
        metrics: Arc::clone(&stack.metrics),
        shutdown: stack.shutdown.clone(),
        clock: Arc::new(stack.clock),
        trace: stack.trace.clone(),
        defaults: Defaults {
            sampling: config.sampling.clone(),
            seed: config.seed,
            max_tokens: config.max_tokens,
            deadline_ms: config.deadline.map(|deadline| deadline.as_millis() as u64),
        },
        model: stack.model.clone(),
        metrics_are_open: config.metrics_are_open,
        log_prompts: config.log_prompts,
        shares_prompts: config.share_prompts,
    };
    Arc::new(Service::new(parts, RandomState::new().hash_one(std::process::id())).telling_blocks(blocks))
}

/// Starts the HTTP threads, each on its core.
///
/// # Errors
/// The system can't start more threads.
pub fn spawn_workers(
    config: &Config,
    plan: &CorePlan,
    server: &Arc<Server>,
    service: &Arc<Service>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, StartupError> {
    (0..config.http_threads)
        .map(|i| {
            let (server, service, stop) = (Arc::clone(server), Arc::clone(service), Arc::clone(stop));
            let core = plan.http_core(i);
            std::thread::Builder::new()
                .name(format!("http-{i}"))
                .spawn(move || {
                    // A thread that couldn't be pinned serves too, only with less even latency.
                    let _ = pin(core);
                    serve_requests(&server, &service, || stop.load(Ordering::Acquire));
                })
                .map_err(|error| StartupError::System {
                    doing: "start an HTTP thread".into(),
                    reason: error.to_string(),
                })
        })
        .collect()
}
