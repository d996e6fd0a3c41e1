//! Renders and tokenises a chat of ten turns as an HTTP thread does, for `count.sh` to count the instructions.

use serde_json::json;

use crate::chat::{ChatPrompt, ChatTemplate, Conversation, Guard, Message, TemplateSource, ToolCall};
use crate::tokenizer::Tokenizer;

const TEMPLATE: &str = include_str!("../chat.jinja");
const WORDS: &str = "The port is set with a flag, by a variable or in the file; the flag wins, and what the server would \
                     serve with is printed by its check. ";

/// A system turn, five questions and the four answers between them, of some 60 words each. With `calls` every second answer
/// is a tool call with its result.
fn messages(calls: bool) -> Vec<Message> {
    let mut all = vec![Message::new("system", "You are a helpful assistant. Be brief.")];
    for turn in 0..5 {
        all.push(Message::new("user", format!("Question {turn}: {}", WORDS.repeat(2))));
        if calls && turn % 2 == 1 {
            let id = format!("call_{turn}");
            let call = ToolCall::new(id.clone(), "get_weather".into(), "{\"city\": \"Rome\", \"days\": 3}".into());
            let content = Some(String::new());
            all.push(Message { role: "assistant".into(), content, tool_calls: vec![call], ..Message::default() });
            all.push(Message { tool_call_id: Some(id), ..Message::new("tool", "18 degrees, sunny") });
        }
        if turn < 4 {
            all.push(Message::new("assistant", format!("Answer {turn}: {}", WORDS.repeat(2))));
        }
    }
    all
}

/// Renders and tokenises the chat `n` times.
pub fn run(tokenizer: &Tokenizer, calls: bool, n: usize) {
    let text = Some((TEMPLATE.to_owned(), TemplateSource::Model));
    let template = ChatTemplate::new(text, String::new(), "<|im_end|>".to_owned()).expect("it is valid");
    let guard = Guard::new(tokenizer.control_texts());
    let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city"},
            "days": {"type": "integer"}}, "required": ["city"]}}});
    let tools = if calls { vec![tool] } else { Vec::new() };
    let messages = messages(calls);
    let conversation = Conversation { messages: &messages, tools: &tools, kwargs: None };
    let mut n_tokens = 0;
    for _ in 0..n {
        let prompt = chat_rendered(&template, conversation, &guard);
        assert!(prompt.warnings.is_empty(), "{:?}", prompt.warnings);
        n_tokens = chat_tokenised(tokenizer, &prompt);
    }
    println!("{n_tokens} tokens a chat");
}

/// A function of its own, so that callgrind lists it.
#[inline(never)]
fn chat_rendered(template: &ChatTemplate, conversation: Conversation<'_>, guard: &Guard) -> ChatPrompt {
    template.prompt(conversation, guard).expect("it renders")
}

/// A function of its own, so that callgrind lists it.
#[inline(never)]
fn chat_tokenised(tokenizer: &Tokenizer, prompt: &ChatPrompt) -> usize {
    tokenizer.encode_chat(&prompt.text, true, &prompt.barriers).expect("tokens").len()
}
