//! Path and method to what shall be done. Pure.

use tiny_http::{Method, Request};

use super::path::{path_of, plain};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Generate,
    GenerateStream,
    ChatCompletions,
    Responses,
    Completions,
    /// The prompt of a chat as tokens.
    RenderChat,
    /// The prompts of a completion as tokens.
    RenderCompletion,
    Embeddings,
    /// llama-server's form of them.
    Embedding,
    Rerank,
    Messages,
    CountTokens,
    Models,
    Model,
    Benchmark,
    Encode,
    Decode,
    Completion,
    /// A gap in a text, filled.
    Infill,
    Tokenize,
    Detokenize,
    ApplyTemplate,
    Props,
    Slots,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    OllamaEmbeddings,
    OllamaTags,
    OllamaShow,
    OllamaPs,
    OllamaVersion,
    OllamaPull,
    OllamaPush,
    OllamaCreate,
    OllamaCopy,
    OllamaDelete,
    ModelInfo,
    Health,
    Ready,
    Version,
    Metrics,
    Keys,
    Trace,
    KvBlocks,
    OpenApi,
    Index,
    /// A file of the page.
    Page,
}

/// Why there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404.
    NotFound,
    /// 405, with what the path does take.
    WrongMethod { allow: &'static str },
}

/// The names and shapes that a family of clients reads: a room of `dialect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    OpenAi,
    Responses,
    Anthropic,
    LlamaServer,
    Ollama,
}

