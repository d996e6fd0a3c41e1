//! `/openapi.json` agrees with the parsers: they accept what it allows, and refuse by name what it forbids.

use serde_json::{Value, json};

use super::COMPLETIONS;
use super::made::Made;
use super::server::Server;
use cllm::synth::{Quant, Spec};

fn document(server: &Server) -> Value {
    let answer = server.client().get("/openapi.json");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    answer.json()
}

/// Paths with a body, each with the name of its schema and its first example.
fn bodies(document: &Value) -> Vec<(String, String, Vec<Value>)> {
    let with_body = |(path, methods): (&String, &Value)| {
        let content = methods["post"]["requestBody"]["content"]["application/json"].clone();
        let name = content["schema"]["$ref"].as_str()?.rsplit('/').next()?.to_owned();
        let examples = content["examples"].as_object()?.values().map(|example| example["value"].clone()).collect();
        Some((path.clone(), name, examples))
    };
    document["paths"].as_object().expect("paths").iter().filter_map(with_body).collect()
}

/// What a server's model does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Generates,
    Embeds,
    Ranks,
    Fills,
}

impl Kind {
    /// The kind of model that a route needs.
    fn of(path: &str) -> Kind {
        match path {
            "/v1/embeddings" | "/embedding" | "/api/embed" | "/api/embeddings" => Kind::Embeds,
            "/v1/rerank" | "/v1/reranking" | "/rerank" | "/reranking" => Kind::Ranks,
            "/infill" => Kind::Fills,
            _ => Kind::Generates,
        }
    }
}

/// The routes of `bodies` that a server of kind `kind` serves.
fn served(document: &Value, kind: Kind) -> Vec<(String, String, Vec<Value>)> {
    let mut bodies = bodies(document);
    bodies.retain(|(path, _, _)| Kind::of(path) == kind);
    bodies
}

/// A server of each kind. Its model file is removed once it has been loaded.
fn each_kind(ask: impl Fn(&Server, Kind)) {
    ask(&Server::start(""), Kind::Generates);
    for (shape, kind) in [("bert-tiny", Kind::Embeds), ("bert-tiny-rank", Kind::Ranks)] {
        let path = std::env::temp_dir().join(format!(
            "cllm-openapi-{shape}-{}-{:?}.gguf",
            std::process::id(),
            std::thread::current().id()
        ));
        Spec::named(shape, Quant::Q8_0, 1).expect("a shape").write(&path, true, |_| {}).expect("there is room");
        let server = Server::start(&format!("-m {}", path.display()));
        std::fs::remove_file(&path).expect("it was written");
        ask(&server, kind);
    }
    let fills = Made::new("openapi", &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]);
    ask(&fills.serve(None), Kind::Fills);
}

fn is_valid(schema: &Value, value: &Value) -> bool {
    jsonschema::validator_for(schema).expect("a schema").is_valid(value)
}

/// The field that an error names.
fn blamed(body: &Value) -> Option<String> {
    let named = body["error"]["param"].as_str().or(body["field"].as_str());
    // Anthropic's errors have the field's name only in the message.
    let in_message =
        || body["error"]["message"].as_str().or(body["error"].as_str()).and_then(|text| text.split(':').next());
    named.or_else(in_message).map(str::to_owned)
}

fn is_about(field: Option<&str>, name: &str) -> bool {
    field.is_some_and(|field| field.split(['.', '[']).next() == Some(name))
}

#[test]
fn it_names_the_routes_that_there_are() {
    let server = Server::start("-np 1");
    let document = document(&server);
    let list = server.client().get("/").text();
    let listed = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?, words.next()?);
        ["GET", "POST", "DELETE"].contains(&method).then(|| format!("{} {path}", method.to_lowercase()))
    });
    let mut listed: Vec<String> = listed.collect();
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, methods): (&String, &Value)| {
        methods.as_object().expect("methods").keys().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    let mut named: Vec<String> = paths.iter().flat_map(methods).collect();
    listed.sort();
    named.sort();
    assert_eq!(named, listed);
    assert!(named.len() > 20);
    // A route that reads its body describes it. These routes answer the same whatever the body is.
    let bodiless = ["post /api/show", "post /api/pull", "post /api/push", "post /api/create", "post /api/copy"];
    let reads_body = |name: &&String| name.starts_with("post") && !bodiless.contains(&name.as_str());
    let n_posts = named.iter().filter(reads_body).count();
    assert_eq!(bodies(&document).len(), n_posts);
}

