//! Requests that programs send and other servers accept: each row gets an answer, and a warning names what was changed.

use serde_json::{Value, json};

use super::server::Server;
use super::{CHAT, COMPLETIONS, user};

const MESSAGES: &str = "/v1/messages";

/// Sends `extra` in a small request of each kind, and returns the warnings.
fn taken(server: &Server, path: &str, extra: Value) -> String {
    let mut body = match path {
        COMPLETIONS => json!({"prompt": "a", "max_tokens": 2}),
        _ => json!({"messages": user("Hi"), "max_tokens": 2}),
    };
    for (name, value) in extra.as_object().expect("fields") {
        body[name] = value.clone();
    }
    let answer = server.client().post(path, &body);
    assert_eq!(answer.status, 200, "{path} {extra}: {}", answer.text());
    answer.header("X-Cllm-Warning").unwrap_or_default().to_owned()
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

#[test]
fn limits_that_do_not_fit_are_shortened_and_said() {
    let server = Server::start("-np 1 -c 256");
    for path in [CHAT, COMPLETIONS, MESSAGES, "/generate"] {
        let body =
            json!({"prompt": "Hi", "messages": user("Hi"), "max_tokens": 32_000, "stop": ".", "stop_sequences": ["."]});
        let mut body = body;
        let unused = if [CHAT, MESSAGES].contains(&path) { "prompt" } else { "messages" };
        body.as_object_mut().expect("fields").remove(unused);
        let answer = server.client().post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
        assert!(warning.contains("max_tokens: shortened to the"), "{path}: {warning}");
        body["max_tokens"] = json!(0);
        assert_eq!(server.client().post(path, &body).status, 200, "{path}: 0 reads the prompt");
        body["max_tokens"] = json!(-1);
        assert_eq!(server.client().post(path, &body).status, 200, "{path}: -1 is no bound");
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_in_words_that_clients_act_on() {
    let server = Server::start("-np 1 -c 256");
    let long = json!({"messages": user(&"fox ".repeat(900)), "max_tokens": 5});
    let openai = server.client().post(CHAT, &long).json()["error"]["message"].as_str().expect("words").to_owned();
    assert!(openai.contains("maximum context length is 256 tokens") && openai.contains("-c"), "{openai}");
    let anthropic =
        server.client().post(MESSAGES, &long).json()["error"]["message"].as_str().expect("words").to_owned();
    assert!(anthropic.starts_with("prompt is too long: ") && anthropic.contains("tokens > 256 maximum"), "{anthropic}");
}

#[test]
fn anthropics_clients_send_more_than_text() {
    let server = Server::start("");
    let blocks = json!([{"type": "text", "text": "Look"}, {"type": "image", "source": {}}, {"type": "document"},
        {"type": "tool_reference", "tool_name": "x"}]);
    let warning = taken(&server, MESSAGES, json!({"messages": [{"role": "user", "content": blocks}]}));
    assert!(warning.contains("messages[0].content[1].type") && warning.contains("became a note"), "{warning}");
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Now"}]);
    taken(&server, MESSAGES, json!({"messages": turns}));
    let tools = json!([{"type": "bash_20250124", "name": "bash"}, {"name": "f", "input_schema": {"type": "object"}},
        {"type": "custom_kind", "name": "g", "input_schema": {"type": "object"}}]);
    let warning = taken(&server, MESSAGES, json!({"tools": tools}));
    assert!(warning.contains("tools[0]: left out"), "{warning}");
    // The billing line changes with each request, so it must not be part of the prompt.
    let count = |system: &str| {
        let body = json!({"system": system, "messages": user("Hi")});
        server.client().post("/v1/messages/count_tokens", &body).json()["input_tokens"].clone()
    };
    let plain = count("Be brief.");
    assert_eq!(count("x-anthropic-billing-header: cc_version=2.1; cch=ab12;\nBe brief."), plain);
    assert_ne!(count("Be very brief."), plain);
}

#[test]
fn tools_of_every_kind_are_taken() {
    let server = Server::start("-c 131072 -np 1");
    let many: Vec<Value> = (0..200).map(|i| tool(&format!("tool_{i}"))).collect();
    for (extra, said) in [
        (json!({"tools": many}), ""),
        (json!({"tools": [tool(&"n".repeat(100))]}), ""),
        (json!({"tools": [{"type": "function", "function": {"name": "f", "description": null}}]}), ""),
        (json!({"tools": []}), ""),
        (json!({"tools": [tool("f"), tool("f")]}), "tools[1]: left out"),
        (json!({"tools": [{"type": "web_search"}, tool("f")]}), "tools[0]: left out"),
    ] {
        let warning = taken(&server, CHAT, extra.clone());
        assert!(warning.contains(said), "{extra}: {warning}");
    }
}

#[test]
fn schemas_are_followed_as_far_as_they_can_be() {
    let server = Server::start("");
    let odd = |parameters: Value| json!([{"type": "function", "function": {"name": "odd", "parameters": parameters}}]);
    for (extra, said) in [
        (json!({"tools": odd(json!({"type": "object", "propertyNames": {"pattern": "a"}}))}), ""),
        (
            json!({"tools": odd(json!({"type": "object", "properties": {"a": {"type": "string", "format": "odd"}}}))}),
            "",
        ),
        (
            json!({"tools": odd(json!({"properties": {"a": {"type": "string", "pattern": "^(?!x).*$"}}}))}),
            "the arguments of odd",
        ),
        (
            json!({"tools": odd(json!({"properties": {"a": {"type": "string", "maxLength": 100_000}}}))}),
            "the arguments of odd",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "elephant"}}}}),
            "in part",
        ),
    ] {
        let warning = taken(&server, CHAT, extra.clone());
        assert!(warning.contains(said), "{extra}: {warning}");
    }
    // With `strict` a schema that can't be followed whole is refused, and the refusal names the part.
    let strict = json!({"strict": true, "schema": {"type": "object", "properties": {"a": {"type": "elephant"}}}});
    let body = json!({"messages": user("Hi"), "response_format": {"type": "json_schema", "json_schema": strict}});
    let refused = server.client().post(CHAT, &body);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("response_format")));
    assert!(refused.text().contains("elephant"), "{}", refused.text());
}

