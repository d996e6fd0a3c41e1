//! cllm's own routes that generate: `/generate` and `/generate_stream`.

mod generate;
