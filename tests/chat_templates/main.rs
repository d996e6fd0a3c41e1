//! Original chat templates and conversations, compared with the output of Python's Jinja: `templates/` of the folder
//! that `CLLM_SHARED_DATA` names, or of `../shared/data`. Without that folder nothing is compared here; the tests of
//! `src/chat` cover each feature.

#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/in_process.rs"]
mod in_process;
#[path = "../support/player.rs"]
mod player;

mod data;
mod played;
mod served;
mod vocabulary;

use cllm::chat::{ChatPrompt, ChatTemplate, Conversation, Guard, Message, ToolCall};
use cllm::types::Token;
use serde_json::Value;

use data::{Case, cases, folder, read, templates, text};
use vocabulary::{spelled_tokens, tokenizer};

fn prompt(template: &ChatTemplate, case: &Case, guard: &Guard) -> Result<ChatPrompt, cllm::types::RequestError> {
    template.prompt(Conversation { messages: &case.messages, tools: &case.tools, kwargs: None }, guard)
}

/// How a template loses something in the reference, which cllm repairs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// It prints `None` or `null` for an empty text.
    PrintsNone,
    /// It leaves out calls, all or the second of a turn.
    LosesCalls,
    /// It doesn't support tools, or reads them from a variable that the reference doesn't set.
    NoTools,
    /// It leaves out one of two system turns.
    LosesSystem,
    /// It leaves out the text beside a call.
    LosesText,
    /// It reads thoughts under another key, and shows the text as the thought.
    LosesThought,
}

impl Wrong {
    /// Whether the reference's prompt shows this fault. The conversation has `n_calls` calls of the described tool.
    fn is_so(self, reference: &str, n_calls: usize) -> bool {
        let lacks = |text: &str| !reference.contains(text);
        match self {
            Wrong::PrintsNone => reference.contains("None") || reference.contains("assistant\nnull"),
            Wrong::LosesCalls => reference.matches("get_weather").count() < 1 + n_calls,
            Wrong::NoTools => lacks("of a city"),
            Wrong::LosesSystem => lacks("Be brief.") || (lacks("Now in French.") && lacks("In French.")),
            Wrong::LosesText => lacks("I look."),
            Wrong::LosesThought => lacks("I must."),
        }
    }
}