#[test]
fn tool_choice_is_taken_in_every_spelling() {
    let server = Server::start("");
    for (extra, said) in [
        (json!({"tools": [tool("f")], "tool_choice": "any"}), ""),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "auto"}}), ""),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "function", "name": "f"}}), ""),
        (json!({"tools": [tool("f")], "tool_choice": "none"}), ""),
        (
            json!({"tools": [tool("f")], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}),
            "tool_choice: all tools may be called",
        ),
        (json!({"tool_choice": "required"}), "tool_choice: ignored"),
    ] {
        let warning = taken(&server, CHAT, extra.clone());
        assert!(warning.contains(said), "{extra}: {warning}");
    }
    // A named function is called once.
    let tools = json!([tool("f"), tool("g")]);
    let choice = json!({"type": "function", "name": "g"});
    let body = json!({"messages": user("Hi"), "tools": tools, "tool_choice": choice, "temperature": 0});
    let message = server.client().post(CHAT, &body).json()["choices"][0]["message"].clone();
    let calls = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("g")), "{message}");
    // `none` keeps the tools in the prompt.
    let prompt = |choice: &str| {
        let body = json!({"messages": user("Hi"), "tools": tools, "tool_choice": choice});
        server.client().post("/apply-template", &body).json()["prompt"].clone()
    };
    assert_eq!(prompt("none"), prompt("auto"));
}

