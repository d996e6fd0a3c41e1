//! Routes that llama-server's users know: same fields, same answers; errors in OpenAI's shape, as there.
//!
//! ```text
//! completion_request, completion   /completion, and /infill with a gap in place of the prompt
//! embedding    /embedding
//! rerank       /v1/rerank
//! settings     how a request is sampled, as answers and `/props` tell it
//! ```
//!
//! `/tokenize`, `/detokenize` and `/props` stand here; `/apply-template` stands with OpenAI's chat, whose body it takes.

mod completion;
mod completion_request;
mod embedding;
mod rerank;
mod settings;

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use crate::http::ask::fields::Fields;
use crate::http::ask::gap::Gap;
use crate::http::ask::generation::{Defaults, Generation, Input, PromptPart};
use crate::http::ask::notes::note;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::run::refuse::{ErrorShape, openai_body};
use crate::http::run::speaks::{Speaks, Told};
use crate::http::service::Service;
use crate::types::{RequestError, Token};
use completion::Answers;
use completion_request::AnswerShape;

pub use embedding::EmbeddingRequest;
pub use rerank::RerankRequest;

/// OpenAI's errors.
pub static ERRORS: ErrorShape =
    ErrorShape { schema: "OpenAIError", body: openai_body, prompt_field: Some("prompt"), too_long: None };

/// `/completion`: continues a prompt.
pub type Completion = Continued<false>;
/// `/infill`: like `/completion`, with a gap and its surroundings in place of the prompt.
pub type Infill = Continued<true>;

/// Both routes; `GAP` is true for `/infill`.
#[derive(Debug)]
pub struct Continued<const GAP: bool> {
    shape: AnswerShape,
}

impl<const GAP: bool> Speaks for Continued<GAP> {
    const ERRORS: &'static ErrorShape = &ERRORS;
    const MAX_TOKENS: &'static str = "n_predict";
    type Whole<'a> = Answers<'a>;
    type Events<'a> = Answers<'a>;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Self), RequestError> {
        let (generation, shape) = if GAP {
            let mut fields = Fields::parse(body)?;
            let inputs = vec![Input::Gap(Gap::take(&mut fields)?)];
            completion_request::parse_rest(inputs, fields, defaults, fresh_seed)?
        } else {
            completion_request::parse(body, defaults, fresh_seed)?
        };
        Ok((generation, Continued { shape }))
    }

    fn whole(self, told: Told<'_>) -> Answers<'_> {
        Answers::new(told, self.shape)
    }

    fn events(self, told: Told<'_>) -> Answers<'_> {
        Answers::new(told, self.shape)
    }
}

impl Service {
    /// `{"content", "add_special", "parse_special", "with_pieces"}` to `{"tokens"}`. The content is a text, or an array of texts and
    /// token ids. Tokens are ids, or with pieces `{"id", "piece"}`, where a piece that isn't UTF-8 is an array of bytes.
    pub(in crate::http) fn tokenize(&self, request: &Request, caller: &Caller) -> ResponseBox {
        self.object_or_refusal(caller, self.tokenized(request.body()))
    }

    pub(in crate::http) fn tokenized(&self, body: &[u8]) -> Result<Value, RequestError> {
        let mut fields = Fields::parse(body)?;
        let content = fields.take_noted("content", || json!({"type": "string"}));
        note("content", || json!({"type": "array"}));
        note("content[]", || json!({"type": "string"}));
        note("content[]", || json!({"type": "integer", "minimum": 0}));
        let content = content.ok_or_else(|| RequestError::field("content", "is missing"))?;
        let content = completion_request::parts(content, "content")?;
        let add_special = fields.bool("add_special")?.unwrap_or(false);
        let parse_special = fields.bool("parse_special")?.unwrap_or(true);
        let with_pieces = fields.bool("with_pieces")?.unwrap_or(false);
        warnings::ignored(&fields.unknown());
        let mut tokens = Vec::new();
        for (i, part) in content.into_iter().enumerate() {
            match part {
                // The model's own tokens go in front of a text that it begins with.
                PromptPart::Text(text) => {
                    tokens.extend(self.parts.tokenizer.encode(&text, add_special && i == 0, parse_special)?);
                }
                PromptPart::Token(token) if (token.0 as usize) < self.parts.tokenizer.n_vocab() => tokens.push(token),
                PromptPart::Token(token) => {
                    let last = self.parts.tokenizer.n_vocab() - 1;
                    let message = format!("must be a token id from 0 to {last}, not {}", token.0);
                    return Err(RequestError::field(format!("content[{i}]"), message));
                }
            }
        }
        let tokens = tokens.iter().map(|token| if with_pieces { self.with_piece(*token) } else { json!(token.0) });
        Ok(json!({"tokens": tokens.collect::<Vec<Value>>()}))
    }

    fn with_piece(&self, token: Token) -> Value {
        let piece = match String::from_utf8(self.parts.tokenizer.piece(token, true)) {
            Ok(text) => json!(text),
            Err(error) => json!(error.into_bytes()),
        };
        json!({"id": token.0, "piece": piece})
    }

    /// `{"tokens"}` to `{"content"}`.
    pub(in crate::http) fn detokenize(&self, request: &Request, caller: &Caller) -> ResponseBox {
        self.object_or_refusal(caller, self.detokenized(request.body()))
    }

    pub(in crate::http) fn detokenized(&self, body: &[u8]) -> Result<Value, RequestError> {
        let mut fields = Fields::parse(body)?;
        let tokens = self.token_ids(&mut fields)?;
        warnings::ignored(&fields.unknown());
        Ok(json!({"content": self.parts.tokenizer.decode(&tokens, true)}))
    }

    /// The model and the defaults of requests.
    pub(in crate::http) fn props(&self) -> ResponseBox {
        let (model, defaults, tokenizer) = (&self.parts.model, &self.parts.defaults, &self.parts.tokenizer);
        let text_of = |token: Option<Token>| {
            let piece = token.map(|token| tokenizer.piece(token, true));
            piece.map(|piece| String::from_utf8_lossy(&piece).into_owned()).unwrap_or_default()
        };
        let seed = defaults.seed.map_or(json!(-1), |seed| json!(seed));
        let n_predict = defaults.max_tokens.map_or(json!(-1), |max| json!(max));
        let settings =
            json!({"n_ctx": model.n_ctx, "params": settings::of_defaults(&defaults.sampling, seed, n_predict)});
        let props = json!({
            "default_generation_settings": settings,
            "total_slots": model.slots,
            "model_alias": model.name,
            "model_path": model.path,
            "chat_template": self.parts.template.text(),
            "bos_token": text_of(tokenizer.bos()),
            "eos_token": text_of(tokenizer.eos()),
            "modalities": {"vision": false, "video": false, "audio": false},
            "model_ftype": model.quantisation,
            "endpoint_slots": true,
            "endpoint_props": false,
            "endpoint_metrics": true,
            "is_sleeping": false,
            "build_info": concat!("cllm-", env!("CARGO_PKG_VERSION"), "-", env!("CLLM_BUILD")),
        });
        json_response(200, &props)
    }

    fn object_or_refusal(&self, caller: &Caller, object: Result<Value, RequestError>) -> ResponseBox {
        match object {
            Ok(object) => json_response(200, &object),
            Err(error) => self.refusal(caller, &ERRORS, &error),
        }
    }
}
