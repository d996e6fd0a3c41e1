//! Results equal llama.cpp's own embeddings, whatever other requests are running and however long the texts are.

use cllm::llama::raw::pooled::RawPooling;
use serde_json::{Value, json};

use super::server::Server;
use super::{EMBEDDINGS, N_EMBD, Scratch, ask, assert_llama_cpps, built_in, cosine, embed, ids, text, vectors};

/// Texts from one word to the longest that fits, in tokens of `bert-tiny`.
fn texts() -> Vec<String> {
    [1, 2, 5, 9, 20, 33, 64, 100, 128, 200].iter().enumerate().map(|(i, words)| text(*words, i)).collect()
}

#[test]
fn a_bert_models_are_llama_cpps_own() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut texts = texts();
    texts.push("Hello, WORLD! Is this (really) [a] test?".to_owned());
    let inputs: Vec<Vec<i32>> = texts.iter().map(|text| ids(&server, text)).collect();
    assert!(inputs.iter().all(|ids| ids[0] == 2 && *ids.last().unwrap() == 3), "each has [CLS] and [SEP]");
    let answer = ask(&server, &json!({"input": texts, "model": "any", "user": "me"}));
    let together = vectors(&answer);
    assert_llama_cpps(&model.0, &inputs, RawPooling::Model, &together);
    // The texts must differ, otherwise the cosines show nothing.
    assert!(cosine(&together[0], &together[5]) < 0.99, "{}", cosine(&together[0], &together[5]));

    let n: usize = inputs.iter().map(Vec::len).sum();
    assert_eq!(answer["usage"], json!({"prompt_tokens": n, "total_tokens": n}));
    assert_eq!((&answer["object"], answer["model"].is_string()), (&json!("list"), true));
    for (text, vector) in texts.iter().zip(&together) {
        let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5 && vector.len() == N_EMBD);
        let alone = &embed(&server, &json!(text))[0];
        assert!(cosine(alone, vector) > 0.99999, "together is not as alone: {}", cosine(alone, vector));
    }
    // Token ids give the same result as their text.
    let by_ids = embed(&server, &json!(inputs));
    assert!(by_ids.iter().zip(&together).all(|(a, b)| cosine(a, b) > 0.99999));
    assert!(cosine(&embed(&server, &json!(inputs[3]))[0], &together[3]) > 0.99999);
}

#[test]
fn the_longest_input_is_read_whole() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut longest: Vec<i32> = (0..512).map(|i| 200 + i * 3).collect();
    (longest[0], longest[511]) = (2, 3);
    let inputs = vec![longest.clone(), vec![2, 300, 3], longest[..400].to_vec()];
    assert_llama_cpps(&model.0, &inputs, RawPooling::Model, &embed(&server, &json!(inputs)));
}

#[test]
fn pooling_is_as_one_says() {
    let model = Scratch::bert();
    for (name, raw) in [("cls", RawPooling::Cls), ("last", RawPooling::Last), ("mean", RawPooling::Mean)] {
        let server = model.server(&format!("--pooling {name}"));
        let inputs: Vec<Vec<i32>> = texts().iter().map(|text| ids(&server, text)).collect();
        assert_llama_cpps(&model.0, &inputs, raw, &embed(&server, &json!(inputs)));
        assert_eq!(server.client().get("/model/info").data()["embedding"], json!({"n_embd": N_EMBD, "pooling": name}));
    }
}

/// Inputs of three and more micro-batches of 512 rows. llama.cpp pools each micro-batch separately, so the reference uses
/// one large micro-batch.
#[test]
fn inputs_longer_than_a_micro_batch_are_pooled_whole() {
    let longest: Vec<i32> = (0..2_048).map(|i| 260 + i * 7 % 1_700).collect();
    let inputs = vec![longest.clone(), longest[5..1_500].to_vec(), longest[..513].to_vec(), longest[9..12].to_vec()];
    for (name, raw) in [("mean", RawPooling::Mean), ("last", RawPooling::Last), ("cls", RawPooling::Cls)] {
        let server = Server::start(&format!("--embeddings --pooling {name}"));
        assert_llama_cpps(&built_in(), &inputs, raw, &embed(&server, &json!(inputs)));
    }
}

#[test]
fn base64_holds_the_same_numbers() {
    use base64::Engine;
    let model = Scratch::bert();
    let server = model.server("");
    let body = json!({"input": ["ba be bi", "zu"], "encoding_format": "float"});
    let floats = vectors(&ask(&server, &body));
    let mut body = body;
    body["encoding_format"] = json!("base64");
    let answer = ask(&server, &body);
    for (item, float) in answer["data"].as_array().unwrap().iter().zip(&floats) {
        let text = item["embedding"].as_str().expect("a string");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        let numbers: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert!(numbers == *float, "{numbers:?} and {float:?}");
    }
}

#[test]
fn fewer_dimensions_are_the_first_ones_made_long_again() {
    let model = Scratch::bert();
    let server = model.server("");
    let whole = &embed(&server, &json!("ba be bi"))[0];
    for n in [1, 7, 64, N_EMBD] {
        let cut = vectors(&ask(&server, &json!({"input": "ba be bi", "dimensions": n}))).remove(0);
        assert_eq!(cut.len(), n);
        assert!((cosine(&cut, &whole[..n]) - 1.0).abs() < 1e-6);
        assert!((cut.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() - 1.0).abs() < 1e-5, "1 long");
    }
}

#[test]
fn what_is_served_is_told() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut client = server.client();
    let told = json!({"n_embd": N_EMBD, "pooling": "mean"});
    assert_eq!(client.get("/model/info").data()["embedding"], told);
    let meta = &client.get("/v1/models").json()["data"][0]["meta"];
    assert_eq!((&meta["n_embd"], &meta["pooling"], &meta["n_ctx"]), (&json!(N_EMBD), &json!("mean"), &json!(512)));
    let index = client.get("/").text();
    assert!(index.contains("curl") && index.contains(EMBEDDINGS), "{index}");
    let answer = client.post(EMBEDDINGS, &json!({"input": ["a", "b"]}));
    assert!(answer.header("X-Request-Id").is_some_and(|name| name.starts_with("req-")));
    let n = answer.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    for (name, value) in [
        ("cllm_embeddings_total", 2),
        ("cllm_requests_finished_total{reason=\"embedded\"}", 1),
        ("cllm_prompt_tokens_decoded_total", n),
        ("cllm_steps_total", 1),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
    let slots: Value = client.get("/slots").json();
    assert!(slots.as_array().is_some_and(|slots| slots.iter().all(|slot| slot["state"] == "idle")), "{slots}");
}
