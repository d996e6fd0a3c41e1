//! `/v1/rerank`, also `/rerank` and `/reranking`: a query and documents in, a score of each document out. Jina's and
//! llama-server's format; with `texts` in place of `documents`, that of text-embeddings-inference.
//!
//! Query and document form one input of a ranking model, as it was trained: `[CLS] query [SEP] document [SEP]` for a
//! BERT. All documents of a request go to the engine as one submission, which takes one place.

use serde_json::{Value, json};
use tiny_http::Request;

use super::ERRORS;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::deadline_ms;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::run::numbers::{AskedNumbers, Inputs};
use crate::http::service::Service;
use crate::types::limits::EMBED_INPUTS_MAX;
use crate::types::{RequestError, Token};

/// A request, checked without the vocabulary.
#[derive(Debug, PartialEq)]
pub struct RerankRequest {
    query: String,
    documents: Vec<String>,
    /// The field of the documents. A request with `texts` gets an answer in the format of Hugging Face's server, which
    /// uses this name.
    field: &'static str,
    /// How many of the best documents the answer lists.
    top_n: usize,
    return_documents: bool,
    deadline_ms: Option<u64>,
}

impl RerankRequest {
    /// Parses a body. `longest_ms` is the longest allowed deadline.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn parse(body: &[u8], longest_ms: Option<u64>) -> Result<RerankRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        fields.string("model")?;
        let query = fields.string("query")?.ok_or_else(|| RequestError::field("query", "is missing"))?;
        let documents = fields.array("documents", EMBED_INPUTS_MAX)?;
        let texts = fields.array("texts", EMBED_INPUTS_MAX)?;
        for place in ["documents", "texts"] {
            note(&format!("{place}[]"), || json!({"type": "string"}));
            note(&format!("{place}[]"), || json!({"type": "object"}));
            note(&format!("{place}[].text"), || json!({"type": "string"}));
        }
        let read = |list: Option<Vec<Value>>, field: &'static str| -> Result<_, RequestError> {
            let all = |list: Vec<Value>| list.into_iter().enumerate().map(|(i, one)| text_of(one, field, i)).collect();
            Ok(list.map(all).transpose()?.map(|texts: Vec<String>| (field, texts)))
        };
        let (documents, texts) = (read(documents, "documents")?, read(texts, "texts")?);
        let (field, documents) = documents.or(texts).ok_or_else(|| RequestError::field("documents", "is missing"))?;
        if documents.is_empty() {
            return Err(RequestError::field(field, "must not be empty"));
        }
        let top_n = fields.integer("top_n", 1..=u64::from(u32::MAX))?.map_or(documents.len(), |n| n as usize);
        let documents_too = fields.bool("return_documents")?.unwrap_or(false);
        let return_documents = fields.bool("return_text")?.unwrap_or(documents_too);
        let deadline_ms = deadline_ms(&mut fields, longest_ms)?;
        warnings::ignored(&fields.unknown());
        Ok(RerankRequest { query, documents, field, top_n, return_documents, deadline_ms })
    }

    /// The answer for documents with these scores, best first.
    fn answer(&self, scores: &[f32], model: &str, n_tokens: usize) -> Value {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order.truncate(self.top_n);
        let is_texts = self.field == "texts";
        let one = |index: usize| {
            let score = scores[index];
            match (is_texts, self.return_documents) {
                (true, false) => json!({"index": index, "score": score}),
                (true, true) => json!({"index": index, "score": score, "text": self.documents[index]}),
                (false, false) => json!({"index": index, "relevance_score": score}),
                (false, true) => {
                    json!({"index": index, "relevance_score": score, "document": {"text": self.documents[index]}})
                }
            }
        };
        let results: Vec<Value> = order.into_iter().map(one).collect();
        if is_texts {
            return json!(results);
        }
        let usage = json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens});
        json!({"object": "list", "model": model, "results": results, "usage": usage})
    }
}

/// The text of a document, which is a string or an object with a text.
fn text_of(one: Value, field: &str, i: usize) -> Result<String, RequestError> {
    match one {
        Value::String(text) => Ok(text),
        Value::Object(mut object) => match object.remove("text") {
            Some(Value::String(text)) => Ok(text),
            _ => Err(RequestError::field(format!("{field}[{i}].text"), "is missing")),
        },
        other => Err(wrong_type(&format!("{field}[{i}]"), "a string", &other)),
    }
}

impl Service {
    pub(in crate::http) fn rerank(&self, request: Request, caller: &Caller) {
        let read = |body: &[u8]| {
            let body = RerankRequest::parse(body, self.parts.defaults.deadline_ms)?;
            let mut inputs = Inputs::default();
            for (i, document) in body.documents.iter().enumerate() {
                inputs.push(self.pair(&body.query, document, &format!("{}[{i}]", body.field))?);
            }
            let deadline_ms = body.deadline_ms;
            Ok(AskedNumbers { body, inputs, width: 1, deadline_ms })
        };
        self.run_numbers(request, caller, &ERRORS, read, |body, numbers| {
            body.answer(numbers.all, &self.parts.model.name, numbers.n_tokens)
        });
    }

    /// Query and document as the tokens of one input. `path` is the document's place.
    fn pair(&self, query: &str, document: &str, path: &str) -> Result<Vec<Token>, RequestError> {
        let n_ctx = self.parts.model.n_ctx;
        let tokens = self.parts.tokenizer.encode_pair(query, document).map_err(|error| match error {
            RequestError::Field { message, .. } => RequestError::field(path, message),
            other => other,
        })?;
        match tokens.len() {
            0 => Err(RequestError::field(path, "has no tokens")),
            n if n > n_ctx => {
                Err(RequestError::field(path, format!("has {n} tokens with the query, at most {n_ctx} fit")))
            }
            _ => Ok(tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<RerankRequest, RequestError> {
        RerankRequest::parse(body.to_string().as_bytes(), Some(60_000))
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (body, field) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": []}), "documents"),
            (json!({"query": "q", "texts": [3]}), "texts[0]"),
            (json!({"query": "q", "documents": ["a", {"body": "b"}]}), "documents[1].text"),
            (json!({"query": "q", "documents": ["a"], "top_n": 0}), "top_n"),
        ] {
            match parse(body.clone()) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_best_come_first_in_the_shape_that_was_asked_for() {
        let documents = parse(json!({"query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2,
            "return_documents": true}))
        .unwrap();
        let expected = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9},
            "results": [{"index": 1, "relevance_score": 2.0, "document": {"text": "b"}},
                {"index": 0, "relevance_score": -1.5, "document": {"text": "a"}}]});
        assert_eq!(documents.answer(&[-1.5, 2.0, -3.0], "m", 9), expected);
        let texts = parse(json!({"query": "q", "texts": ["a", "b"]})).unwrap();
        assert_eq!(texts.answer(&[0.5, 0.5], "m", 9), json!([{"index": 0, "score": 0.5}, {"index": 1, "score": 0.5}]));
    }
}
