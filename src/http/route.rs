//! The routes: from a request's path and method to the work to be done. Pure.

use tiny_http::{Method, Request};

use super::path::{path_of, plain};

/// The work that a request asks for: one variant for each path and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /generate`.
    Generate,
    /// `POST /generate_stream`.
    GenerateStream,
    /// `POST /v1/chat/completions`.
    ChatCompletions,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/chat/completions/render`: the prompt of a chat as tokens.
    RenderChat,
    /// `POST /v1/completions/render`: the prompts of a completion as tokens.
    RenderCompletion,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /embedding`: embeddings in llama-server's format.
    Embedding,
    /// `POST /v1/rerank`, `/v1/reranking`, `/rerank` and `/reranking`.
    Rerank,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`.
    Model,
    /// `POST /benchmark`.
    Benchmark,
    /// `POST /encode`: text to tokens.
    Encode,
    /// `POST /decode`: tokens to text.
    Decode,
    /// `POST /completion`.
    Completion,
    /// `POST /infill`: fills a gap in a text.
    Infill,
    /// `POST /tokenize`: text to tokens, with llama-server's fields.
    Tokenize,
    /// `POST /detokenize`: tokens to text, with llama-server's fields.
    Detokenize,
    /// `POST /apply-template`: the prompt's text of a chat.
    ApplyTemplate,
    /// `GET /props`: the model and the defaults of requests, with llama-server's fields.
    Props,
    /// `GET /slots`: the progress of running requests.
    Slots,
    /// `POST /api/chat`.
    OllamaChat,
    /// `POST /api/generate`.
    OllamaGenerate,
    /// `POST /api/embed`.
    OllamaEmbed,
    /// `POST /api/embeddings`.
    OllamaEmbeddings,
    /// `GET /api/tags`: the models that the key may use.
    OllamaTags,
    /// `POST /api/show`: facts about the model.
    OllamaShow,
    /// `GET /api/ps`: the models in memory.
    OllamaPs,
    /// `GET /api/version`.
    OllamaVersion,
    /// `POST /api/pull`, answered with 501.
    OllamaPull,
    /// `POST /api/push`, answered with 501.
    OllamaPush,
    /// `POST /api/create`, answered with 501.
    OllamaCreate,
    /// `POST /api/copy`, answered with 501.
    OllamaCopy,
    /// `DELETE /api/delete`, answered with 501.
    OllamaDelete,
    /// `GET /model/info`: facts about the model and the server.
    ModelInfo,
    /// `GET /health`: whether the server is alive.
    Health,
    /// `GET /ready`: whether the server can serve requests now.
    Ready,
    /// `GET /version`.
    Version,
    /// `GET /metrics`, for Prometheus.
    Metrics,
    /// `GET /keys`: usage of all API keys, for administrators.
    Keys,
    /// `GET /debug/trace`: a timeline of steps.
    Trace,
    /// `GET /debug/kv-blocks`: the blocks in the KV cache.
    KvBlocks,
    /// `GET /openapi.json`.
    OpenApi,
    /// `GET /`: the list of routes, or the page for a browser.
    Index,
    /// `GET /page/{id}`: a file of the page.
    Page,
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404: no route has this path.
    NotFound,
    /// 405: the path exists, with other methods.
    WrongMethod {
        /// The methods that the path accepts, for `Allow`.
        allow: &'static str,
    },
}

/// The names and formats that a family of clients uses. Each is a room of `dialect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// cllm's own.
    Native,
    /// OpenAI's chat, completions, embeddings and models.
    OpenAi,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// llama-server's.
    LlamaServer,
    /// Ollama's.
    Ollama,
}

impl Dialect {
    /// The dialect of the route of `url`. An unknown path has the dialect of paths with the same beginning.
    pub fn at(url: &str) -> Dialect {
        let path = plain(path_of(url));
        match found(&path) {
            Some(row) => row.dialect,
            None if path.starts_with("/v1/messages/") => Dialect::Anthropic,
            None if path.starts_with("/v1/") => Dialect::OpenAi,
            None if path.starts_with("/api/") => Dialect::Ollama,
            None => Dialect::Native,
        }
    }
}

/// One row of the list of routes.
#[derive(Debug)]
pub struct RouteRow {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, which may end with `{id}`: any further segment.
    pub path: &'static str,
    /// The names and formats of its bodies.
    pub dialect: Dialect,
    /// The work that a request for it asks for.
    pub route: Route,
    /// What the route does, in words for people.
    pub about: &'static str,
}

