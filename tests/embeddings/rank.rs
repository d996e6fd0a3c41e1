//! Ranking: scores equal those of llama.cpp's head for the same tokens, in the JSON that clients read.

use cllm::llama::raw::pooled::{RawPooling, pooled};
use serde_json::{Value, json};

use super::{Scratch, ids, text};

/// Documents of several lengths.
fn documents() -> Vec<String> {
    [1, 3, 9, 40, 100, 7, 20].iter().enumerate().map(|(i, words)| text(*words, i + 3)).collect()
}

#[test]
fn scores_are_llama_cpps_own() {
    let model = Scratch::ranking();
    let server = model.server("");
    let (query, documents) = ("what is ba be", documents());
    // `[CLS] query [SEP] document [SEP]`.
    let question = ids(&server, query);
    let pairs: Vec<Vec<i32>> =
        documents.iter().map(|document| [question.clone(), ids(&server, document)[1..].to_vec()].concat()).collect();
    let expected: Vec<f32> = pooled(&model.0, &pairs, RawPooling::Rank).into_iter().map(|scores| scores[0]).collect();
    assert!(expected.iter().any(|score| (score - expected[0]).abs() > 1e-3), "the scores differ, or they say nothing");
    let n: usize = pairs.iter().map(Vec::len).sum();
    for path in ["/v1/rerank", "/rerank", "/reranking"] {
        let answer = server.client().post(path, &json!({"query": query, "documents": documents, "model": "any"}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["usage"], json!({"prompt_tokens": n, "total_tokens": n}));
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), documents.len());
        assert!(results.is_sorted_by(|a, b| score(a, "relevance_score") >= score(b, "relevance_score")), "{answer}");
        for result in results {
            let index = result["index"].as_u64().unwrap() as usize;
            let (ours, theirs) = (score(result, "relevance_score"), f64::from(expected[index]));
            assert!((ours - theirs).abs() < 1e-3 * theirs.abs().max(1.0), "{index}: {ours} for {theirs}");
        }
    }
    let best =
        server.client().post("/rerank", &json!({"query": query, "texts": documents, "top_n": 2, "return_text": true}));
    let best = best.json();
    assert_eq!(best.as_array().map(Vec::len), Some(2), "{best}");
    assert!(score(&best[0], "score") >= score(&best[1], "score") && best[0]["text"].is_string(), "{best}");
    assert_eq!(server.client().get("/model/info").data()["embedding"]["pooling"], "rank");
}

fn score(result: &Value, name: &str) -> f64 {
    result[name].as_f64().unwrap_or_else(|| panic!("{result}"))
}

#[test]
fn a_model_is_asked_for_what_it_does() {
    let (ranks, embeds) = (Scratch::ranking(), Scratch::bert());
    let (ranks, embeds) = (ranks.server(""), embeds.server(""));
    let both = json!({"query": "q", "documents": ["a"], "input": "a", "content": "a", "prompt": "a"});
    for (server, path) in
        [(&ranks, "/v1/embeddings"), (&ranks, "/embedding"), (&ranks, "/v1/completions"), (&embeds, "/v1/rerank")]
    {
        let answer = server.client().post(path, &both);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some("not_supported")), "{path}");
    }
    let long = vec!["ba"; 600].join(" ");
    for (body, param) in
        [(json!({"documents": ["a"]}), "query"), (json!({"query": "a", "documents": ["a", long]}), "documents[1]")]
    {
        let error = ranks.client().post("/v1/rerank", &body).json();
        assert_eq!(error["error"]["param"], param, "{error}");
    }
}

#[test]
fn llama_servers_embedding_has_the_same_vectors() {
    let model = Scratch::bert();
    let server = model.server("");
    let texts = json!(["ba be bi", "zu"]);
    let usual = server.client().post("/v1/embeddings", &json!({"input": texts})).json();
    for name in ["content", "input"] {
        let list = server.client().post("/embedding", &json!({name: texts})).json();
        for i in 0..2 {
            assert_eq!(
                (&list[i]["index"], &list[i]["embedding"][0]),
                (&json!(i), &usual["data"][i]["embedding"]),
                "{name}"
            );
        }
    }
    let one = server.client().post("/embedding", &json!({"content": "zu"})).json();
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    let refused = server.client().post("/embedding", &json!({}));
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("content")));
}
