//! Forms of models whose templates describe tools but write no calls when rendered.

use super::{Arguments, Bit, CallForm, Notation, ObjectKeys};

/// The form that belongs to a template with certain words in its text.
pub fn known(template: &str) -> Option<CallForm> {
    let text = |text: &str| Bit::Text(text.to_owned());
    // Granite 3: its template tells the model to write this, and leaves calls out of history.
    if template.contains("<|tool_call|> followed by a JSON list") {
        return Some(CallForm {
            open: "<|tool_call|>[".to_owned(),
            call: vec![text("{\"name\": \""), Bit::Name, text("\", \"arguments\": "), Bit::Arguments, text("}")],
            between: ", ".to_owned(),
            close: "]".to_owned(),
            object: Some(ObjectKeys { name: "name".to_owned(), arguments: "arguments".to_owned() }),
            arguments: Arguments::Json,
            parallel: true,
            has_begun: false,
            before_text: String::new(),
        });
    }
    // LFM2: Python's calls in a list, as its model card says; clients give earlier calls back as content.
    if template.contains("List of tools: ") {
        return Some(CallForm {
            open: "<|tool_call_start|>[".to_owned(),
            call: vec![Bit::Name, text("("), Bit::Arguments, text(")")],
            between: ", ".to_owned(),
            close: "]<|tool_call_end|>".to_owned(),
            object: None,
            arguments: Arguments::Literal(Notation { assign: "=".to_owned(), between: ", ".to_owned(), quote: None }),
            parallel: true,
            has_begun: false,
            before_text: String::new(),
        });
    }
    None
}
