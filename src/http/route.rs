//! Path and method to what shall be done. Pure.

use std::borrow::Cow;

use tiny_http::Method;

use crate::http::dialect::Dialect;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Generate,
    GenerateStream,
    ChatCompletions,
    Responses,
    Completions,
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
    Trace,
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

/// Each path, its method and its route. Read by people at `GET /`, too.
pub const ROUTES: &[Row] = &[
    ("POST", "/generate", Route::Generate, "text from a prompt or messages"),
    ("POST", "/generate_stream", Route::GenerateStream, "the same, as server-sent events"),
    ("POST", "/v1/chat/completions", Route::ChatCompletions, "OpenAI's chat"),
    ("POST", "/v1/responses", Route::Responses, "OpenAI's responses; none is stored"),
    ("POST", "/v1/completions", Route::Completions, "OpenAI's completions"),
    ("POST", "/v1/embeddings", Route::Embeddings, "OpenAI's embeddings, of a model that makes them"),
    ("POST", "/v1/rerank", Route::Rerank, "documents by how well they answer a query, of a model that ranks"),
    ("POST", "/v1/reranking", Route::Rerank, "the same"),
    ("POST", "/rerank", Route::Rerank, "the same"),
    ("POST", "/reranking", Route::Rerank, "the same"),
    ("POST", "/embedding", Route::Embedding, "as llama-server's: embeddings"),
    ("POST", "/v1/messages", Route::Messages, "Anthropic's chat"),
    ("POST", "/v1/messages/count_tokens", Route::CountTokens, "how many tokens a request of it would have"),
    ("GET", "/v1/models", Route::Models, "the model, as OpenAI's clients list it"),
    ("GET", "/v1/models/{id}", Route::Model, "the same, by its name"),
    ("POST", "/benchmark", Route::Benchmark, "many generations from inside, and how fast they were"),
    ("POST", "/encode", Route::Encode, "text to tokens"),
    ("POST", "/decode", Route::Decode, "tokens to text"),
    ("POST", "/completion", Route::Completion, "as llama-server's: text that follows a prompt"),
    ("POST", "/infill", Route::Infill, "as llama-server's: what stands between two texts, for editors"),
    ("POST", "/tokenize", Route::Tokenize, "as llama-server's"),
    ("POST", "/detokenize", Route::Detokenize, "as llama-server's"),
    ("POST", "/apply-template", Route::ApplyTemplate, "as llama-server's: messages to a prompt"),
    ("GET", "/props", Route::Props, "as llama-server's: what is served, with its defaults"),
    ("GET", "/slots", Route::Slots, "who is being served, and how far"),
    ("POST", "/api/chat", Route::OllamaChat, "as Ollama's: chat"),
    ("POST", "/api/generate", Route::OllamaGenerate, "as Ollama's: an answer to a prompt"),
    ("POST", "/api/embed", Route::OllamaEmbed, "as Ollama's: embeddings"),
    ("POST", "/api/embeddings", Route::OllamaEmbeddings, "as Ollama's: one embedding"),
    ("GET", "/api/tags", Route::OllamaTags, "as Ollama's: the models, which is one"),
    ("POST", "/api/show", Route::OllamaShow, "as Ollama's: the model"),
    ("GET", "/api/ps", Route::OllamaPs, "as Ollama's: the models in memory"),
    ("GET", "/api/version", Route::OllamaVersion, "as Ollama's"),
    ("POST", "/api/pull", Route::OllamaPull, "501: no model is changed here"),
    ("POST", "/api/push", Route::OllamaPush, "501"),
    ("POST", "/api/create", Route::OllamaCreate, "501"),
    ("POST", "/api/copy", Route::OllamaCopy, "501"),
    ("DELETE", "/api/delete", Route::OllamaDelete, "501"),
    ("GET", "/model/info", Route::ModelInfo, "what is being served"),
    ("GET", "/health", Route::Health, "alive, and when it last made a step"),
    ("GET", "/ready", Route::Ready, "503 while stopping or stalled"),
    ("GET", "/version", Route::Version, "the program's version"),
    ("GET", "/metrics", Route::Metrics, "Prometheus"),
    ("GET", "/debug/trace", Route::Trace, "a timeline of the engine's steps, with --trace"),
    ("GET", "/openapi.json", Route::OpenApi, "all of this, for programs: an OpenAPI document"),
    ("GET", "/", Route::Index, "this list; in a browser, the page"),
    ("GET", "/page/{id}", Route::Page, "a file of the page"),
];

impl Route {
    /// Whose names and shapes it has.
    pub fn dialect(self) -> Dialect {
        use Route::{
            ApplyTemplate, ChatCompletions, Completion, Completions, CountTokens, Detokenize, Embedding, Embeddings,
            Infill, Messages, Model, Models, OllamaChat, OllamaCopy, OllamaCreate, OllamaDelete, OllamaEmbed,
            OllamaEmbeddings, OllamaGenerate, OllamaPs, OllamaPull, OllamaPush, OllamaShow, OllamaTags, OllamaVersion,
            Props, Rerank, Responses, Slots, Tokenize,
        };
        match self {
            Messages | CountTokens => Dialect::Anthropic,
            ChatCompletions | Responses | Completions | Embeddings | Models | Model => Dialect::OpenAi,
            Embedding | Rerank => Dialect::OpenAi,
            Completion | Infill | Tokenize | Detokenize | ApplyTemplate | Props | Slots => Dialect::OpenAi,
            OllamaChat | OllamaGenerate | OllamaEmbed | OllamaEmbeddings | OllamaTags | OllamaShow | OllamaPs => {
                Dialect::Ollama
            }
            OllamaVersion | OllamaPull | OllamaPush | OllamaCreate | OllamaCopy | OllamaDelete => Dialect::Ollama,
            _ => Dialect::Native,
        }
    }

    /// Whether it takes a model that makes embeddings.
    pub fn embeds(self) -> bool {
        matches!(self, Route::Embeddings | Route::Embedding | Route::OllamaEmbed | Route::OllamaEmbeddings)
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

/// A URL without its query.
pub fn path_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// A path as `ROUTES` writes it: one slash where several stand, none at the end.
pub fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && (path == "/" || !path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Cow::Owned(format!("/{}", parts.join("/")))
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

/// A row of `ROUTES`: method, path, route, and what people are told of it.
type Row = (&'static str, &'static str, Route, &'static str);

/// The row that a plain path leads to.
pub fn found(path: &str) -> Option<&'static Row> {
    let row = |path: &str| ROUTES.iter().find(|(_, known, _, _)| leads(known, path));
    row(path).or_else(|| row(&under_v1(path)?))
}

/// Finds the route of `url`, whose query is ignored. HEAD goes where GET goes.
pub fn route(method: &Method, url: &str) -> Result<Route, NoRoute> {
    let path = plain(path_of(url));
    let (wanted, _, route, _) = found(&path).ok_or(NoRoute::NotFound)?;
    match (*wanted, method) {
        ("GET", Method::Get | Method::Head) | ("POST", Method::Post) | ("DELETE", Method::Delete) => Ok(*route),
        ("GET", _) => Err(NoRoute::WrongMethod { allow: "GET, HEAD" }),
        ("DELETE", _) => Err(NoRoute::WrongMethod { allow: "DELETE" }),
        _ => Err(NoRoute::WrongMethod { allow: "POST" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