impl Dialect {
    /// The dialect of the route that `url` leads to. A path that leads nowhere is answered like its neighbours.
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

/// A path that leads somewhere.
#[derive(Debug)]
pub struct Row {
    pub method: &'static str,
    /// May end with `{id}`.
    pub path: &'static str,
    /// Whose names and shapes it has.
    pub dialect: Dialect,
    pub route: Route,
    /// What people are told of it.
    pub about: &'static str,
}

const fn row(method: &'static str, path: &'static str, dialect: Dialect, route: Route, about: &'static str) -> Row {
    Row { method, path, dialect, route, about }
}

/// Each path, its method, dialect and route. Read by people at `GET /`, too.
pub const ROUTES: &[Row] = &[
    row("POST", "/generate", Dialect::Native, Route::Generate, "text from a prompt or messages"),
    row("POST", "/generate_stream", Dialect::Native, Route::GenerateStream, "the same, as server-sent events"),
    row("POST", "/v1/chat/completions", Dialect::OpenAi, Route::ChatCompletions, "OpenAI's chat"),
    row("POST", "/v1/responses", Dialect::Responses, Route::Responses, "OpenAI's responses; none is stored"),
    row("POST", "/v1/completions", Dialect::OpenAi, Route::Completions, "OpenAI's completions"),
    row(
        "POST",
        "/v1/chat/completions/render",
        Dialect::OpenAi,
        Route::RenderChat,
        "as vLLM's: a chat's prompt as tokens",
    ),
    row(
        "POST",
        "/v1/completions/render",
        Dialect::OpenAi,
        Route::RenderCompletion,
        "as vLLM's: a completion's prompts as tokens",
    ),
    row(
        "POST",
        "/v1/embeddings",
        Dialect::OpenAi,
        Route::Embeddings,
        "OpenAI's embeddings, of a model that makes them",
    ),
    row(
        "POST",
        "/v1/rerank",
        Dialect::LlamaServer,
        Route::Rerank,
        "documents by how well they answer a query, of a model that ranks",
    ),
    row("POST", "/v1/reranking", Dialect::LlamaServer, Route::Rerank, "the same"),
    row("POST", "/rerank", Dialect::LlamaServer, Route::Rerank, "the same"),
    row("POST", "/reranking", Dialect::LlamaServer, Route::Rerank, "the same"),
    row("POST", "/embedding", Dialect::LlamaServer, Route::Embedding, "as llama-server's: embeddings"),
    row("POST", "/v1/messages", Dialect::Anthropic, Route::Messages, "Anthropic's chat"),
    row(
        "POST",
        "/v1/messages/count_tokens",
        Dialect::Anthropic,
        Route::CountTokens,
        "how many tokens a request of it would have",
    ),
    row("GET", "/v1/models", Dialect::OpenAi, Route::Models, "the model, as OpenAI's clients list it"),
    row("GET", "/v1/models/{id}", Dialect::OpenAi, Route::Model, "the same, by its name"),
    row(
        "POST",
        "/benchmark",
        Dialect::Native,
        Route::Benchmark,
        "many generations from inside, and how fast they were",
    ),
    row("POST", "/encode", Dialect::Native, Route::Encode, "text to tokens"),
    row("POST", "/decode", Dialect::Native, Route::Decode, "tokens to text"),
    row(
        "POST",
        "/completion",
        Dialect::LlamaServer,
        Route::Completion,
        "as llama-server's: text that follows a prompt",
    ),
    row(
        "POST",
        "/infill",
        Dialect::LlamaServer,
        Route::Infill,
        "as llama-server's: what stands between two texts, for editors",
    ),
    row("POST", "/tokenize", Dialect::LlamaServer, Route::Tokenize, "as llama-server's"),
    row("POST", "/detokenize", Dialect::LlamaServer, Route::Detokenize, "as llama-server's"),
    row("POST", "/apply-template", Dialect::OpenAi, Route::ApplyTemplate, "as llama-server's: messages to a prompt"),
    row("GET", "/props", Dialect::LlamaServer, Route::Props, "as llama-server's: what is served, with its defaults"),
    row("GET", "/slots", Dialect::LlamaServer, Route::Slots, "who is being served, and how far"),
    row("POST", "/api/chat", Dialect::Ollama, Route::OllamaChat, "as Ollama's: chat"),
    row("POST", "/api/generate", Dialect::Ollama, Route::OllamaGenerate, "as Ollama's: an answer to a prompt"),
    row("POST", "/api/embed", Dialect::Ollama, Route::OllamaEmbed, "as Ollama's: embeddings"),
    row("POST", "/api/embeddings", Dialect::Ollama, Route::OllamaEmbeddings, "as Ollama's: one embedding"),
    row("GET", "/api/tags", Dialect::Ollama, Route::OllamaTags, "as Ollama's: the models, which is one"),
    row("POST", "/api/show", Dialect::Ollama, Route::OllamaShow, "as Ollama's: the model"),
    row("GET", "/api/ps", Dialect::Ollama, Route::OllamaPs, "as Ollama's: the models in memory"),
    row("GET", "/api/version", Dialect::Ollama, Route::OllamaVersion, "as Ollama's"),
    row("POST", "/api/pull", Dialect::Ollama, Route::OllamaPull, "501: no model is changed here"),
    row("POST", "/api/push", Dialect::Ollama, Route::OllamaPush, "501"),
    row("POST", "/api/create", Dialect::Ollama, Route::OllamaCreate, "501"),
    row("POST", "/api/copy", Dialect::Ollama, Route::OllamaCopy, "501"),
    row("DELETE", "/api/delete", Dialect::Ollama, Route::OllamaDelete, "501"),
    row("GET", "/model/info", Dialect::Native, Route::ModelInfo, "what is being served"),
    row("GET", "/health", Dialect::Native, Route::Health, "alive, and when it last made a step"),
    row("GET", "/ready", Dialect::Native, Route::Ready, "503 while stopping or stalled"),
    row("GET", "/version", Dialect::Native, Route::Version, "the program's version"),
    row("GET", "/metrics", Dialect::Native, Route::Metrics, "Prometheus"),
    row("GET", "/keys", Dialect::Native, Route::Keys, "what each API key may do and has got; wants an admin key"),
    row("GET", "/debug/trace", Dialect::Native, Route::Trace, "a timeline of the engine's steps, with --trace"),
    row(
        "GET",
        "/debug/kv-blocks",
        Dialect::Native,
        Route::KvBlocks,
        "names of the blocks that the KV cache holds, with --kv-events",
    ),
    row("GET", "/openapi.json", Dialect::Native, Route::OpenApi, "all of this, for programs: an OpenAPI document"),
    row("GET", "/", Dialect::Native, Route::Index, "this list; in a browser, the page"),
    row("GET", "/page/{id}", Dialect::Native, Route::Page, "a file of the page"),
];

impl Route {
    /// Whether it takes a model that makes embeddings.
    pub fn embeds(self) -> bool {
        matches!(self, Route::Embeddings | Route::Embedding | Route::OllamaEmbed | Route::OllamaEmbeddings)
    }

    /// Whether it uses the model, or tells of it what a key that may not use it needn't know.
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

    /// Whether it takes a model that generates.
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

/// The path of a route that stands under `/v1`, from a client that was given the address without it.
fn under_v1(path: &str) -> Option<String> {
    const PARENTS: [&str; 6] =
        ["/chat/completions", "/completions", "/embeddings", "/messages", "/models", "/responses"];
    let is_child =
        |parent: &str| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PARENTS.into_iter().any(is_child).then(|| format!("/v1{path}"))
}

/// Paths that other servers have and this one has not, with what to do instead.
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

/// What a client is told about a path that leads nowhere.
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

/// Whether `known`, which may end with `{id}`, is or matches `path`.
pub(in crate::http) fn leads(known: &str, path: &str) -> bool {
    match known.strip_suffix("{id}") {
        Some(before) => path.strip_prefix(before).is_some_and(|id| !id.is_empty()),
        None => known == path,
    }
}

/// The row that a plain path leads to.
pub fn found(path: &str) -> Option<&'static Row> {
    let row = |path: &str| ROUTES.iter().find(|row| leads(row.path, path));
    row(path).or_else(|| row(&under_v1(path)?))
}

/// Finds the route of `url`, whose query is ignored. HEAD goes where GET goes.
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

/// Whether the request is that of a browser for a page to show.
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
