//! `/v1/chat/completions`: fields, log-probabilities, several answers, names.

use serde_json::{Value, json};

use super::server::Server;
use super::{CHAT, ask, stream, tokens, user, with_header};

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().expect("content")
}

#[test]
fn an_answer_has_the_shape_that_clients_expect() {
    let server = Server::start("-np 2");
    let body =
        json!({"model": "gpt-4o", "messages": user("How do I change the port?"), "temperature": 0, "user": "me"});
    let answer = ask(&server, CHAT, &body);
    let native = server.generate(&json!({"messages": user("How do I change the port?"), "temperature": 0})).data();
    assert_eq!(content(&answer), native["text"]);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("cllm-tiny")));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = &answer["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert_eq!((&choice["message"]["role"], &choice["logprobs"]), (&json!("assistant"), &Value::Null));
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], native["prompt_tokens"]);
    assert_eq!(usage["completion_tokens"], native["generated_tokens"]);
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let long = json!({"messages": user(&"What is a fox? ".repeat(20)), "temperature": 0, "max_tokens": 3});
    let (first, second) = (ask(&server, CHAT, &long), ask(&server, CHAT, &long));
    assert!(![&answer["id"], &first["id"]].contains(&&second["id"]));
    let prompt = second["usage"]["prompt_tokens"].as_u64().unwrap();
    let cached = &second["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(cached, &json!(prompt - 1), "all but the last token were in the cache");
}

#[test]
fn developers_and_parts_reach_the_template_as_it_knows_them() {
    let server = Server::start("-np 1");
    let ask = |role: &str, content: Value| {
        let messages = json!([{"role": role, "content": "Be brief."}, {"role": "user", "content": content}]);
        let answer = ask(&server, CHAT, &json!({"messages": messages, "temperature": 0, "max_tokens": 8}));
        (content_of(&answer), answer["usage"]["prompt_tokens"].clone())
    };
    let plain = ask("system", json!("One\ntwo"));
    assert_eq!(ask("developer", json!("One\ntwo")), plain);
    assert_eq!(ask("system", json!([{"type": "text", "text": "One"}, {"type": "text", "text": "two"}])), plain);
}

fn content_of(answer: &Value) -> String {
    content(answer).to_owned()
}

#[test]
fn logprobs_are_the_models_own_distribution() {
    let server = Server::start("-np 2");
    let body = |temperature: f32, bias: Value| {
        json!({"messages": user("Tell me a story"), "max_tokens": 12, "temperature": temperature, "seed": 3, "logprobs": true,
               "top_logprobs": 20, "logit_bias": bias})
    };
    let entries =
        |body: &Value| ask(&server, CHAT, body)["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let cold = entries(&body(0.0, json!({})));
    let answer = ask(&server, CHAT, &body(0.0, json!({})));
    let mut text = Vec::new();
    for entry in &cold {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 20);
        let probability = |entry: &Value| entry["logprob"].as_f64().unwrap().exp();
        let sum: f64 = top.iter().map(probability).sum();
        assert!(sum > 0.5 && sum <= 1.0 + 1e-4, "{sum}");
        assert!(top.is_sorted_by(|a, b| probability(a) >= probability(b)));
        // With greedy sampling the chosen token is the most likely one.
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&entry["token"], &entry["logprob"]));
        text.extend(entry["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8));
    }
    assert_eq!(String::from_utf8(text).unwrap(), content(&answer));
    // Neither temperature nor bias changes the model's own probabilities of the first token.
    let first = |entries: &[Value]| entries[0]["top_logprobs"].clone();
    assert_eq!(first(&entries(&body(2.0, json!({"300": 30})))), first(&cold));
}

/// A token that a stop string cuts off isn't part of the text.
#[test]
fn logprobs_end_where_the_text_ends() {
    let server = Server::start("-np 1");
    let body =
        json!({"messages": user("How do I change the port?"), "temperature": 0, "logprobs": true, "stop": " serve"});
    let answer = ask(&server, CHAT, &body);
    let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let said: String = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(said, content(&answer));
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > entries.len() as u64);
}

