//! The life of the server from its settings to its last answer. Runs on the main thread, which serves no request.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::Server;

use super::confine::Confinement;
use super::defaults::plan;
use super::notify::Notify;
use super::prepare::Prepared;
use super::service::{service, spawn_workers};
use super::stack::Stack;
use super::template::chat_template;
use super::{embed, events, fetch, listen, model_sampling, supervise, vocabulary};
use crate::chat::TemplateSource;
use crate::config::flags::Typed;
use crate::config::{Config, DecoderKind, LogFormat, LogLevel};
use crate::handoff::Stage;
use crate::http::{Access, ModelInfo, Service, first_request, warm};
use crate::logging::LevelSwitch;
use crate::model_file::ModelFile;
use crate::topology::CorePlan;
use crate::types::StartupError;
use crate::types::limits::BATCH_LOOK_MS;
use crate::{appliance, llama, logging};

/// Serves until SIGTERM or SIGINT.
///
/// `flags`: as they were typed; SIGHUP reads the settings again with them.
///
/// # Errors
/// The server can't start, or the decoder broke while it served.
pub fn run(prepared: Prepared, flags: &Typed) -> Result<(), StartupError> {
    let Prepared { mut config, machine, .. } = prepared;
    let level = logging::init(config.log_level, config.log_format);
    for name in config.unknown_vars() {
        tracing::warn!(name, "there is no such setting");
    }
    if config.supervise {
        return supervise::run(&config);
    }
    let is_supervised = supervise::is_supervised();
    fetch::fetch(&mut config.model)?;
    let plan = plan(&machine, &config)?;
    // Must come before any other thread starts: no signal may be lost, and llama.cpp's initialisation sets an environment
    // variable.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| StartupError::System { doing: "listen for signals".into(), reason: error.to_string() })?;
    let handed_over = listen::handed_over()?;
    let access = Access::new(&config.api_keys.read()?, config.cors.clone()).fair_by(config.fair_by);
    llama::backend_init();
    let file = ModelFile::open_unverified(&config.model)?;
    let gguf = file.gguf()?;
    let from_model = model_sampling::apply(&mut config, &gguf);
    if !from_model.is_empty() {
        tracing::info!("sampling, from the model: {}", from_model.join(", "));
    }
    let tokenizer = vocabulary::load(&config, &file, &gguf)?;
    let template = chat_template(&config, &gguf, &tokenizer)?;
    if config.decoder != DecoderKind::Llama {
        tracing::warn!("the null decoder serves without a model: its text is meaningless");
    }
    if template.source() == TemplateSource::ChatMl && embed::pooling(&config, &gguf)?.is_none() {
        tracing::warn!("the model has no chat template: ChatML is used");
    }
    if let Some(warning) = template.style().warning() {
        tracing::warn!("{warning}");
    }
    let warm = prompts_to_warm(&config)?;
    if warm.is_some() && config.api_keys.are_there() && !config.share_prompts {
        tracing::warn!("--warm has no effect on requests with an API key unless --share-prompts is set");
    }
    let is_bound_here = handed_over.is_none();
    // When a supervisor is told to stop, it also stops listening, so its socket counts as ours.
    let is_ours = is_bound_here || is_supervised;
    let own_path = config.unix_path().filter(|_| is_bound_here);
    let confinement = Confinement::plan(&config, own_path)?;
    let notify = Notify::from_env();
    // Binds the port before a large model is read, so that a port in use is reported at once.
    let listener = handed_over.map_or_else(|| listen::bind(&config), Ok)?;
    let _path = own_path.map(listen::OwnPath);
    let outlet = events::bind(&config)?;
    let weights = Stack::load(&config, &file, &gguf)?;
    // Applied before any lasting thread starts, because threads inherit the restrictions.
    let confinement = confinement.map(Confinement::files).transpose()?;
    let server = Arc::new(listen::listen(&config, listener)?);
    let mut stack = Stack::over(&config, &plan, weights, &gguf, tokenizer, &template)?;
    drop((file, gguf));
    let query = match (stack.blocks.take(), outlet) {
        (Some((reader, query)), Some(outlet)) => {
            events::start(&config, &stack, outlet, reader)?;
            Some(query)
        }
        (_, outlet) => {
            if outlet.is_some() {
                tracing::warn!("--kv-events has no effect: embeddings are made without a lasting KV cache");
            }
            None
        }
    };
    let service = service(&config, &stack, template, access, query);
    let refusing = Arc::clone(&service);
    server.shape_refusals(move |refused| refusing.refused(refused));
    let stop = Arc::new(AtomicBool::new(false));
    // Applied before any request is read.
    confinement.map(Confinement::calls).transpose()?;
    if let Some(prompts) = warm {
        warm_up(&mut signals, &service, &stack, &prompts)?;
    }
    let workers = spawn_workers(&config, &plan, &server, &service, &stop)?;
    notify.iter().for_each(Notify::ready);
    announce(&config, &plan, &server, &stack);
    let reload = || {
        config.tls.iter().for_each(|files| listen::reload_certificate(&server, files));
        reload_keys(&config, service.access());
        reload_level(flags, &level);
    };
    let healthy = wait_for_the_end(signals, reload, notify, &config, &server, is_ours, stack);
    // ORDERING: Release, paired with the Acquire in the workers' loop. No other data is published with it.
    stop.store(true, Ordering::Release);
    for worker in workers {
        while !worker.is_finished() {
            server.unblock();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = worker.join();
    }
    if healthy {
        Ok(())
    } else {
        Err(StartupError::System { doing: "decode".into(), reason: "llama.cpp can't continue, see the log".into() })
    }
}

/// The prompts of the file that `--warm` names, or else those that this executable carries. Read before the sandbox hides both.
///
/// # Errors
/// The file can't be read or holds something else.
fn prompts_to_warm(config: &Config) -> Result<Option<Vec<Value>>, StartupError> {
    let (path, text) = match (&config.warm, appliance::own()?) {
        (Some(path), _) => (path, std::fs::read_to_string(path).map_err(|error| error.to_string())),
        (None, Some(own)) if !own.warm.is_empty() => (&own.path, Ok(own.warm.clone())),
        _ => return Ok(None),
    };
    let prompts = text.and_then(|text| warm::prompts(&text));
    prompts.map(Some).map_err(|reason| StartupError::Config {
        name: "--warm".to_owned(),
        reason: format!("{}: {reason}", path.display()),
    })
}

/// Prefills the prompts of `--warm`. A signal to stop ends it, and the engine, too.
///
/// # Errors
/// The system can't start a thread.
fn warm_up(
    signals: &mut Signals,
    service: &Arc<Service>,
    stack: &Stack,
    prompts: &[Value],
) -> Result<(), StartupError> {
    let (started, is_over) = (Instant::now(), AtomicBool::new(false));
    let warmed: Result<Result<(u64, u64), String>, StartupError> = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("warm".into())
            .spawn_scoped(scope, || service.warm(prompts, &is_over))
            .map_err(|error| StartupError::System { doing: "start a thread".into(), reason: error.to_string() })?;
        while !thread.is_finished() {
            if signals.pending().any(|signal| signal != SIGHUP) {
                // ORDERING: Relaxed; no other data is published with the flag.
                is_over.store(true, Ordering::Relaxed);
                stack.shutdown.advance(Stage::Now);
                stack.submitter.wake_handle().wake();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())))
    });
    let (prompts, took_s) = (prompts.len(), started.elapsed().as_secs_f32());
    match warmed? {
        Ok((tokens, cached)) => tracing::info!(prompts, tokens, cached, took_s, "warm"),
        Err(_) if is_over.load(Ordering::Relaxed) => {}
        Err(reason) => tracing::warn!("--warm: {reason}; serving without these prompts"),
    }
    Ok(())
}

