//! The input is a path, a line end and the body of a request. A server without a model reads it, generates and answers.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use fuzzing::{last, served};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Every route that takes JSON, but `/benchmark`, which works for as long as it is asked to.
const PATHS: [&str; 22] = [
    "/generate",
    "/generate_stream",
    "/encode",
    "/decode",
    "/v1/chat/completions",
    "/v1/chat/completions/render",
    "/v1/completions",
    "/v1/completions/render",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/rerank",
    "/completion",
    "/infill",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/show",
];

static SOCKET: OnceLock<PathBuf> = OnceLock::new();

/// A panic of any thread ends the process, also where the server would go on; but for llguidance's on the thread that compiles
/// grammars, which is there to be survived.
fn end_at_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name() != Some("grammar") {
            eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
}

fuzz_target!(init: end_at_panics(), |input: &[u8]| -> Corpus {
    last::keep(input);
    let Some(at) = input.iter().position(|byte| *byte == b'\n') else { return Corpus::Reject };
    let Some(path) = PATHS.iter().find(|path| path.as_bytes() == &input[..at]) else { return Corpus::Reject };
    let answer = served::post(SOCKET.get_or_init(served::start), path, &input[at + 1..]);
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|s| s.parse::<u16>().ok());
    let status = status.expect("an answer has a status");
    assert!(status < 500 || status == 501, "{}", String::from_utf8_lossy(&answer));
    Corpus::Keep
});