const fn row(
    method: &'static str,
    path: &'static str,
    dialect: Dialect,
    route: Route,
    about: &'static str,
) -> RouteRow {
    RouteRow { method, path, dialect, route, about }
}

/// All routes. `GET /` shows this list.
pub const ROUTES: &[RouteRow] = &[
    row("POST", "/generate", Dialect::Native, Route::Generate, "text from a prompt or messages"),
    row("POST", "/generate_stream", Dialect::Native, Route::GenerateStream, "like /generate, as server-sent events"),
    row("POST", "/v1/chat/completions", Dialect::OpenAi, Route::ChatCompletions, "OpenAI's chat"),
    row("POST", "/v1/responses", Dialect::Responses, Route::Responses, "OpenAI's responses; none is stored"),
    row("POST", "/v1/completions", Dialect::OpenAi, Route::Completions, "OpenAI's completions"),
    row(
        "POST",
        "/v1/chat/completions/render",
        Dialect::OpenAi,
        Route::RenderChat,
        "vLLM's: the prompt of a chat as tokens",
    ),
    row(
        "POST",
        "/v1/completions/render",
        Dialect::OpenAi,
        Route::RenderCompletion,
        "vLLM's: the prompts of a completion as tokens",
    ),
    row(
        "POST",
        "/v1/embeddings",
        Dialect::OpenAi,
        Route::Embeddings,
        "OpenAI's embeddings; needs a model that makes them",
    ),
    row(
        "POST",
        "/v1/rerank",
        Dialect::LlamaServer,
        Route::Rerank,
        "documents by how well they answer a query; needs a model that ranks",
    ),
    row("POST", "/v1/reranking", Dialect::LlamaServer, Route::Rerank, "like /v1/rerank"),
    row("POST", "/rerank", Dialect::LlamaServer, Route::Rerank, "like /v1/rerank"),
    row("POST", "/reranking", Dialect::LlamaServer, Route::Rerank, "like /v1/rerank"),
    row("POST", "/embedding", Dialect::LlamaServer, Route::Embedding, "llama-server's embeddings"),
    row("POST", "/v1/messages", Dialect::Anthropic, Route::Messages, "Anthropic's chat"),
    row(
        "POST",
        "/v1/messages/count_tokens",
        Dialect::Anthropic,
        Route::CountTokens,
        "Anthropic's count of a chat's prompt tokens",
    ),
    row("GET", "/v1/models", Dialect::OpenAi, Route::Models, "the model, as OpenAI's clients list it"),
    row("GET", "/v1/models/{id}", Dialect::OpenAi, Route::Model, "the model of this name"),
    row(
        "POST",
        "/benchmark",
        Dialect::Native,
        Route::Benchmark,
        "many generations from inside, and how fast they were",
    ),
    row("POST", "/encode", Dialect::Native, Route::Encode, "text to tokens"),
    row("POST", "/decode", Dialect::Native, Route::Decode, "tokens to text"),
    row("POST", "/completion", Dialect::LlamaServer, Route::Completion, "llama-server's completion"),
    row(
        "POST",
        "/infill",
        Dialect::LlamaServer,
        Route::Infill,
        "llama-server's, for editors: the text between two texts",
    ),
    row("POST", "/tokenize", Dialect::LlamaServer, Route::Tokenize, "llama-server's: text to tokens"),
    row("POST", "/detokenize", Dialect::LlamaServer, Route::Detokenize, "llama-server's: tokens to text"),
    row("POST", "/apply-template", Dialect::OpenAi, Route::ApplyTemplate, "llama-server's: messages to a prompt"),
    row("GET", "/props", Dialect::LlamaServer, Route::Props, "llama-server's: the model and the default settings"),
    row("GET", "/slots", Dialect::LlamaServer, Route::Slots, "what each slot is doing"),
    row("POST", "/api/chat", Dialect::Ollama, Route::OllamaChat, "Ollama's chat"),
    row("POST", "/api/generate", Dialect::Ollama, Route::OllamaGenerate, "Ollama's answer to a prompt"),
    row("POST", "/api/embed", Dialect::Ollama, Route::OllamaEmbed, "Ollama's embeddings"),
    row("POST", "/api/embeddings", Dialect::Ollama, Route::OllamaEmbeddings, "Ollama's older route for one embedding"),
    row("GET", "/api/tags", Dialect::Ollama, Route::OllamaTags, "Ollama's list of models, which has one"),
    row("POST", "/api/show", Dialect::Ollama, Route::OllamaShow, "Ollama's description of the model"),
    row("GET", "/api/ps", Dialect::Ollama, Route::OllamaPs, "Ollama's list of models in memory, which has one"),
    row("GET", "/api/version", Dialect::Ollama, Route::OllamaVersion, "Ollama's version"),
    row("POST", "/api/pull", Dialect::Ollama, Route::OllamaPull, "always 501: the server changes no model"),
    row("POST", "/api/push", Dialect::Ollama, Route::OllamaPush, "always 501"),
    row("POST", "/api/create", Dialect::Ollama, Route::OllamaCreate, "always 501"),
    row("POST", "/api/copy", Dialect::Ollama, Route::OllamaCopy, "always 501"),
    row("DELETE", "/api/delete", Dialect::Ollama, Route::OllamaDelete, "always 501"),
    row("GET", "/model/info", Dialect::Native, Route::ModelInfo, "the model that is served"),
    row("GET", "/health", Dialect::Native, Route::Health, "200 while the process answers; the age of the latest step"),
    row("GET", "/ready", Dialect::Native, Route::Ready, "200 while it takes requests; 503 while stopping or stalled"),
    row("GET", "/version", Dialect::Native, Route::Version, "the program's version"),
    row("GET", "/metrics", Dialect::Native, Route::Metrics, "counters and histograms for Prometheus"),
    row("GET", "/keys", Dialect::Native, Route::Keys, "limits and counts of each API key; needs an admin key"),
    row("GET", "/debug/trace", Dialect::Native, Route::Trace, "a timeline of the engine's steps; needs --trace"),
    row(
        "GET",
        "/debug/kv-blocks",
        Dialect::Native,
        Route::KvBlocks,
        "names of the blocks that the KV cache holds; needs --kv-events",
    ),
    row("GET", "/openapi.json", Dialect::Native, Route::OpenApi, "all of this, for programs: an OpenAPI document"),
    row("GET", "/", Dialect::Native, Route::Index, "this list; in a browser, the page"),
    row("GET", "/page/{id}", Dialect::Native, Route::Page, "a file of the page"),
];

