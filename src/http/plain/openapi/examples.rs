//! Example bodies that use every field that their parsers know. The document shows them, and is made by parsing them.

use serde_json::{Value, json};

use crate::http::route::Route;

/// Examples for a route with a body; none for others.
pub fn of(route: Route) -> Vec<Value> {
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function =
        json!({"name": "get_weather", "description": "Weather of a city", "parameters": city, "strict": true});
    let tool = json!({"type": "function", "function": function});
    match route {
        Route::Generate | Route::GenerateStream => vec![
            json!({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "stop": ["."], "logit_bias": {"17": -1}}),
            json!({"messages": [{"role": "user", "content": "What can you do?"}], "max_tokens": 8}),
        ],
        Route::ChatCompletions | Route::RenderChat | Route::ApplyTemplate => vec![
            json!({
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                    question,
                    {"role": "assistant", "reasoning_content": "I should look.", "tool_calls":
                        [{"id": "call_1", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]},
                    {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "sunny"},
                    {"role": "assistant", "content": [{"type": "refusal", "refusal": "I won't say."}]},
                    question,
                ],
                "max_tokens": 8,
                "stream_options": {"include_usage": true},
                "tools": [tool],
                "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
            }),
            json!({"messages": [question], "max_tokens": 8, "tools": [tool], "tool_choice": "none",
                "response_format": {"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": city}}}),
            json!({"messages": [question], "max_tokens": 8,
                "response_format": {"type": "json_object", "schema": city}}),
        ],
        Route::Responses => vec![
            json!({"input": "What is the weather in Paris?", "instructions": "Be brief.", "max_output_tokens": 8,
                "metadata": {}, "reasoning": {"effort": "low"}}),
            json!({
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "What is the weather in Paris?"}]},
                    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{\"city\": \"Paris\"}"},
                    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
                ],
                "max_output_tokens": 8,
                "tools": [{"type": "function", "name": "get_weather", "description": "Weather of a city", "parameters": city}],
                "tool_choice": {"type": "function", "name": "get_weather"},
            }),
            json!({"input": "Which city?", "max_output_tokens": 8,
                "text": {"format": {"type": "json_schema", "name": "city", "schema": city}}}),
        ],
        Route::Completions | Route::RenderCompletion => vec![
            json!({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "stream_options": {"include_usage": true}}),
            json!({"prompt": ["Once", "The port is"], "max_tokens": 2,
                "response_format": {"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": city}}}),
            json!({"prompt": [[17, 18]], "max_tokens": 2, "response_format": {"type": "json_object", "schema": city}}),
        ],
        Route::Embeddings => vec![
            json!({"input": "A bird.", "dimensions": 4}),
            json!({"input": ["A bird.", "A plane."], "encoding_format": "base64"}),
            json!({"input": [[17, 18], [19]], "encoding_format": "float"}),
        ],
        Route::Embedding => vec![json!({"content": "A bird."}), json!({"content": ["A bird.", [17, 18]]})],
        Route::Rerank => vec![
            json!({"query": "What flies?", "documents": ["A bird.", {"text": "A stone."}], "top_n": 1}),
            json!({"query": "What flies?", "texts": ["A bird."], "return_text": true}),
        ],
        Route::Completion => vec![
            json!({"prompt": "Once upon a time", "n_predict": 8, "temperature": 0, "n_probs": 2}),
            json!({"prompt": [["Once", 17], [18]], "n_predict": 2, "logit_bias": [[17, 1.5], ["fox", false]]}),
            json!({"prompt": "Once", "n_predict": 2, "n_probs": 3, "post_sampling_probs": true, "n_keep": -1,
                "response_fields": ["content", "timings/prompt_n"], "timings_per_token": true, "return_progress": true}),
        ],
        Route::Infill => {
            vec![json!({"input_prefix": "fn main() {\n", "input_suffix": "}\n", "prompt": "    ", "n_predict": 4,
                "input_extra": [{"filename": "lib.rs", "text": "pub fn answer() -> u32 {"}]})]
        }
        Route::Messages | Route::CountTokens => anthropics(&city, route == Route::Messages),
        Route::OllamaChat => vec![
            json!({"model": "any", "stream": false, "think": false, "options": {"num_predict": 8, "temperature": 0},
                "messages": [
                    {"role": "user", "content": "What is the weather in Paris?", "images": []},
                    {"role": "assistant", "content": "", "thinking": "I should look.", "tool_calls":
                        [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
                    {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
                ],
                "tools": [tool]}),
            json!({"model": "any", "messages": [question], "format": city, "options": {"num_predict": 8}}),
        ],
        Route::OllamaGenerate => vec![
            json!({"model": "any", "prompt": "Once upon a time", "raw": true, "options": {"num_predict": 8}}),
            json!({"model": "any", "prompt": "What can you do?", "system": "Be brief.", "stream": false, "format": "json",
                "options": {"num_predict": 8}}),
        ],
        Route::OllamaEmbed => vec![json!({"model": "any", "input": ["A bird.", "A plane."], "truncate": true})],
        Route::OllamaEmbeddings => vec![json!({"model": "any", "prompt": "A bird."})],
        Route::Benchmark => vec![json!({"requests": 2, "concurrency": 2, "max_tokens": 4, "prompt": ["A", "B"]})],
        Route::Encode => vec![json!({"text": "Hello, world"})],
        Route::Decode | Route::Detokenize => vec![json!({"tokens": [17, 18]})],
        Route::Tokenize => vec![json!({"content": "Hello, world", "with_pieces": true})],
        _ => Vec::new(),
    }
}

fn anthropics(city: &Value, with_max_tokens: bool) -> Vec<Value> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let tool =
        json!({"type": "custom", "name": "get_weather", "description": "Weather of a city", "input_schema": city});
    let mut all = vec![
        json!({
            "system": [text("Be brief.")],
            "messages": [
                {"role": "user", "content": "What is the weather in Paris?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "I should look.", "signature": ""},
                    text("I'll look."),
                    {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": [text("sunny")]}]},
            ],
            "tools": [tool],
            "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": true},
            "thinking": {"type": "disabled"},
            "stop_sequences": ["END"],
        }),
        json!({
            "messages": [{"role": "user", "content": "Which city?"}],
            "tool_choice": {"type": "auto"},
            "output_config": {"format": {"type": "json_schema", "schema": city}},
        }),
    ];
    if with_max_tokens {
        all.iter_mut().for_each(|example| example["max_tokens"] = json!(8));
    }
    all
}
