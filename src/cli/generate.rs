//! `cllm generate`: answers one prompt and streams the text to the terminal.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;

use super::encode::text_or_stdin;
use crate::chat::{ChatTemplate, Conversation, Guard, Message};
use crate::config::definition::scope::GENERATE;
use crate::config::{Config, Flags, LogLevel};
use crate::handoff::{ReplyReader, ReplyState, Stage, Submission, Wake};
use crate::logging;
use crate::model_file::ModelFile;
use crate::server::defaults::plan;
use crate::server::stack::Stack;
use crate::server::template::chat_template;
use crate::server::vocabulary;
use crate::server::{embed, fetch, model_sampling};
use crate::tokenizer::{TextAssembler, Tokenizer};
use crate::topology::Machine;
use crate::types::limits::STOP_BYTES_MAX;
use crate::types::seams::Clock;
use crate::types::{
    FinishReason, GenerateParams, Owner, RequestError, RequestId, SamplingParams, Share, StartupError, Token,
};

/// Generate text from one prompt and stream it to the terminal
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm generate \"How do I change the port?\"
  cllm generate --raw -n 100 \"Once upon a time\"
  git diff | cllm generate -m model.gguf - --temp 0")]
pub struct GenerateArgs {
    /// The prompt; `-` reads it from stdin
    pub prompt: String,
    /// Use the prompt as it is, without the model's chat template
    #[arg(long)]
    pub raw: bool,
    /// Do not stop at the model's end-of-text token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Stop before this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<GENERATE>,
}

/// Loads the model, answers one prompt and writes the text as it is generated.
///
/// # Errors
/// The model can't be loaded, or the prompt can't be answered.
pub fn run(args: &GenerateArgs) -> Result<(), StartupError> {
    let mut config = Config::load(&args.flags.0)?;
    config.parallel = 1;
    logging::init(quieter(config.log_level), config.log_format);
    fetch::fetch(&mut config.model)?;
    let plan = plan(&Machine::detect(), &config)?;
    config.check_files()?;
    let prompt = text_or_stdin(&args.prompt)?;
    let file = ModelFile::open_unverified(&config.model)?;
    let gguf = file.gguf()?;
    config.embeddings = false;
    model_sampling::apply(&mut config, &gguf);
    if embed::pooling(&config, &gguf)?.is_some() {
        let reason = "it makes embeddings, not text: cllm serve has POST /v1/embeddings".to_owned();
        return Err(StartupError::Model { path: gguf.path().to_owned(), reason });
    }
    let tokenizer = vocabulary::load(&config, &file, &gguf)?;
    let template = chat_template(&config, &gguf, &tokenizer)?;
    let refuse = |error: RequestError| StartupError::System { doing: "generate".into(), reason: error.to_string() };
    let tokens = tokens(&tokenizer, &template, prompt, args.raw).map_err(refuse)?;
    let stack = Stack::start(&config, &plan, &file, &gguf, tokenizer, &template)?;
    let reader = submit(args, &config, &stack, tokens).map_err(refuse)?;
    let written = write_text(&stack, reader);
    stack.shutdown.advance(Stage::Now);
    stack.submitter.wake_handle().wake();
    let _ = stack.batch.join();
    written
}

/// Raises the level from info to warn, so that messages about loading don't appear within the text.
fn quieter(level: LogLevel) -> LogLevel {
    if level == LogLevel::Info { LogLevel::Warn } else { level }
}

fn tokens(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    prompt: String,
    raw: bool,
) -> Result<Vec<Token>, RequestError> {
    let tokens = if raw {
        tokenizer.encode(&prompt, true, true)?
    } else {
        let guard = Guard::new(tokenizer.control_texts());
        let messages = [Message::new("user", prompt)];
        let prompt = template.prompt(Conversation { messages: &messages, ..Conversation::default() }, &guard)?;
        let add_special = !template.starts_with_bos(&prompt.text);
        tokenizer.encode_chat(&prompt.text, add_special, &prompt.barriers)?
    };
    if tokens.is_empty() { Err(RequestError::field("prompt", "must not be empty")) } else { Ok(tokens) }
}

fn submit(
    args: &GenerateArgs,
    config: &Config,
    stack: &Stack,
    prompt: Vec<Token>,
) -> Result<ReplyReader, RequestError> {
    let n_ctx = stack.model.n_ctx;
    let room = n_ctx.saturating_sub(prompt.len());
    if room == 0 {
        return Err(RequestError::TooLong { n_prompt_tokens: prompt.len(), n_ctx });
    }
    let max_tokens = config.max_tokens.map_or(room, |wanted| wanted.min(room));
    if let Some(bad) = args.stop.iter().find(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        let message = format!("must have 1 to {STOP_BYTES_MAX} bytes, not {}", bad.len());
        return Err(RequestError::field("--stop", message));
    }
    let seed = config.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    let (reply, reader) = stack.replies.claim().ok_or(RequestError::QueueFull { retry_after_s: 1 })?;
    let arrived_us = stack.clock.now_us();
    let submission = Submission {
        id: RequestId(1),
        prompt,
        params: GenerateParams {
            sampling: SamplingParams { seed, ..config.sampling.clone() },
            max_tokens,
            stop: args.stop.iter().map(|stop| stop.clone().into_bytes()).collect(),
            min_tokens: 0,
            thought: None,
            stop_tokens: Vec::new(),
            ignore_eos: args.ignore_eos,
            constrained: false,
            prediction: Vec::new(),
            owner: None,
            space: Owner::default(),
            share: Share::default(),
            logprobs: None,
            prompt_logprobs: false,
            sampled_logprobs: false,
        },
        arrived_us,
        deadline_us: config.deadline.map(|deadline| arrived_us + deadline.as_micros() as u64),
        reply,
    };
    stack.submitter.push(submission).map_err(|_| RequestError::ShuttingDown)?;
    Ok(reader)
}

/// Writes the text piece by piece. If the reader of stdout goes away, generation ends without an error.
fn write_text(stack: &Stack, mut reader: ReplyReader) -> Result<(), StartupError> {
    let table = stack.tokenizer.table();
    let (mut pieces, mut text, mut shown) = (Vec::new(), TextAssembler::default(), String::new());
    let mut stdout = std::io::stdout().lock();
    loop {
        let state = reader.wait(None, Wake::EachPiece);
        reader.read_into(&mut pieces);
        pieces.drain(..).for_each(|piece| text.push(piece, table, &mut shown));
        if let ReplyState::Finished(end) = state {
            text.finish(end.text_end, &mut shown);
        }
        if write!(stdout, "{shown}").and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
        shown.clear();
        match state {
            ReplyState::Finished(end) => {
                let _ = writeln!(stdout);
                return match end.reason {
                    FinishReason::Eos | FinishReason::Stop | FinishReason::Length => Ok(()),
                    other => Err(StartupError::System { doing: "generate".into(), reason: other.as_str().to_owned() }),
                };
            }
            ReplyState::Pieces | ReplyState::TimedOut => {}
        }
    }
}
