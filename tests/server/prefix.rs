//! Tokens in the cache aren't decoded again, and that changes no text.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use super::access::{KeyFile, ask_with};
use super::server::Server;

const CLIENTS: usize = 8;
const DECODED: &str = "cllm_prompt_tokens_decoded_total";

fn tokens(server: &Server, text: &str) -> usize {
    server.client().post("/encode", &json!({"text": text})).data()["length"].as_u64().unwrap() as usize
}

/// Words until the text has at least `n` tokens.
fn text_of(server: &Server, n: usize, words: &[&str]) -> String {
    let mut text = String::new();
    for word in words.iter().cycle() {
        if tokens(server, &text) >= n {
            return text;
        }
        text += word;
    }
    unreachable!()
}

#[test]
fn eight_with_one_beginning_decode_it_once() {
    let server = Server::start("-c 16384");
    let words = ["The server ", "loads a model, ", "a fox met ", "an old mill by the river. ", "Then 17 lamps "];
    let prefix = text_of(&server, 600, &words);
    let own = |i: usize| text_of(&server, 20, &[&format!("{i}: who asks? "), "the port ", "is ", "a story "]);
    let prompts: Vec<String> = (0..CLIENTS).map(|i| format!("{prefix}{}", own(i))).collect();
    let shared = tokens(&server, &prefix);
    let alone: usize = prompts.iter().map(|prompt| tokens(&server, prompt) - shared).sum();
    assert!((600..620).contains(&shared) && alone >= CLIENTS * 20);
    let request = |prompt: &str| json!({"prompt": prompt, "temperature": 0, "max_tokens": 30, "ignore_eos": true});

    let together = Barrier::new(CLIENTS);
    let texts: Vec<Value> = thread::scope(|scope| {
        let ask = |prompt| {
            let mut client = server.client();
            together.wait();
            client.post("/generate", &request(prompt)).data()["text"].clone()
        };
        let clients: Vec<_> = prompts.iter().map(|prompt| scope.spawn(move || ask(prompt))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let decoded = server.metric(DECODED);
    println!("{decoded} prompt tokens decoded for {shared} shared ones and {alone} others");
    assert!(decoded as usize * 10 <= (shared + alone) * 11, "{decoded} decoded, {shared} shared, {alone} others");
    assert_eq!(server.metric("cllm_prompt_tokens_total") as usize, CLIENTS * shared + alone);

    for (prompt, text) in prompts.iter().zip(&texts) {
        let fresh = Server::start("-c 16384");
        let data = fresh.generate(&request(prompt)).data();
        assert_eq!((&data["text"], &data["timings"]["cached_prompt_tokens"]), (text, &json!(0)));
    }
}

#[test]
fn a_chats_next_turn_decodes_only_what_is_new() {
    let server = Server::start("");
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let request = |messages: &[Value]| json!({"messages": messages, "temperature": 0, "max_tokens": 60});
    let mut messages =
        vec![turn("system", "You help people use cllm, patiently."), turn("user", "How do I change the port?")];
    let mut before = 0;
    for question in ["And how do I stream tokens?", "Tell me a story about a fox.", "How do I load a model?"] {
        let data = server.generate(&request(&messages)).data();
        let fresh = Server::start("").generate(&request(&messages)).data();
        assert_eq!(data["text"], fresh["text"], "the cache changed a text");
        let decoded = server.metric(DECODED);
        let count = |name: &str| data[name].as_u64().unwrap();
        if before > 0 {
            // The new tokens of this turn: its prompt and the last turn's answer, without the cells of the last turn.
            let new = count("prompt_tokens") - before;
            let cached = data["timings"]["cached_prompt_tokens"].as_u64().unwrap();
            assert!(count("prompt_tokens") - cached <= new + 2, "{cached} cached of {data}, {before} were there");
        }
        before = count("prompt_tokens") + count("generated_tokens") - 1;
        messages.push(turn("assistant", data["text"].as_str().unwrap()));
        messages.push(turn("user", question));
        assert!(decoded > 0);
    }
}

/// Cached tokens of one prompt asked by each of `keys` in turn.
fn cached_by_keys(flags: &str, keys: &[&str]) -> Vec<u64> {
    let file = KeyFile::new(&format!("spaces-{}", flags.len()), "alpha name=alpha\nbeta name=beta\n");
    let server = Server::start(&format!("--api-key-file {} {flags}", file.path()));
    let prompt = "The server loads a model, and a fox met an old mill by the river. ".repeat(8);
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 2, "ignore_eos": true}).to_string();
    let ask = |key: &&str| {
        let key = format!("Authorization: Bearer {key}");
        let answer = ask_with(&mut server.client(), "POST", "/generate", &[&key], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.data()["timings"]["cached_prompt_tokens"].as_u64().expect("a count")
    };
    keys.iter().map(ask).collect()
}

#[test]
fn one_keys_prompts_never_speed_up_anothers() {
    let cached = cached_by_keys("", &["alpha", "beta", "alpha", "beta"]);
    assert_eq!(cached[..2], [0, 0], "the second key's first prompt is a cold one");
    assert!(cached[2] > 100 && cached[3] == cached[2], "{cached:?}: its own it finds again");
}

#[test]
fn keys_share_their_prompts_where_they_are_told_to() {
    let cached = cached_by_keys("--share-prompts", &["alpha", "beta"]);
    assert!(cached[0] == 0 && cached[1] > 100, "{cached:?}");
}
