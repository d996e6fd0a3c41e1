//! The loop of one HTTP thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tiny_http::{Method, Request, ResponseBox, Server};

use super::account::Standing;
use super::ask::gap::NO_TOKENS;
use super::ask::warnings;
use super::caller::Caller;
use super::dialect::{anthropic, llama_server, native, openai, responses};
use super::fault::header;
use super::plain::page;
use super::route::{Dialect, NoRoute, Route, absence, route, wants_page};
use super::service::Service;
use crate::types::{Pooling, RequestError};

/// Answers requests until the server is unblocked and `stop` returns true.
pub fn serve_requests(server: &Server, service: &Service, stop: impl Fn() -> bool) {
    serve_each(server, stop, |request| service.answer(request), || service.parts.metrics.http.answers(500).inc());
}

/// Calls `answer` with each request. If it panics, only that request ends: tiny_http answers 500, or closes a stream
/// that has begun, the engine sees that the reader is gone, and the thread continues. `panicked` is called then.
fn serve_each(server: &Server, stop: impl Fn() -> bool, answer: impl Fn(Request), panicked: impl Fn()) {
    while !stop() {
        let Ok(request) = server.recv() else { continue };
        // Data that a request leaves on its thread is reset by the next one: see `Caller::of`.
        if catch_unwind(AssertUnwindSafe(|| answer(request))).is_err() {
            tracing::error!("a fault of this program ended a request: please report the panic message above");
            panicked();
        }
    }
}

impl Service {
    /// Serves one request, from its route to its answer.
    pub fn answer(&self, request: Request) {
        let caller = Caller::of(&request, self.next_id(), self.parts.access.cors_headers(&request));
        if let Some(response) = self.parts.access.preflight(&request) {
            return self.respond(request, &caller, response);
        }
        let route = route(request.method(), request.url());
        caller.line.leads_to(request.method(), route);
        let is_open = self.parts.metrics_are_open && route == Ok(Route::Metrics);
        let standing = if is_open { Ok(Standing::default()) } else { self.parts.access.check(&request, route.ok()) };
        let caller = match standing {
            Ok(standing) => caller.coming_as(standing),
            Err(denied) => {
                self.note_refusal(&caller, "invalid_api_key");
                let response = Dialect::at(request.url()).errors().denial(denied);
                return self.respond(request, &caller, response);
            }
        };
        let denied = route.ok().filter(|route| route.uses_model()).and_then(|_| self.model_denied(&caller));
        if let Some(error) = denied.or_else(|| route.ok().and_then(|route| self.unsupported(route))) {
            let errors = Dialect::at(request.url()).errors();
            return self.refuse(request, &caller, errors, &error);
        }
        let response = match route {
            Err(why) => no_route(why, request.url()),
            Ok(Route::Generate) => return self.run::<native::Native>(request, &caller),
            Ok(Route::GenerateStream) => return self.generate_stream(request, &caller),
            Ok(Route::ChatCompletions) => return self.run::<openai::Chat>(request, &caller),
            Ok(Route::Responses) => return self.run::<responses::Responses>(request, &caller),
            Ok(Route::Completions) => return self.run::<openai::Completions>(request, &caller),
            Ok(Route::RenderChat) => self.render_chat(&request, &caller),
            Ok(Route::RenderCompletion) => self.render_completion(&request, &caller),
            Ok(Route::Embeddings) => return self.embeddings(request, &caller),
            Ok(Route::Embedding) => return self.llama_embedding(request, &caller),
            Ok(Route::Rerank) => return self.rerank(request, &caller),
            Ok(Route::Messages) => return self.run::<anthropic::Messages>(request, &caller),
            Ok(Route::CountTokens) => return self.count_tokens(request, &caller),
            Ok(Route::Models) => self.models(&caller),
            Ok(Route::Model) => self.model(request.url(), &caller),
            Ok(Route::Benchmark) => return self.benchmark(request, &caller),
            Ok(Route::Encode) => self.encode(&request, &caller),
            Ok(Route::Decode) => self.decode(&request, &caller),
            Ok(Route::Infill) => return self.run::<llama_server::Infill>(request, &caller),
            Ok(Route::Completion) => return self.run::<llama_server::Completion>(request, &caller),
            Ok(Route::Tokenize) => self.tokenize(&request, &caller),
            Ok(Route::Detokenize) => self.detokenize(&request, &caller),
            Ok(Route::ApplyTemplate) => self.apply_template(&request, &caller),
            Ok(Route::Props) => self.props(),
            Ok(Route::Slots) => self.slots(),
            Ok(Route::OllamaChat) => return self.ollama(request, &caller, true),
            Ok(Route::OllamaGenerate) => return self.ollama(request, &caller, false),
            Ok(Route::OllamaEmbed) => return self.ollama_embed(request, &caller, false),
            Ok(Route::OllamaEmbeddings) => return self.ollama_embed(request, &caller, true),
            Ok(Route::OllamaTags) => self.ollama_tags(&caller),
            Ok(Route::OllamaShow) => self.ollama_show(),
            Ok(Route::OllamaPs) => self.ollama_ps(&caller),
            Ok(Route::OllamaVersion) => self.ollama_version(),
            Ok(
                Route::OllamaPull | Route::OllamaPush | Route::OllamaCreate | Route::OllamaCopy | Route::OllamaDelete,
            ) => self.ollama_unsupported(),
            Ok(Route::ModelInfo) => self.model_info(),
            Ok(Route::Health) => self.health(),
            Ok(Route::Ready) => self.ready(),
            Ok(Route::Version) => self.version(),
            Ok(Route::Trace) => return self.trace(request, &caller),
            Ok(Route::Metrics) => self.metrics(&request),
            Ok(Route::Keys) => self.keys(&caller),
            Ok(Route::KvBlocks) => self.kv_blocks(&caller),
            Ok(Route::OpenApi) => self.openapi(),
            Ok(Route::Index) if wants_page(&request) => page::front(),
            Ok(Route::Index) => self.index(&request),
            Ok(Route::Page) => page::file(request.url()),
        };
        self.respond(request, &caller, response);
    }