#[test]
fn an_answer_that_has_begun_is_continued() {
    let server = Server::start("");
    let turns = json!([{"role": "user", "content": "Which port?"}, {"role": "assistant", "content": "The port is"}]);
    let prompt = |extra: Value| {
        let mut body = json!({"messages": turns});
        body.as_object_mut().expect("fields").extend(extra.as_object().cloned().unwrap_or_default());
        let answer = server.client().post("/apply-template", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["prompt"].as_str().expect("a prompt").to_owned()
    };
    let begun = prompt(json!({}));
    assert!(begun.ends_with("The port is"), "{begun}");
    assert_eq!(prompt(json!({"continue_final_message": true, "add_generation_prompt": false})), begun);
    let anew = prompt(json!({"add_generation_prompt": true}));
    assert!(anew.contains("The port is") && !anew.ends_with("The port is"), "{anew}");
    assert_eq!(prompt(json!({"continue_final_message": false})), anew);
    // The answer is what follows that text, whole or streamed, on each route.
    let greedy = json!({"prompt": begun, "temperature": 0, "max_tokens": 8});
    let expected = server.generate(&greedy).data()["text"].as_str().expect("text").to_owned();
    let text = |path: &str, place: &str| {
        let body = json!({"messages": turns, "input": turns, "temperature": 0, "max_tokens": 8, "max_output_tokens": 8,
            "options": {"temperature": 0, "num_predict": 8}, "stream": false});
        let answer = server.client().post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json().pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for (path, place) in [
        (CHAT, "/choices/0/message/content"),
        (MESSAGES, "/content/0/text"),
        ("/v1/responses", "/output/0/content/0/text"),
        ("/api/chat", "/message/content"),
        ("/generate", "/data/text"),
    ] {
        assert_eq!(text(path, place), expected, "{path}");
    }
    let warning = taken(&server, CHAT, json!({"continue_final_message": true}));
    assert!(warning.contains("continue_final_message: ignored"), "{warning}");
}

#[test]
fn stops_penalties_and_negative_numbers_are_taken() {
    let server = Server::start("");
    let forty: Vec<String> = (0..40).map(|i| format!("stop {i}")).collect();
    for path in [CHAT, COMPLETIONS] {
        for extra in [
            json!({"stop": ""}),
            json!({"stop": [""]}),
            json!({"stop": forty}),
            json!({"stop": "x".repeat(1_000)}),
            json!({"presence_penalty": 3, "frequency_penalty": -5}),
            json!({"top_k": -1, "seed": -7}),
        ] {
            taken(&server, path, extra);
        }
    }
}

#[test]
fn other_servers_names_are_honoured() {
    let server = Server::start("");
    for path in [CHAT, COMPLETIONS] {
        for extra in [
            json!({"repeat_penalty": 1.1}),
            json!({"guided_json": {"type": "object"}}),
            json!({"guided_regex": "a+"}),
            json!({"guided_choice": ["yes", "no"]}),
            json!({"structured_outputs": {"choice": ["yes", "no"]}}),
            json!({"json_schema": {"type": "object"}}),
        ] {
            taken(&server, path, extra);
        }
    }
    taken(&server, CHAT, json!({"reasoning_effort": "none", "enable_thinking": false}));
    taken(&server, CHAT, json!({"chat_template_kwargs": {"enable_thinking": "false"}}));
    let answer = server.client().post(COMPLETIONS, &json!({"prompt": "a", "guided_choice": ["yes", "no"]}));
    let text = answer.json()["choices"][0]["text"].as_str().expect("text").to_owned();
    assert!(["yes", "no"].contains(&&*text), "{text}");
    let warning = taken(&server, CHAT, json!({"zeal": 1}));
    assert!(warning.contains("ignored unknown fields: zeal"), "{warning}");
}

#[test]
fn halves_of_surrogate_pairs_and_null_contents_are_taken() {
    let server = Server::start("");
    let body = br#"{"messages": [{"role": "user", "content": "cut \ud83d here"}], "max_tokens": 2}"#;
    let answer = server.client().send("POST", CHAT, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("X-Cllm-Warning").is_some_and(|warning| warning.contains("U+FFFD")));
    let call = json!({"id": "a", "type": "function", "function": {"name": "f"}});
    for turns in [
        json!([{"role": "user", "content": null}]),
        json!([{"role": "user", "content": " "}, {"role": "user", "content": "\u{a0}"}]),
        json!([{"role": "user", "content": ["a", {"type": "text"}]}]),
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "b"}]),
        json!([{"role": "user", "content": "a"}, {"role": "function", "name": "f", "content": "b"}]),
    ] {
        taken(&server, CHAT, json!({"messages": turns}));
    }
}

#[test]
fn a_usual_burst_is_queued() {
    let server = Server::start("-np 4");
    let ask = || server.client().post(CHAT, &json!({"messages": user("Hi"), "max_tokens": 8})).status;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let prompts: Vec<String> = (0..100).map(|i| format!("Prompt {i}")).collect();
    let answer = server.client().post(COMPLETIONS, &json!({"prompt": prompts, "max_tokens": 2}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"].as_array().map(Vec::len), Some(100));
}

#[test]
fn paths_are_found_as_clients_write_them() {
    let server = Server::start("");
    for path in ["/chat/completions", "/v1/chat/completions/", "//v1/chat/completions", "/messages"] {
        taken(&server, path, json!({}));
    }
    let models = server.client().get("/models").json();
    let model = &models["data"][0];
    assert_eq!(
        (&model["type"], &model["object"], &model["owned_by"]),
        (&json!("model"), &json!("model"), &json!("cllm"))
    );
    assert!(model["created_at"].as_str().is_some_and(|date| date.ends_with('Z')) && model["display_name"].is_string());
    assert_eq!(model["root"], model["id"]);
    assert_eq!(model["max_model_len"], server.client().get("/model/info").data()["n_ctx"]);
    assert!(server.client().get("/version").json()["version"].is_string());
    let absent = server.client().post("/v1/audio/speech", &json!({}));
    assert_eq!(absent.status, 404);
    assert!(absent.text().contains("makes no audio"), "{}", absent.text());
}
