//! Writes one event of a stream: constant bytes with a little text between, without a JSON tree for each token.

use serde_json::{Value, json};

use super::answer::usage;
use crate::types::Terminal;

/// Writes the chunks of one answer.
pub struct ChunkWriter {
    /// The beginning of each chunk: `data: {"id":...,"choices":[{"index":`
    head: Vec<u8>,
    /// The text after the choices: `]`, and `"usage":null` if a usage will follow.
    tail: &'static [u8],
    /// For a stream that ends with its usage: the fields of all chunks, and the number of answers to each prompt.
    usage_of: Option<(Value, usize)>,
    /// Events that weren't sent yet.
    pub buffer: Vec<u8>,
}

impl ChunkWriter {
    /// `base` has the fields of all chunks: `id`, `object`, `created`, `model`. `with_usage` is the number of answers
    /// to each prompt, if the stream ends with its usage.
    pub fn new(base: Value, with_usage: Option<usize>) -> ChunkWriter {
        let mut head = b"data: ".to_vec();
        head.extend_from_slice(base.to_string().trim_end_matches('}').as_bytes());
        head.extend_from_slice(b",\"choices\":[{\"index\":");
        let tail: &[u8] = if with_usage.is_some() { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" };
        let usage_of = with_usage.map(|per_prompt| (base, per_prompt));
        ChunkWriter { head, tail, usage_of, buffer: Vec::new() }
    }

    /// Writes a chunk of choice `index` with the text `text`. `open` and `close` are the JSON around it.
    pub fn text(&mut self, index: usize, open: &str, text: &str, close: &str, logprobs: Option<&Value>) {
        self.begin(index);
        self.buffer.extend_from_slice(open.as_bytes());
        // Writing into a vector doesn't fail.
        let _ = serde_json::to_writer(&mut self.buffer, text);
        self.buffer.extend_from_slice(close.as_bytes());
        self.end(logprobs, None);
    }

    /// Writes a chunk with the fields `fields`, for example `"delta":{...}`.
    pub fn fields(&mut self, index: usize, fields: &str, logprobs: Option<&Value>, finish_reason: Option<&str>) {
        self.begin(index);
        self.buffer.extend_from_slice(fields.as_bytes());
        self.end(logprobs, finish_reason);
    }

    /// Writes the end of a stream that ended well: the usage, if wanted, in a chunk without choices; then `[DONE]`.
    pub fn close(&mut self, ends: &[Terminal]) {
        if let Some((mut last, per_prompt)) = self.usage_of.take() {
            last["choices"] = json!([]);
            last["usage"] = usage(ends, per_prompt).json();
            self.event(&last);
        }
        self.buffer.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// Writes any event.
    pub fn event(&mut self, value: &Value) {
        self.buffer.extend_from_slice(format!("data: {value}\n\n").as_bytes());
    }

    fn begin(&mut self, index: usize) {
        self.buffer.extend_from_slice(&self.head);
        self.buffer.extend_from_slice(index.to_string().as_bytes());
        self.buffer.push(b',');
    }

    fn end(&mut self, logprobs: Option<&Value>, finish_reason: Option<&str>) {
        self.buffer.extend_from_slice(b",\"logprobs\":");
        match logprobs {
            None => self.buffer.extend_from_slice(b"null"),
            Some(value) => self.buffer.extend_from_slice(value.to_string().as_bytes()),
        }
        self.buffer.extend_from_slice(b",\"finish_reason\":");
        match finish_reason {
            None => self.buffer.extend_from_slice(b"null"),
            Some(reason) => self.buffer.extend_from_slice(format!("\"{reason}\"").as_bytes()),
        }
        self.buffer.extend_from_slice(self.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_json() {
        let base = json!({"id": "a\"b", "object": "chat.completion.chunk"});
        for with_usage in [false, true] {
            let mut writer = ChunkWriter::new(base.clone(), with_usage.then_some(1));
            writer.text(2, "\"delta\":{\"content\":", "é\n\"", "}", Some(&json!({"content": []})));
            writer.fields(0, "\"delta\":{}", None, Some("stop"));
            let text = String::from_utf8(writer.buffer).unwrap();
            let events: Vec<Value> = text
                .split_terminator("\n\n")
                .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
                .collect();
            assert_eq!((events.len(), &events[0]["id"]), (2, &json!("a\"b")));
            assert_eq!(
                events[0]["choices"],
                json!([{"index": 2, "delta": {"content": "é\n\""}, "logprobs": {"content": []}, "finish_reason": null}])
            );
            assert_eq!(
                events[1]["choices"],
                json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}])
            );
            assert_eq!(events[0].get("usage"), with_usage.then_some(&Value::Null));
        }
    }
}
