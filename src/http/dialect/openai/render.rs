//! `/v1/chat/completions/render` and `/v1/completions/render`: the tokens of a body's prompt, without a generation. The
//! routes are vLLM's (`vllm launch render`). Routers, such as the endpoint pickers of llm-d and Dynamo, use them to
//! find where a prompt's beginning is cached.

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use super::{ERRORS, chat_request, completion_request};
use crate::http::ask::generation::Generation;
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::service::Service;
use crate::types::{RequestError, Token};

impl Service {
    /// The body of a chat to one object.
    pub(in crate::http) fn render_chat(&self, request: &Request, caller: &Caller) -> ResponseBox {
        let parsed = chat_request::parse(request.body(), &self.parts.defaults, self.seed_for(caller));
        let rendered = parsed.and_then(|(generation, _)| self.rendered("chatcmpl", caller, generation));
        self.rendering(caller, rendered.map(|mut all| all.pop().unwrap_or_default()))
    }

    /// The body of a completion to a list with an object for each prompt.
    pub(in crate::http) fn render_completion(&self, request: &Request, caller: &Caller) -> ResponseBox {
        let parsed = completion_request::parse(request.body(), &self.parts.defaults, self.seed_for(caller));
        let rendered = parsed.and_then(|(generation, _)| self.rendered("cmpl", caller, generation));
        self.rendering(caller, rendered.map(Value::Array))
    }

    fn rendering(&self, caller: &Caller, rendered: Result<Value, RequestError>) -> ResponseBox {
        match rendered {
            Ok(value) => json_response(200, &value),
            Err(error) => self.refusal(caller, &ERRORS, &error),
        }
    }

    /// An object for each input. A prompt that is too long for the context is no error here.
    ///
    /// # Errors
    /// The template refuses the conversation, or the tokenizer fails.
    fn rendered(&self, kind: &str, caller: &Caller, mut generation: Generation) -> Result<Vec<Value>, RequestError> {
        let inputs = std::mem::take(&mut generation.inputs);
        let one = |input| Ok(self.rendered_tokens(kind, caller, &generation, &self.read(input, &generation)?.tokens));
        inputs.into_iter().map(one).collect()
    }

    /// The fields of vLLM's `GenerateRequest` that have a meaning here.
    fn rendered_tokens(&self, kind: &str, caller: &Caller, generation: &Generation, tokens: &[Token]) -> Value {
        let (base, sampling) = (self.base(kind, "", caller.id), &generation.sampling);
        json!({
            "request_id": base["id"],
            "model": base["model"],
            "token_ids": tokens.iter().map(|token| token.0).collect::<Vec<u32>>(),
            "sampling_params": {
                "n": generation.answers,
                "max_tokens": generation.max_tokens,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "seed": sampling.seed,
            },
            "stream": generation.stream,
        })
    }
}