/// Announces that the server is ready: on a terminal with an example request, otherwise as a line of the log.
fn announce(config: &Config, plan: &CorePlan, server: &Server, stack: &Stack) {
    let model = &stack.model;
    let built_for = llama::cpu::built_for();
    tracing::debug!(threads = %plan, built_for, cpu = llama::system_info(), "machine");
    let unused = llama::cpu::unused();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        tracing::warn!("this CPU also has {unused}: a program compiled here, not for {built_for}, is faster");
    }
    if config.log_level >= LogLevel::Info && config.log_format != LogFormat::Json && std::io::stderr().is_terminal() {
        eprint!("{}", welcome(config, model, server));
        return;
    }
    tracing::info!(
        model = model.name,
        slots = model.slots,
        context_each = model.n_ctx,
        queue = config.queue,
        "listening on {}",
        listen::reachable_at(config, server),
    );
}

fn welcome(config: &Config, model: &ModelInfo, server: &Server) -> String {
    let (version, name, slots, n_ctx) = (env!("CARGO_PKG_VERSION"), &model.name, model.slots, model.n_ctx);
    let (addr, queue) = (listen::reachable_at(config, server), config.queue);
    format!(
        "cllm {version} serves {name} on {addr}\n\
         {slots} requests at once, {n_ctx} tokens each; {queue} more may wait. Ctrl-C stops it.\n\n{}\n\n",
        first_request(&listen::curl_arguments(config, server), model)
    )
}