    /// Does what `answer` does for `POST /generate` between reading and writing, without a connection: routes,
    /// generates, adds headers and counts. For benchmarks without sockets.
    pub fn answer_unconnected(&self, method: &Method, url: &str, body: &[u8]) -> ResponseBox {
        let id = self.next_id();
        warnings::forget();
        let caller = Caller::unconnected(id);
        let mut response = match route(method, url) {
            Ok(Route::Generate) => self.generate_unconnected(&caller, body),
            Ok(_) => no_route(NoRoute::NotFound, url),
            Err(why) => no_route(why, url),
        };
        caller.sign(&mut response);
        self.parts.metrics.http.answers(response.status_code().0).inc();
        response
    }

    /// The refusal if the caller's key may not use this server's model.
    fn model_denied(&self, caller: &Caller) -> Option<RequestError> {
        let model = &self.parts.model.name;
        if caller.may_use(model) {
            return None;
        }
        let key = caller.standing.account.as_ref().map(|account| account.terms.name.clone()).unwrap_or_default();
        Some(RequestError::ModelDenied { key, model: model.clone() })
    }

    /// The refusal if this server's model can't do what the route needs.
    fn unsupported(&self, route: Route) -> Option<RequestError> {
        let ranks = self.parts.model.embedding.is_some_and(|embedding| embedding.pooling == Pooling::Rank);
        let why = match (self.parts.submitter.embeds(), route) {
            (_, Route::Rerank) if !ranks => {
                "this model doesn't rank: POST /v1/rerank takes a reranker, such as bge-reranker"
            }
            (true, route) if ranks && (route.generates() || route.embeds()) => {
                "this model ranks documents: ask POST /v1/rerank, or cllm serve --pooling cls makes embeddings of it"
            }
            (true, route) if route.generates() => "this model makes embeddings, not text: ask POST /v1/embeddings",
            (false, route) if route.embeds() => {
                "this server generates text: cllm serve --embeddings makes embeddings, and so does a model made for them"
            }
            (false, Route::Infill) if self.parts.tokenizer.fim().is_none() => NO_TOKENS,
            _ => return None,
        };
        Some(RequestError::Unsupported(why))
    }

    /// Sends an answer and counts it. An error of the connection is ignored: the client is gone.
    pub(in crate::http) fn respond(&self, request: Request, caller: &Caller, mut response: ResponseBox) {
        caller.sign(&mut response);
        caller.line.answered(response.status_code().0);
        self.parts.metrics.http.answers(response.status_code().0).inc();
        let _ = request.respond(response);
    }
}

/// The answer to a path or method without a route.
fn no_route(why: NoRoute, url: &str) -> ResponseBox {
    let errors = Dialect::at(url).errors();
    match why {
        NoRoute::NotFound => errors.answer(404, &absence(url), "not_found", Value::Null),
        NoRoute::WrongMethod { allow } => errors
            .answer(405, &format!("this path takes {allow}"), "method_not_allowed", Value::Null)
            .with_header(header("Allow", allow)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_panic_ends_one_request_and_not_its_thread() {
        let server = Server::http("127.0.0.1:0").unwrap();
        let addr = server.server_addr().to_string();
        let client = std::thread::spawn(move || {
            ["/panic", "/fine"].map(|path| {
                let mut stream = TcpStream::connect(&addr).unwrap();
                write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            })
        });
        let (answered, panicked) = (Cell::new(0), Cell::new(0));
        let answer = |request: Request| {
            answered.set(answered.get() + 1);
            assert_ne!(request.url(), "/panic", "a fault");
            request.respond(tiny_http::Response::from_string("fine")).unwrap();
        };
        serve_each(&server, || answered.get() == 2, answer, || panicked.set(panicked.get() + 1));
        let [bad, good] = client.join().unwrap();
        assert!(bad.starts_with("HTTP/1.1 500 "), "{bad}");
        assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with("fine"), "{good}");
        assert_eq!(panicked.get(), 1);
    }
}
