//! Ollama's API, for programs that speak nothing else: `/api/...`. Streams are lines of JSON, and are what an answer is unless
//! the body says `"stream": false`.
//!
//! ```text
//! request  bodies of /api/chat and /api/generate
//! answer   their answers, whole or in lines
//! embed    /api/embed and /api/embeddings
//! about    /api/tags, /api/ps, /api/show, /api/version; and what this server doesn't do
//! ```

mod about;
mod answer;
mod embed;
mod request;

use serde_json::{Value, json};
use tiny_http::Request;

use crate::http::ask::generation::{Defaults, Generation};
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::run::refuse::{ErrorShape, Fault};
use crate::http::run::speaks::{Speaks, Told};
use crate::http::service::Service;
use crate::types::RequestError;
use answer::OllamaAnswer;

pub use embed::EmbedRequest;
pub use request::OllamaRequest;

/// Ollama's errors: `{"error": MESSAGE}`.
pub static ERRORS: ErrorShape = ErrorShape { schema: "OllamaError", body, prompt_field: None, too_long: None };

fn body(fault: &Fault<'_>) -> Value {
    json!({"error": fault.message})
}

/// `/api/chat`, or `/api/generate` if not `is_chat`.
#[derive(Debug)]
pub struct Ollama {
    is_chat: bool,
}

impl Speaks for Ollama {
    const ERRORS: &'static ErrorShape = &ERRORS;
    const MAX_TOKENS: &'static str = "options.num_predict";
    type Whole<'a> = OllamaAnswer<'a>;
    type Events<'a> = OllamaAnswer<'a>;

    /// Parses the body of a chat with a prompt. Used by the trait; the routes use `OllamaRequest`.
    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Ollama), RequestError> {
        let request = OllamaRequest::parse(body, true, defaults, fresh_seed)?;
        let generation = request.generation.ok_or_else(|| RequestError::field("messages", "is missing"))?;
        Ok((generation, Ollama { is_chat: true }))
    }

    fn whole(self, told: Told<'_>) -> OllamaAnswer<'_> {
        OllamaAnswer::new(&told.service.parts.model.name, self.is_chat, false)
    }

    fn events(self, told: Told<'_>) -> OllamaAnswer<'_> {
        OllamaAnswer::new(&told.service.parts.model.name, self.is_chat, true)
    }
}

impl Service {
    /// Answers `/api/chat`, or `/api/generate` if not `is_chat`.
    pub(in crate::http) fn ollama(&self, request: Request, caller: &Caller, is_chat: bool) {
        let (defaults, seed) = (&self.parts.defaults, self.seed_for(caller));
        match OllamaRequest::parse(request.body(), is_chat, defaults, seed) {
            Ok(OllamaRequest { generation: None, unloads }) => {
                let turn = OllamaAnswer::new(&self.parts.model.name, is_chat, false);
                let answer = turn.of_nothing(if unloads { "unload" } else { "load" });
                self.respond(request, caller, json_response(200, &answer));
            }
            Ok(OllamaRequest { generation: Some(generation), .. }) => {
                self.run_parsed(request, caller, Ok((generation, Ollama { is_chat })));
            }
            Err(error) => self.refuse(request, caller, &ERRORS, &error),
        }
    }
}
