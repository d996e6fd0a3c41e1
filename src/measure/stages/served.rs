//! How stages 3 to 10 send requests: to the engine in place, through ring and reply slots, to the service, or over its
//! socket.
//!
//! Knows nothing of llama.cpp, because `benches/instructions` compiles this file, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tiny_http::Method;

use super::client::{self, Client};
use super::workload::{StagePrompt, StagesWorkload};
use crate::clock::MonotonicClock;
use crate::handoff::{ReplyPool, ReplyReader, ReplyState, Sender, Submission, Wake};
use crate::http::Service;
use crate::tokenizer::{TextAssembler, Tokenizer};
use crate::types::seams::Clock;
use crate::types::{FinishReason, GenerateParams, Piece, RequestId, Token};

/// A running batching thread, the service in front of it, and the address of its server.
pub struct Served {
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The ring to the batching thread.
    pub submissions: Sender<Submission>,
    /// The reply slots.
    pub replies: ReplyPool,
    /// The server's clock.
    pub clock: MonotonicClock,
    /// The service, for stages that call it directly.
    pub service: Arc<Service>,
    /// The address of the HTTP server.
    pub addr: String,
}

/// What a run prepares before its clock starts.
#[derive(Default)]
pub struct Ready {
    connections: Vec<Client>,
    /// One entry for each prompt: a whole request, or only its body in stages without a socket.
    requests: Vec<Vec<u8>>,
}

/// Stage 3: submits, steps and reads on one thread.
pub fn drive(
    step: &mut dyn FnMut(),
    sender: &Sender<Submission>,
    replies: &ReplyPool,
    clock: &MonotonicClock,
    batch: &[StagePrompt],
    params: &GenerateParams,
    slots: usize,
) -> Result<usize, String> {
    let step = &mut || {
        step();
        Ok(())
    };
    drive_each(step, sender, replies, clock, batch, &|_| params.clone(), slots)
}

/// Like `drive`, with parameters that depend on the prompt's index. Ends early when a step says that the decoder is broken.
pub fn drive_each(
    step: &mut dyn FnMut() -> Result<(), String>,
    sender: &Sender<Submission>,
    replies: &ReplyPool,
    clock: &MonotonicClock,
    batch: &[StagePrompt],
    params: &dyn Fn(usize) -> GenerateParams,
    slots: usize,
) -> Result<usize, String> {
    let (mut todo, mut live, mut pieces, mut tokens) = (batch.iter().enumerate(), Vec::new(), Vec::new(), 0);
    loop {
        while live.len() < slots
            && let Some((i, prompt)) = todo.next()
        {
            live.push(submit(sender, replies, clock, prompt.tokens.clone(), params(i))?);
        }
        if live.is_empty() {
            return Ok(tokens);
        }
        step()?;
        live.retain_mut(|reader| {
            if let Some(ReplyState::Pieces) = reader.poll(Wake::AtEnd) {
                reader.read_into(&mut pieces);
                tokens += pieces.drain(..).count();
            }
            !matches!(reader.poll(Wake::AtEnd), Some(ReplyState::Finished(_)))
        });
    }
}

fn submit(
    sender: &Sender<Submission>,
    replies: &ReplyPool,
    clock: &MonotonicClock,
    prompt: Vec<Token>,
    params: GenerateParams,
) -> Result<ReplyReader, String> {
    let (reply, reader) = replies.claim().ok_or("no reply slot")?;
    let submission =
        Submission { id: RequestId(1), prompt, params, arrived_us: clock.now_us(), deadline_us: None, reply };
    sender.push(submission).map_err(|_| "the ring is full".to_owned())?;
    Ok(reader)
}

impl Served {
    /// Prepares `stage` before its clock starts: makes connections, as they are made for bare sockets, and builds the
    /// requests.
    pub fn ready(&self, stage: u8, prompts: &[StagePrompt], workload: &StagesWorkload) -> Result<Ready, String> {
        let n = if matches!(stage, 8 | 9) { workload.concurrency } else { 0 };
        let connections = (0..n).map(|_| self.connect()).collect::<Result<_, _>>()?;
        let body = |prompt: &StagePrompt| {
            json!({"prompt": prompt.text, "max_tokens": workload.max_tokens, "temperature": 0, "ignore_eos": true})
                .to_string()
        };
        let request = |prompt: &StagePrompt| match stage {
            8 => client::request("/generate", &body(prompt)),
            9 => client::request("/generate_stream", &body(prompt)),
            _ => body(prompt).into_bytes(),
        };
        let requests = if stage >= 6 { prompts.iter().map(request).collect() } else { Vec::new() };
        Ok(Ready { connections, requests })
    }

    fn connect(&self) -> Result<Client, String> {
        Client::connect(&self.addr).map_err(|error| error.to_string())
    }

