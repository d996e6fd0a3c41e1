//! One event of a stream: bytes that are the same for all of them, with a little text between. No JSON tree a token.

use serde_json::{Value, json};

use super::answer::usage;
use crate::types::Terminal;

/// Writes the chunks of one answer.
pub struct ChunkWriter {
    /// `data: {"id":...,"choices":[{"index":`
    head: Vec<u8>,
    /// Behind the choices: `]`, and `"usage":null` where a usage will follow.
    tail: &'static [u8],
    /// What all chunks have in common, and answers to each prompt: of a stream that ends with its usage.
    usage_of: Option<(Value, usize)>,
    /// Events that haven't left yet.
    pub buffer: Vec<u8>,
}

impl ChunkWriter {
    /// `base` holds what all chunks have in common: `id`, `object`, `created`, `model`. `with_usage` is how many answers
    /// each prompt has, where the usage shall be told.
    pub fn new(base: Value, with_usage: Option<usize>) -> ChunkWriter {
        let mut head = b"data: ".to_vec();
        head.extend_from_slice(base.to_string().trim_end_matches('}').as_bytes());
        head.extend_from_slice(b",\"choices\":[{\"index\":");
        let tail: &[u8] = if with_usage.is_some() { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" };
        let usage_of = with_usage.map(|per_prompt| (base, per_prompt));
        ChunkWriter { head, tail, usage_of, buffer: Vec::new() }
    }

    /// A chunk of choice `index` with one field of text, `name`, within `delta` if this is chat.
    pub fn text(&mut self, index: usize, open: &str, text: &str, close: &str, logprobs: Option<&Value>) {
        self.begin(index);
        self.buffer.extend_from_slice(open.as_bytes());
        // Writing a string into a vector doesn't fail.
        let _ = serde_json::to_writer(&mut self.buffer, text);
        self.buffer.extend_from_slice(close.as_bytes());
        self.end(logprobs, None);
    }

    /// A chunk whose fields are `fields`, `"delta":{...}` for one.
    pub fn fields(&mut self, index: usize, fields: &str, logprobs: Option<&Value>, finish_reason: Option<&str>) {
        self.begin(index);
        self.buffer.extend_from_slice(fields.as_bytes());
        self.end(logprobs, finish_reason);
    }

    /// What ends a stream that went well: the usage, if it shall be told, in a chunk without choices; then `[DONE]`.
    pub fn close(&mut self, ends: &[Terminal]) {
        if let Some((mut last, per_prompt)) = self.usage_of.take() {
            last["choices"] = json!([]);
            last["usage"] = usage(ends, per_prompt).json();
            self.event(&last);
        }
        self.buffer.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// Any event.
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