#[test]
fn several_answers_prefill_the_prompt_once() {
    const N: usize = 8;
    let server = Server::start("-np 8");
    let question = "What is a fox? ".repeat(40);
    let body = json!({"messages": user(&question), "n": N, "max_tokens": 10, "temperature": 3.0, "seed": 7, "ignore_eos": true,
         "top_k": 0, "top_p": 1.0, "min_p": 0.0});
    let answer = ask(&server, CHAT, &body);
    let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 150);
    let decoded = server.metric("cllm_prompt_tokens_decoded_total");
    println!("{decoded} prompt tokens decoded for {N} answers to a prompt of {prompt}");
    // Each answer needs the logits of the prompt's last token in a row of its own.
    assert!(decoded < prompt + 2 * N as u64, "{decoded}");
    assert_eq!(answer["usage"]["completion_tokens"], 10 * N);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0, "nothing was there before");
    let choices = answer["choices"].as_array().unwrap();
    let mut texts: Vec<&str> = choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    assert!(choices.iter().enumerate().all(|(i, choice)| choice["index"] == i));
    let mut one = body.clone();
    one["n"] = json!(1);
    assert_eq!(content(&ask(&server, CHAT, &one)), texts[0], "the first answer is that of a request for one");
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() > N / 2, "{texts:?}");
}

#[test]
fn several_answers_get_all_their_places_or_none() {
    // The running answer takes minutes, so no request moves on while this test looks.
    let server = Server::start("-np 1 --queue 3 -c 65536");
    let mut running = server.stream(&super::endless());
    assert!(running.next().is_some());
    let body = |n: usize| json!({"messages": user("Hi"), "n": n, "max_tokens": 2});
    let full = server.client().post(CHAT, &body(4));
    assert_eq!((full.status, &full.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert!(full.header("Retry-After").is_some());
    assert_eq!(
        (server.metric("cllm_requests_running"), server.metric("cllm_requests_waiting")),
        (1, 0),
        "none of them got in"
    );
    let never = server.client().post(CHAT, &body(5));
    assert_eq!((never.status, &never.json()["error"]["param"]), (400, &json!("n")));
    let mut waiting = server.client();
    waiting.request("POST", CHAT, body(3).to_string().as_bytes()).unwrap();
    server.wait_for(1, 3);
    running.leave();
    assert_eq!(waiting.answer(false).unwrap().json()["choices"].as_array().unwrap().len(), 3);
    server.wait_for(0, 0);
}

#[test]
fn a_client_that_leaves_ends_all_its_answers() {
    let server = Server::start("-np 4 -c 65536");
    let body = json!({"messages": user("Tell me a story"), "n": 4, "ignore_eos": true});
    let mut client = server.client();
    client.request("POST", CHAT, body.to_string().as_bytes()).unwrap();
    server.wait_for(4, 0);
    client.leave();
    server.wait_for(0, 0);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"cancelled\"}"), 4);
}

#[test]
fn a_request_goes_by_the_clients_name_on_every_route() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    let body = json!({"messages": user("Hi"), "max_tokens": 2, "prompt": "Hi"});
    for path in [CHAT, super::COMPLETIONS, "/encode", "/health", "/nowhere", "/v1/nowhere"] {
        let answer = with_header(&mut client, path, "X-Request-Id: trace/7:a", &body);
        assert_eq!(answer.header("X-Request-Id"), Some("trace/7:a"), "{path}");
        let own = with_header(&mut client, path, "X-Request-Id: not a name", &body);
        assert!(own.header("X-Request-Id").is_some_and(|name| name.starts_with("req-")), "{path}");
    }
    let mut streamed = json!({"prompt": "Hi", "max_tokens": 2, "stream": true});
    for path in ["/generate", super::COMPLETIONS] {
        let answer = with_header(&mut client, path, "x-request-id: s-1", &streamed);
        assert_eq!((answer.status, answer.header("X-Request-Id")), (200, Some("s-1")), "{path}");
    }
    streamed["n"] = json!(0);
    let refused = with_header(&mut client, super::COMPLETIONS, "X-Request-Id: s-2", &streamed);
    assert_eq!((refused.status, refused.header("X-Request-Id")), (400, Some("s-2")));
}

#[test]
fn stops_limits_and_bias_do_what_they_say() {
    let server = Server::start("-np 2");
    let question = json!({"messages": user("How do I change the port?"), "temperature": 0});
    let with = |name: &str, value: Value| {
        let mut body = question.clone();
        body[name] = value;
        ask(&server, CHAT, &body)
    };
    let free = with("n", json!(1));
    let cut = with("stop", json!(["serve", "nothing of the kind"]));
    assert!(content(&free).contains("serve") && content(&free).starts_with(content(&cut)));
    assert!(!content(&cut).contains("serve"));
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    let short = with("max_completion_tokens", json!(3));
    assert_eq!(
        (&short["choices"][0]["finish_reason"], &short["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    let first = tokens(&server, content(&free))[0];
    let forbidden = with("logit_bias", json!({first.to_string(): -100}));
    assert_ne!(tokens(&server, content(&forbidden))[0], first);
    // Without tools no text is a call.
    assert!(
        stream(&server, CHAT, &question).iter().all(|event| event["choices"][0]["delta"].get("tool_calls").is_none())
    );
}
