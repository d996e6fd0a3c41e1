//! A stream has the text of a whole answer, in whole characters.

use serde_json::{Value, json};

use super::at_once;
use super::server::Server;

#[test]
fn events_add_up_to_the_answer_and_never_hold_half_a_character() {
    let server = Server::start("");
    // Each byte of these characters is a token of its own in this vocabulary: bias forces them out in pieces.
    let bytes = |text: &str| -> Vec<u64> {
        let ids = server.client().post("/encode", &json!({"text": text})).data()["tokens"].clone();
        ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    let pieces: Vec<u64> = "é日🦀→".chars().flat_map(|c| bytes(&c.to_string())).collect();
    assert!(pieces.len() > 8, "characters of several tokens: {pieces:?}");
    let requests: Vec<Value> = (0..60)
        .map(|seed| {
            let bias: serde_json::Map<_, _> = pieces.iter().map(|id| (id.to_string(), json!(8 + seed % 20))).collect();
            let stop = [Value::Null, json!(["日本", "é"]), json!("🦀")][seed % 3].clone();
            json!({"prompt": "é日🦀→é日🦀→", "seed": seed, "temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0,
                   "max_tokens": 80, "ignore_eos": true, "logit_bias": bias, "stop": stop})
        })
        .collect();
    let streams = at_once(8, &requests, |request| server.stream(request).finish());
    let wholes = at_once(8, &requests, |request| server.generate(request).data());
    let (mut of_many_bytes, mut replaced) = (0, 0);
    for ((text, end), whole) in streams.iter().zip(&wholes) {
        assert_eq!(&json!(text), &whole["text"]);
        for name in ["generated_tokens", "prompt_tokens", "finish_reason", "seed"] {
            assert_eq!(end[name], whole[name], "{name}");
        }
        assert_eq!((end["done"].clone(), end["token"].clone()), (json!(true), json!("")));
        assert!(end["timings"]["decode_s"].as_f64().is_some());
        of_many_bytes += text.chars().filter(|c| c.len_utf8() > 1 && *c != char::REPLACEMENT_CHARACTER).count();
        replaced += text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    }
    println!("{of_many_bytes} characters of several bytes, {replaced} that never were completed");
    assert!(of_many_bytes > 20 && replaced > 20);
}

#[test]
fn each_event_carries_the_id_and_stream_true_is_the_same_route() {
    let server = Server::start("-np 2");
    let request = json!({"prompt": "Once", "temperature": 0, "max_tokens": 20, "ignore_eos": true, "stream": true});
    let mut events = server.client().events("/generate", &request);
    let (mut ids, mut text) = (Vec::new(), String::new());
    while let Some(event) = events.next() {
        ids.push(event["id"].clone());
        text += event["token"].as_str().unwrap();
    }
    assert!(ids.len() > 2 && ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    // The connection stays usable, and `/generate_stream` streams even if the body says `"stream": false`.
    let mut no = request.clone();
    no["stream"] = json!(false);
    let mut client = events.into_client();
    assert_eq!(client.post("/generate", &no).data()["text"], json!(text));
    assert_eq!(client.events("/generate_stream", &no).finish().0, text);
}

#[test]
fn an_old_client_gets_the_events_in_one_piece() {
    let server = Server::start("-np 1");
    let body = json!({"prompt": "Once", "max_tokens": 5, "ignore_eos": true}).to_string();
    let mut client = server.client();
    let head = format!("POST /generate_stream HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write(head.as_bytes()).unwrap();
    let answer = client.answer(false).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().trim_end().ends_with('}') && answer.text().contains("\"done\":true"));
}