#[test]
fn its_examples_are_what_it_says_and_are_answered() {
    each_kind(|server, kind| {
        let document = document(server);
        for (path, name, examples) in served(&document, kind) {
            let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": document["components"]});
            for example in examples {
                assert!(is_valid(&schema, &example), "{path} {example}");
                let answer = server.client().post(&path, &example);
                assert_eq!(answer.status, 200, "{path} {example}: {}", answer.text());
                let mut more = example.clone();
                more["zeal"] = json!({"a": 1});
                let warned = server.client().post(&path, &more);
                let warning = warned.header("X-Cllm-Warning").unwrap_or_default();
                assert!(warned.status == 200 && warning.contains("zeal"), "{path} {more}: {warning}");
                if answer.header("Content-Type") == Some("application/json") {
                    let content = &document["paths"][&path]["post"]["responses"]["200"]["content"]["application/json"];
                    assert!(is_valid(&content["schema"], &answer.json()), "{path}: {}", answer.text());
                }
            }
        }
    });
}

/// Values of all kinds at every field: those that the document forbids are refused, and the refusal names the field.
#[test]
fn what_it_forbids_is_refused_by_name() {
    each_kind(|server, kind| {
        let document = document(server);
        let (mut client, mut refused) = (server.client(), 0);
        let odd = [
            json!("odd"),
            json!(""),
            json!(true),
            json!(1.5),
            json!(-7),
            json!(1e300),
            json!([]),
            json!([[{}]]),
            json!({"odd": 1}),
            json!("x".repeat(200)),
            json!([1, "x", null]),
        ];
        for (path, name, examples) in served(&document, kind) {
            let properties = document["components"]["schemas"][&name]["properties"].as_object().expect("properties");
            for (field, schema) in properties {
                let bounds = [("minimum", -1.0), ("maximum", 1.0)].into_iter();
                let beyond = bounds.filter_map(|(bound, step)| {
                    Some(schema[bound].as_f64()? + step * schema[bound].as_f64()?.abs().max(1.0))
                });
                for value in odd
                    .iter()
                    .cloned()
                    .chain(beyond.map(|number| json!(number)))
                    .filter(|value| !is_valid(schema, value))
                {
                    let mut body = examples[0].clone();
                    body[field] = value;
                    let answer = client.post(&path, &body);
                    let error = answer.json();
                    let is_named = is_about(blamed(&error).as_deref(), field);
                    assert!(answer.status == 400 && is_named, "{path} {field}: {} {error}\n{body}", answer.status);
                    refused += 1;
                }
            }
        }
        assert!(refused > if kind == Kind::Generates { 1000 } else { 20 }, "{refused}");
    });
}

/// Numbers at their bounds are taken: no field is refused that the document allows.
#[test]
fn what_it_allows_is_taken() {
    each_kind(|server, kind| {
        let document = document(server);
        let mut taken = 0;
        for (path, name, examples) in served(&document, kind) {
            let properties = document["components"]["schemas"][&name]["properties"].as_object().expect("properties");
            for (field, schema) in properties.iter().filter(|_| path != "/benchmark") {
                for bound in ["minimum", "maximum"].into_iter().filter_map(|bound| schema.get(bound)) {
                    let mut body = examples[0].clone();
                    body[field] = bound.clone();
                    match field.as_str() {
                        "top_logprobs" => body["logprobs"] = json!(true),
                        "n" => body["best_of"] = json!(16),
                        "max_tokens" | "max_completion_tokens" if path == COMPLETIONS => body["echo"] = json!(true),
                        _ => {}
                    }
                    let answer = server.client().post(&path, &body);
                    let error = if answer.status == 200 { Value::Null } else { answer.json() };
                    let is_too_long = error.to_string().contains("exceed the context");
                    let is_named = is_about(blamed(&error).as_deref(), field) && !is_too_long;
                    assert!(answer.status < 500 && !is_named, "{path} {field}: {error}\n{body}");
                    taken += 1;
                }
            }
        }
        let least = match kind {
            Kind::Generates => 100,
            Kind::Embeds => 3,
            Kind::Ranks => 16,
            Kind::Fills => 20,
        };
        assert!(taken >= least, "{taken}");
    });
}