impl Route {
    /// Whether the route needs a model that makes embeddings.
    pub fn embeds(self) -> bool {
        matches!(self, Route::Embeddings | Route::Embedding | Route::OllamaEmbed | Route::OllamaEmbeddings)
    }

    /// Whether the route uses the model, or reveals facts about it that only keys with access to the model may read.
    pub fn uses_model(self) -> bool {
        let asks = matches!(
            self,
            Route::Rerank
                | Route::CountTokens
                | Route::RenderChat
                | Route::RenderCompletion
                | Route::Encode
                | Route::Decode
                | Route::Tokenize
                | Route::Detokenize
                | Route::ApplyTemplate
        );
        let tells = matches!(self, Route::OllamaShow | Route::ModelInfo | Route::Props | Route::Slots);
        asks || tells || self.generates() || self.embeds()
    }

    /// Whether the route needs a model that generates.
    pub fn generates(self) -> bool {
        matches!(
            self,
            Route::Generate
                | Route::GenerateStream
                | Route::ChatCompletions
                | Route::Responses
                | Route::Completions
                | Route::Completion
                | Route::Infill
                | Route::Messages
                | Route::OllamaChat
                | Route::OllamaGenerate
                | Route::Benchmark
        )
    }
}

/// The path with `/v1` before it, if there is such a route: some clients are given the address without `/v1`.
fn under_v1(path: &str) -> Option<String> {
    const PARENTS: [&str; 6] =
        ["/chat/completions", "/completions", "/embeddings", "/messages", "/models", "/responses"];
    let is_child =
        |parent: &str| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PARENTS.into_iter().any(is_child).then(|| format!("/v1{path}"))
}

/// Paths of other servers that this one doesn't have, with what to do instead.
const ABSENT: &[(&str, &str)] = &[
    ("/v1/audio", "this server makes no audio and reads none"),
    ("/v1/images", "this server makes no images and reads none"),
    ("/v1/files", "this server stores no files"),
    ("/v1/batches", "this server stores no batches; send the requests at once, they are queued"),
    ("/v1/fine_tuning", "this server does not train"),
    ("/v1/assistants", "this server stores no assistants and no threads"),
    ("/v1/threads", "this server stores no assistants and no threads"),
    ("/v1/vector_stores", "this server stores no vectors; POST /v1/embeddings makes them"),
    ("/v1/moderations", "this server does not moderate"),
    ("/v1/realtime", "this server has no realtime sessions"),
    ("/lora-adapters", "this server loads no adapters"),
    ("/v1/load_lora_adapter", "this server loads no adapters"),
];