    /// Runs one of the stages 4 to 10.
    pub fn run(
        &self,
        stage: u8,
        prompts: &[StagePrompt],
        workload: &StagesWorkload,
        ready: Ready,
        streamed: &mut client::Streamed,
    ) -> Result<usize, String> {
        let params = workload.params();
        let Ready { connections, requests } = ready;
        let connections = Mutex::new(connections);
        let connection = || {
            let mut connections = connections.lock().map_err(|_| "a client panicked")?;
            Ok(connections.pop().ok_or("a client without a connection")?)
        };
        let count = |answer: &[u8]| -> Result<usize, String> {
            let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
            match answer["data"]["generated_tokens"].as_u64() {
                Some(tokens) => Ok(tokens as usize),
                None => Err(format!("an error: {}", answer["error"])),
            }
        };
        let failed = |error: std::io::Error| error.to_string();
        match stage {
            4 => clients(
                prompts.len(),
                workload.concurrency,
                || Ok(()),
                |(), i| self.generate(prompts[i].tokens.clone(), &params).map(|(tokens, _)| tokens.len()),
            ),
            5 => clients(
                prompts.len(),
                workload.concurrency,
                || Ok(()),
                |(), i| {
                    let ids = self.tokenizer.encode(&prompts[i].text, true, true).map_err(|error| error.to_string())?;
                    let (pieces, end) = self.generate(ids, &params)?;
                    let (mut text, mut out) = (TextAssembler::default(), String::new());
                    pieces.iter().for_each(|piece| text.push(*piece, self.tokenizer.table(), &mut out));
                    text.finish(end, &mut out);
                    std::hint::black_box(&out);
                    Ok(pieces.len())
                },
            ),
            6 => clients(
                prompts.len(),
                workload.concurrency,
                || Ok(()),
                |(), i| count(&client::read_all(self.service.generate_json(&requests[i])).map_err(failed)?),
            ),
            7 => clients(
                prompts.len(),
                workload.concurrency,
                || Ok(()),
                |(), i| {
                    let answer = self.service.answer_unconnected(&Method::Post, "/generate", &requests[i]);
                    count(&client::read_all(answer).map_err(failed)?)
                },
            ),
            8 => clients(prompts.len(), workload.concurrency, connection, |client, i| {
                count(&client.post(&requests[i]).map_err(failed)?)
            }),
            9 => {
                let all = Mutex::new(client::Streamed::default());
                let tokens = clients(prompts.len(), workload.concurrency, connection, |client, i| {
                    let (tokens, seen) = client.stream(&requests[i]).map_err(failed)?;
                    all.lock().map_err(|_| "a client panicked")?.add(&seen);
                    Ok(tokens)
                })?;
                *streamed = all.into_inner().map_err(|_| "a client panicked")?;
                Ok(tokens)
            }
            _ => {
                let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
                let ask = json!({
                    "requests": prompts.len(), "concurrency": workload.concurrency,
                    "max_tokens": workload.max_tokens, "prompt": texts, "temperature": 0,
                });
                let answer = self.connect()?.post(&client::request("/benchmark", &ask.to_string())).map_err(failed)?;
                let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
                let tokens = answer["data"]["total_tokens_processed"].as_u64();
                tokens.map(|tokens| tokens as usize).ok_or_else(|| format!("an error: {}", answer["error"]))
            }
        }
    }

    /// One generation through ring and reply slot: its pieces, and where its text ends.
    fn generate(&self, prompt: Vec<Token>, params: &GenerateParams) -> Result<(Vec<Piece>, u32), String> {
        let mut reader = submit(&self.submissions, &self.replies, &self.clock, prompt, params.clone())?;
        let mut pieces = Vec::with_capacity(params.max_tokens);
        loop {
            match reader.wait(None, Wake::AtEnd) {
                ReplyState::Finished(end) if end.reason == FinishReason::Length => return Ok((pieces, end.text_end)),
                ReplyState::Finished(end) => return Err(format!("a generation ended with {}", end.reason.as_str())),
                ReplyState::Pieces | ReplyState::TimedOut => drop(reader.read_into(&mut pieces)),
            }
        }
    }
}

/// Starts `n` threads that take the indices of `requests` requests in turn. Returns the sum of their results.
fn clients<S>(
    requests: usize,
    n: usize,
    make: impl Fn() -> Result<S, String> + Sync,
    ask: impl Fn(&mut S, usize) -> Result<usize, String> + Sync,
) -> Result<usize, String> {
    // ORDERING: Relaxed; `fetch_add` alone makes sure that each index is taken once.
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < requests);
    let work = || -> Result<usize, String> {
        let (mut state, mut sum) = (make()?, 0);
        while let Some(i) = take() {
            sum += ask(&mut state, i)?;
        }
        Ok(sum)
    };
    std::thread::scope(|scope| {
        let start = |i| std::thread::Builder::new().name(format!("client-{i}")).spawn_scoped(scope, work);
        let threads: Vec<_> = (0..n.min(requests)).map(start).collect();
        let joined = |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, Result<usize, String>>>| {
            let thread = thread.map_err(|error| error.to_string())?;
            thread.join().map_err(|_| "a client panicked".to_owned())?
        };
        threads.into_iter().map(joined).sum()
    })
}
