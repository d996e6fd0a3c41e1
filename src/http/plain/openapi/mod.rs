//! `/openapi.json`: all routes as an OpenAPI 3.1 document. What bodies may hold is not written down here: the parsers of
//! requests tell it themselves, run over examples that touch every place they look at.
//!
//! ```text
//! examples  the bodies
//! schema    what the parsers noted -> JSON schema
//! answers   statuses, and what successes hold
//! ```

mod answers;
mod examples;
mod schema;

use serde_json::{Map, Value, json};
use tiny_http::ResponseBox;

use crate::http::ask::notes::noting;
use crate::http::dialect::anthropic::Messages;
use crate::http::dialect::llama_server::{Completion, EmbeddingRequest, Infill, RerankRequest};
use crate::http::dialect::native::Native;
use crate::http::dialect::ollama::{EmbedRequest, OllamaRequest};
use crate::http::dialect::openai::embeddings::EmbeddingsRequest;
use crate::http::dialect::openai::{Chat, Completions};
use crate::http::dialect::responses::Responses;
use crate::http::fault::json_response;
use crate::http::route::{ROUTES, Route, RouteRow};
use crate::http::run::speaks::Speaks;
use crate::http::service::Service;
use crate::types::RequestError;
use crate::types::limits::TRACE_SECONDS_MAX;

/// Numbers of a vector, for the document of a server that makes no embeddings.
const EMBD_USUAL: usize = 1_024;

impl Service {
    /// Answers with the document, which is made at the first request and then kept.
    pub(in crate::http) fn openapi(&self) -> ResponseBox {
        json_response(200, self.openapi.get_or_init(|| self.document()))
    }

    fn document(&self) -> Value {
        let mut paths = Map::new();
        let mut schemas = answers::error_schemas();
        for RouteRow { method, path, dialect, route, about } in ROUTES {
            let mut operation = json!({
                "operationId": format!("{route:?}"),
                "summary": about,
                "responses": answers::of(method, path, *dialect, *route),
                "parameters": [{"name": "X-Request-Id", "in": "header", "schema": {"type": "string"},
                    "description": "The name by which the answer and the log call the request."}],
            });
            if path.ends_with("{id}")
                && let Some(parameters) = operation["parameters"].as_array_mut()
            {
                parameters.push(
                    json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
                );
            }
            if *route == Route::Trace
                && let Some(parameters) = operation["parameters"].as_array_mut()
            {
                let seconds = json!({"type": "number", "exclusiveMinimum": 0, "maximum": TRACE_SECONDS_MAX});
                parameters.push(json!({"name": "seconds", "in": "query", "schema": seconds}));
            }
            let examples = examples::of(*route);
            if !examples.is_empty() {
                let name = format!("{route:?}Request");
                schemas[&name] = self.body_schema(*route, &examples);
                let examples: Map<String, Value> = examples
                    .into_iter()
                    .enumerate()
                    .map(|(i, value)| (format!("{}", i + 1), json!({"value": value})))
                    .collect();
                let content = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}, "examples": examples});
                operation["requestBody"] =
                    json!({"required": *route != Route::Benchmark, "content": {"application/json": content}});
            }
            let methods = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
            methods[method.to_lowercase()] = operation;
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "cllm",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "A language-model server over llama.cpp: its own routes, and those of OpenAI's, Anthropic's and llama-server's clients.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
            // Whether a key is needed depends on the server's configuration.
            "security": [{}, {"bearer": []}, {"key": []}],
        })
    }

    fn body_schema(&self, route: Route, examples: &[Value]) -> Value {
        let parse = |body: &Value| self.parse_only(route, body.to_string().as_bytes());
        let (parsed, notes) = noting(|| examples.iter().try_for_each(parse));
        debug_assert!(parsed.is_ok(), "{route:?}: {parsed:?}");
        schema::of_notes(notes, &schema::required(examples, parse))
    }

    /// Runs the route's own parser on a body.
    fn parse_only(&self, route: Route, body: &[u8]) -> Result<(), RequestError> {
        let defaults = &self.parts.defaults;
        // The length of the model's embeddings; any length will do for a model that makes none.
        let n_embd = self.parts.model.embedding.map_or(EMBD_USUAL, |embedding| embedding.n_embd);
        match route {
            Route::Generate | Route::GenerateStream => Native::parse(body, defaults, 0).map(drop),
            Route::ChatCompletions | Route::RenderChat | Route::ApplyTemplate => {
                Chat::parse(body, defaults, 0).map(drop)
            }
            Route::Responses => Responses::parse(body, defaults, 0).map(drop),
            Route::Completions | Route::RenderCompletion => Completions::parse(body, defaults, 0).map(drop),
            Route::Embeddings => EmbeddingsRequest::parse(body, n_embd, defaults.deadline_ms).map(drop),
            Route::Embedding => EmbeddingRequest::parse(body).map(drop),
            Route::Rerank => RerankRequest::parse(body, defaults.deadline_ms).map(drop),
            Route::Infill => Infill::parse(body, defaults, 0).map(drop),
            Route::Completion => Completion::parse(body, defaults, 0).map(drop),
            Route::OllamaChat => OllamaRequest::parse(body, true, defaults, 0).map(drop),
            Route::OllamaGenerate => OllamaRequest::parse(body, false, defaults, 0).map(drop),
            Route::OllamaEmbed => EmbedRequest::parse(body, false, n_embd).map(drop),
            Route::OllamaEmbeddings => EmbedRequest::parse(body, true, n_embd).map(drop),
            Route::Messages | Route::CountTokens => Messages::parse(body, defaults, 0).map(drop),
            Route::Benchmark => self.benchmark_plan(body).map(drop),
            Route::Encode => self.encode_data(body).map(drop),
            Route::Decode => self.decode_data(body).map(drop),
            Route::Tokenize => self.tokenized(body).map(drop),
            Route::Detokenize => self.detokenized(body).map(drop),
            _ => Ok(()),
        }
    }
}