/// The message for a client that asked for an unknown path.
pub fn absence(url: &str) -> String {
    let path = plain(path_of(url));
    let found = ABSENT
        .iter()
        .find(|(known, _)| path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    match found {
        Some((_, text)) => format!("{text}. GET / lists the routes"),
        None => "there is nothing here; GET / lists the routes".to_owned(),
    }
}

/// Whether the row's path `known`, which may end with `{id}`, matches `path`.
pub(in crate::http) fn leads(known: &str, path: &str) -> bool {
    match known.strip_suffix("{id}") {
        Some(before) => path.strip_prefix(before).is_some_and(|id| !id.is_empty()),
        None => known == path,
    }
}

/// The row of a plain path (`path::plain`).
pub fn found(path: &str) -> Option<&'static RouteRow> {
    let row = |path: &str| ROUTES.iter().find(|row| leads(row.path, path));
    row(path).or_else(|| row(&under_v1(path)?))
}

/// The route of a method and a URL, whose query is ignored. HEAD has the route of GET.
pub fn route(method: &Method, url: &str) -> Result<Route, NoRoute> {
    let path = plain(path_of(url));
    let row = found(&path).ok_or(NoRoute::NotFound)?;
    match (row.method, method) {
        ("GET", Method::Get | Method::Head) | ("POST", Method::Post) | ("DELETE", Method::Delete) => Ok(row.route),
        ("GET", _) => Err(NoRoute::WrongMethod { allow: "GET, HEAD" }),
        ("DELETE", _) => Err(NoRoute::WrongMethod { allow: "DELETE" }),
        _ => Err(NoRoute::WrongMethod { allow: "POST" }),
    }
}

/// Whether the request comes from a browser that wants a page to show.
pub fn wants_page(request: &Request) -> bool {
    let accept = request.headers().iter().find(|header| header.field.equiv("Accept"));
    accept.is_some_and(|header| header.value.as_str().contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_their_route() {
        for (url, dialect) in [
            ("/generate", Dialect::Native),
            ("/nowhere", Dialect::Native),
            ("/v1/chat/completions?x=1", Dialect::OpenAi),
            ("/v1/responses", Dialect::Responses),
            ("/v1/nowhere", Dialect::OpenAi),
            ("/completion", Dialect::LlamaServer),
            ("/props", Dialect::LlamaServer),
            ("/chat/completions", Dialect::OpenAi),
            ("//v1/messages/", Dialect::Anthropic),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages/batches", Dialect::Anthropic),
            ("/metrics", Dialect::Native),
            ("/api/chat", Dialect::Ollama),
            ("/api/nowhere", Dialect::Ollama),
        ] {
            assert_eq!(Dialect::at(url), dialect, "{url}");
        }
    }

    #[test]
    fn paths_and_methods() {
        assert_eq!(route(&Method::Post, "/generate?x=1"), Ok(Route::Generate));
        assert_eq!(route(&Method::Get, "/v1/models"), Ok(Route::Models));
        assert_eq!(route(&Method::Get, "/v1/models/org/name?x"), Ok(Route::Model));
        assert_eq!(route(&Method::Get, "/v1/models/"), Ok(Route::Models));
        assert_eq!(route(&Method::Head, "/health"), Ok(Route::Health));
        assert_eq!(route(&Method::Get, "/generate"), Err(NoRoute::WrongMethod { allow: "POST" }));
        assert_eq!(route(&Method::Delete, "/metrics"), Err(NoRoute::WrongMethod { allow: "GET, HEAD" }));
    }

    #[test]
    fn paths_are_found_without_v1_and_with_slashes_too_many() {
        for path in ["/chat/completions", "//v1/chat/completions", "/v1/chat/completions/", "/v1//chat/completions?x=/"]
        {
            assert_eq!(route(&Method::Post, path), Ok(Route::ChatCompletions), "{path}");
        }
        assert_eq!(route(&Method::Post, "/messages/count_tokens"), Ok(Route::CountTokens));
        assert_eq!(route(&Method::Get, "/models/org/name"), Ok(Route::Model));
        assert_eq!(route(&Method::Post, "/generate/"), Ok(Route::Generate));
        assert_eq!(route(&Method::Get, "//"), Ok(Route::Index));
        assert_eq!(route(&Method::Get, "/modelsx"), Err(NoRoute::NotFound));
        assert!(absence("/v1/audio/speech").starts_with("this server makes no audio"));
        assert!(absence("/v1/audiox").starts_with("there is nothing here"));
    }
}
