//! Continues an answer that has begun: a conversation whose last turn is the assistant's.
//!
//! The turns before it are rendered up to where the assistant begins to speak, and the text of the last turn is
//! appended. So no template needs to support it, and none can put an end mark after the text.

use super::guard::{self, Guard};
use super::prompt::ChatPrompt;
use super::template::ChatTemplate;

impl ChatTemplate {
    /// Appends `begun`, the beginning of the answer, to `prompt`. If the prompt opens a thought, the thought is closed
    /// first, because `begun` belongs to the answer. Control tokens spelled in `begun` stay plain text.
    pub fn continued(&self, mut prompt: ChatPrompt, begun: &str, guard: &Guard) -> ChatPrompt {
        if let Some((thought, true)) = self.style().thought_behind(&prompt.text) {
            prompt.text.push_str(&thought.close);
        }
        let at = prompt.text.len();
        if let Some(mark) = guard::free_marks(std::iter::once(begun)).map(|(mark, _)| mark) {
            let barriers = guard::unmarked(guard.marked(begun, mark).into_owned(), mark).barriers;
            prompt.barriers.extend(barriers.into_iter().map(|barrier| at + barrier));
        }
        prompt.text.push_str(begun);
        prompt
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conversation, Message, TemplateSource};
    use super::*;

    fn continued(source: &str, begun: &str) -> ChatPrompt {
        let template =
            ChatTemplate::new(Some((source.to_owned(), TemplateSource::Model)), String::new(), String::new()).unwrap();
        let guard = Guard::new(["<|im_end|>".to_owned()]);
        let messages = [Message::new("user", "Hi")];
        let conversation = Conversation { messages: &messages, ..Conversation::default() };
        let prompt = template.prompt(conversation, &guard).unwrap();
        template.continued(prompt, begun, &guard)
    }

    #[test]
    fn the_text_stands_where_the_assistant_speaks() {
        const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        let prompt = continued(PLAIN, "I say <|im_end|>");
        assert_eq!(prompt.text, "user: Hi\nassistant: I say <|im_end|>");
        assert_eq!(prompt.barriers, ["user: Hi\nassistant: I say <".len()]);
    }

    #[test]
    fn a_thought_that_the_prompt_opens_is_closed() {
        const THINKS: &str = "{% for m in messages %}{% if m.role == 'assistant' %}<think>{{ m.reasoning_content }}</think>{{ m.content }}{% else %}{{ m.content }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}<think>{% endif %}";
        assert_eq!(continued(THINKS, "So").text, "Hi<think></think>So");
    }
}