/// Prompts that differ from the reference's, and why. All others are equal.
#[rustfmt::skip]
const DIFFERENT: &[(&str, Wrong, &str)] = &[
    ("Bielik-11B-v3.0-Instruct", Wrong::LosesSystem, "system_later two_systems"),
    ("Cohere2MoE", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", Wrong::PrintsNone, "thought_only"),
    ("GLM-4.6", Wrong::PrintsNone, "call call_thought two_calls empty_arguments openai_ids thought_only user_after_tool"),
    ("GigaChat3-10B-A1.8B", Wrong::LosesCalls, "two_calls"),
    ("GigaChat3.1-10B-A1.8B", Wrong::LosesCalls, "two_calls"),
    ("HuggingFaceTB-SmolLM3-3B", Wrong::LosesSystem, "system_later two_systems"),
    ("HuggingFaceTB-SmolLM3-3B", Wrong::NoTools, "tools call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("LFM2-8B-A1B", Wrong::LosesCalls, "call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("LFM2-8B-A1B", Wrong::PrintsNone, "thought_only"),
    ("LFM2.5-Instruct", Wrong::LosesCalls, "call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("LFM2.5-Instruct", Wrong::PrintsNone, "thought_only"),
    ("MiniMax-M1", Wrong::LosesSystem, "system_later two_systems"),
    ("MiniMax-M1", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("MiniMax-M2", Wrong::LosesSystem, "system_later two_systems"),
    ("MiniMax-M2", Wrong::PrintsNone, "call call_thought two_calls openai_ids thought_only user_after_tool"),
    ("Mistral-Small-3.2-24B-Instruct-2506", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("NVIDIA-Nemotron-Nano-v2", Wrong::LosesSystem, "system_later two_systems"),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("Reka-Edge", Wrong::LosesSystem, "system_later two_systems"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", Wrong::LosesSystem, "system_later two_systems"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", Wrong::NoTools, "tools call_after_text call_text_and_thought empty_arguments"),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", Wrong::LosesSystem, "system_later two_systems"),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", Wrong::NoTools, "tools call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("deepseek-ai-DeepSeek-V3.1", Wrong::NoTools, "tools call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("google-gemma-2-2b-it", Wrong::PrintsNone, "thought_only"),
    ("ibm-granite-granite-3.3-2B-Instruct", Wrong::LosesCalls, "call_after_text call_text_and_thought"),
    ("llama-cpp-deepseek-r1", Wrong::LosesSystem, "system_later two_systems"),
    ("llama-cpp-rwkv-world", Wrong::LosesSystem, "system_later two_systems"),
    ("llama-cpp-rwkv-world", Wrong::NoTools, "tools call call_after_text call_thought call_text_and_thought two_calls empty_arguments openai_ids user_after_tool"),
    ("meta-llama-Llama-3.1-8B-Instruct", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("meta-llama-Llama-3.1-8B-Instruct", Wrong::PrintsNone, "thought_only"),
    ("meta-llama-Llama-3.2-3B-Instruct", Wrong::LosesText, "call_after_text call_text_and_thought"),
    ("meta-llama-Llama-3.2-3B-Instruct", Wrong::PrintsNone, "thought_only"),
    ("microsoft-Phi-3.5-mini-instruct", Wrong::NoTools, "tools call_after_text call_text_and_thought"),
    ("openai-gpt-oss-120b", Wrong::LosesSystem, "system_later two_systems"),
    ("openai-gpt-oss-120b", Wrong::LosesThought, "call_text_and_thought"),
];

fn reason_to_differ(template: &str, case: &str) -> Option<Wrong> {
    let has_case = |cases: &str| cases.split(' ').any(|name| name == case);
    DIFFERENT.iter().find(|(name, _, cases)| *name == template && has_case(cases)).map(|(_, wrong, _)| *wrong)
}

#[test]
fn originals_render_as_in_python() {
    let Some(folder) = folder() else { return };
    let (templates, cases) = (templates(&folder), cases(&folder));
    let (mut n_equal, mut n_saved, mut n_excused, mut complaints) = (0, 0, 0, Vec::new());
    for line in read(&folder.join("expected.jsonl")).lines() {
        let expected: Value = serde_json::from_str(line).expect("JSON");
        let [name, case] = ["template", "case"].map(|key| text(&expected[key]).expect("a name"));
        let rendered = prompt(&templates[&name], &cases[&case], &Guard::default());
        let reason = reason_to_differ(&name, &case);
        let n_calls = cases[&case].messages.iter().map(|message| message.tool_calls.len()).sum();
        match (rendered, text(&expected["prompt"])) {
            (Err(error), _) => complaints.push(format!("{name} {case}: {error}")),
            (Ok(_), None) => n_saved += 1,
            (Ok(ours), Some(reference)) if ours.text == reference => {
                n_equal += 1;
                if reason.is_some() {
                    complaints.push(format!("{name} {case}: is equal, the exception can go"));
                }
            }
            (Ok(_), Some(reference)) if reason.is_some_and(|wrong| wrong.is_so(&reference, n_calls)) => n_excused += 1,
            (Ok(ours), Some(reference)) => {
                complaints.push(format!("{name} {case}: {:?}\n{:?}\n{reference:?}", ours.warnings, ours.text));
            }
        }
    }
    println!("{n_equal} equal, {n_excused} differ for a reason, {n_saved} that the reference refuses");
    assert!(complaints.is_empty(), "{} differ:\n{}", complaints.len(), complaints.join("\n"));
}

/// A conversation that contains `text` at every place that a client can write.
fn conversation_of(text: &str) -> Case {
    let call = ToolCall::new("abcDEF120".into(), "f".into(), serde_json::json!({"city": text}).to_string());
    let messages = vec![
        Message::new("system", format!("Be brief{text}.")),
        Message::new("user", format!("Hi{text}there")),
        Message {
            role: "assistant".into(),
            content: Some(format!("I{text}look")),
            reasoning_content: Some(format!("Hm{text}so")),
            tool_calls: vec![call],
            ..Message::default()
        },
        Message { tool_call_id: Some("abcDEF120".into()), ..Message::new("tool", format!("18{text}C")) },
        Message::new("assistant", format!("Mild{text}")),
        Message::new("user", format!("{text}And{text}")),
    ];
    let tool = serde_json::json!({"type": "function", "function": {"name": "f", "description": format!("Of{text}it"),
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": format!("A{text}b")}},
            "required": ["city"]}}});
    Case { messages, tools: vec![tool] }
}

/// A client writes each control token of each template at every place: none of them becomes a control token in the
/// prompt.
#[test]
fn no_control_token_leaks_from_what_a_client_writes() {
    let Some(folder) = folder() else { return };
    let (mut n_templates, mut n_tokens, mut n_leaks_without) = (0, 0, 0);
    for (name, template) in templates(&folder) {
        let controls = spelled_tokens(&read(&folder.join(format!("{name}.jinja"))));
        let tokenizer = tokenizer("leak", &controls);
        let guard = Guard::new(tokenizer.control_texts());
        let count =
            |tokens: &[Token]| tokens.iter().filter(|token| tokenizer.table().bytes(**token).is_empty()).count();
        let prompt_of = |text: &str| {
            prompt(&template, &conversation_of(text), &guard).unwrap_or_else(|error| panic!("{name} {text:?}: {error}"))
        };
        let harmless = prompt_of(" zq ");
        assert!(harmless.barriers.is_empty(), "{name}");
        let own = count(&tokenizer.encode_chat(&harmless.text, false, &harmless.barriers).expect("tokens"));
        for control in &controls {
            let hostile = prompt_of(control);
            let tokens = tokenizer.encode_chat(&hostile.text, false, &hostile.barriers).expect("tokens");
            assert_eq!(count(&tokens), own, "{name}: {control}");
            assert_eq!(
                tokenizer.decode(&tokens, true),
                tokenizer.decode(&tokenizer.encode(&hostile.text, false, true).expect("tokens"), true)
            );
            n_leaks_without += usize::from(count(&tokenizer.encode(&hostile.text, false, true).expect("tokens")) > own);
            n_tokens += 1;
        }
        n_templates += 1;
    }
    println!(
        "{n_templates} templates, {n_tokens} control tokens: none leaks; without barriers {n_leaks_without} would"
    );
    assert!(n_templates >= 50 && n_leaks_without * 10 > n_tokens * 9, "{n_leaks_without} of {n_tokens}");
}

/// The guard doesn't change the tokens of ordinary text.
#[test]
fn ordinary_text_keeps_its_tokens() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder);
    let mut n = 0;
    for (name, template) in templates(&folder) {
        let tokenizer = tokenizer("same", &spelled_tokens(&read(&folder.join(format!("{name}.jinja")))));
        let guard = Guard::new(tokenizer.control_texts());
        for (case, given) in &cases {
            let guarded = prompt(&template, given, &guard).unwrap_or_else(|error| panic!("{name} {case}: {error}"));
            let plain = prompt(&template, given, &Guard::default()).expect("it rendered");
            assert_eq!(guarded.text, plain.text, "{name} {case}");
            let tokens = tokenizer.encode_chat(&guarded.text, true, &guarded.barriers).expect("tokens");
            assert_eq!(tokens, tokenizer.encode(&plain.text, true, true).expect("tokens"), "{name} {case}");
            n += 1;
        }
    }
    println!("{n} prompts have the tokens that they had");
}