/// At SIGHUP: reads the API keys again. If the file can't be used, the old keys stay.
fn reload_keys(config: &Config, access: &Access) {
    match config.api_keys.read() {
        Ok(keys) if config.api_keys.file.is_some() => {
            access.replace_keys(&keys);
            tracing::info!(keys = keys.len(), "API keys reloaded");
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "API keys not reloaded, the old ones stay"),
    }
}

/// At SIGHUP: reads the settings again and applies the log level, the only one that can change at run time.
fn reload_level(flags: &Typed, level: &LevelSwitch) {
    match Config::load(flags) {
        Ok(config) => {
            let say = || tracing::info!(level = ?config.log_level, "log level reloaded");
            // Logged after the level has changed, or before if the new level would hide the line.
            let will_be_shown = config.log_level >= LogLevel::Info;
            (!will_be_shown).then(say);
            level.set(config.log_level);
            will_be_shown.then(say);
        }
        Err(error) => tracing::error!(%error, "log level not reloaded, the old one stays"),
    }
}

/// Waits for a signal, then drains: accepted requests finish or the grace period passes; a second signal ends it at once.
/// Requests that arrive meanwhile get 503 if this process bound the socket; a supervisor's socket keeps them for the next
/// server. Returns whether the decoder still worked.
fn wait_for_the_end(
    mut signals: Signals,
    reload: impl Fn(),
    mut notify: Option<Notify>,
    config: &Config,
    server: &Server,
    is_ours: bool,
    stack: Stack,
) -> bool {
    let Stack { batch, shutdown, submitter, metrics, .. } = stack;
    let mut drained_at = None;
    while !batch.is_finished() {
        for signal in signals.pending() {
            if signal == SIGHUP {
                reload();
                continue;
            }
            let stage = if drained_at.is_none() { Stage::Draining } else { Stage::Now };
            drained_at.get_or_insert_with(Instant::now);
            shutdown.advance(stage);
            notify.iter().for_each(Notify::stopping);
            if !is_ours {
                server.drain();
            }
            submitter.wake_handle().wake();
            // Logged only now, because no more requests are accepted from here on.
            if stage == Stage::Draining {
                let left = metrics.engine.running.get() + metrics.engine.waiting.get();
                tracing::info!(requests_left = left, "stopping, a second signal ends it at once");
            }
        }
        if drained_at.is_some_and(|at| at.elapsed() >= config.grace) {
            shutdown.advance(Stage::Now);
            submitter.wake_handle().wake();
        }
        notify.iter_mut().for_each(|notify| notify.look(&metrics.engine));
        std::thread::sleep(Duration::from_millis(BATCH_LOOK_MS));
    }
    shutdown.advance(Stage::Draining);
    server.drain();
    batch.join().unwrap_or(false)
}
