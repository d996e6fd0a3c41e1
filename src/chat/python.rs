//! What templates expect of Python's Jinja: values printed as Python prints them, the filters, tests and methods that
//! minijinja lacks or defines differently, `strftime_now`, lists that grow, and the `generation` block of training
//! templates.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python_print::{JsonStyle, json, str_of};
use super::strftime::strftime;
use crate::types::limits::{TEMPLATE_INDENT_MAX, TEMPLATE_LIST_MAX};

/// Adds them to an environment. `now` returns the seconds since 1970 that `strftime_now` prints.
pub fn add_to(environment: &mut Environment<'static>, now: fn() -> u64) {
    environment.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => Ok(out.write_str(text)?),
        None => Ok(out.write_str(&str_of(value))?),
    });
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| str_of(value));
    environment.add_filter("join", join);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, escape);
    }
    for name in ["fromjson", "from_json", "parse_json"] {
        environment.add_filter(name, from_json);
    }
    // minijinja treats `none` as iterable, and strings as no sequences.
    environment.add_test("iterable", |value: &Value| is_sequence(value) || value.kind() == ValueKind::Iterable);
    environment.add_test("sequence", |value: &Value| is_sequence(value));
    environment.add_function("namespace", namespace);
    environment.add_function("markup_sum", markup_sum);
    environment.add_function("strftime_now", move |format: String| strftime(&format, now()));
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
}

/// Whether Python could index the value. Strings, dicts and undefined values count.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Replaces `{% generation %}` blocks, which mark text for training, by blocks that are always rendered.
pub fn without_generation_blocks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("{%") {
        // Behind the two characters that open it: in `{%}` the end would begin within them.
        let Some(len) = rest[open + 2..].find("%}").map(|len| len + 2) else { break };
        let (before, tag) = (&rest[..open], &rest[open..open + len]);
        out.push_str(before);
        match tag[2..].trim_matches(['-', '+', ' ', '\n', '\t']) {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[open + len..];
    }
    out + rest
}

/// In Jinja, adding to a safe text escapes the other text; minijinja's `+` doesn't. A printed sum with a safe part is
/// rewritten as a call of `markup_sum`.
pub fn with_markup_sums(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let Some(len) = rest[open..].find("}}") else { break };
        let tag = &rest[open..open + len];
        let inner = tag[2..].trim_matches('-');
        let has_filter = |name: &str| {
            inner.split('|').skip(1).any(|filter| {
                filter
                    .trim_start()
                    .strip_prefix(name)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            })
        };
        let makes_safe = ["safe", "e", "escape", "forceescape"].into_iter().any(has_filter);
        let parts = if makes_safe { sum_parts(inner) } else { None };
        out.push_str(&rest[..open]);
        match parts {
            Some(parts) => {
                let (first, last) = (tag[2..].starts_with('-'), tag.ends_with('-'));
                let dash = |is: bool| if is { "-" } else { "" };
                out += &format!("{{{{{} markup_sum({}) {}", dash(first), parts.join(", "), dash(last));
            }
            None => out.push_str(tag),
        }
        rest = &rest[open + len..];
    }
    out + rest
}

/// The parts that an expression adds up, if it is only a sum.
fn sum_parts(expression: &str) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_i32, None);
    let bytes = expression.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth -= 1,
            (None, b'+') if depth == 0 => {
                parts.push(expression.get(from..at)?.trim());
                from = at + 1;
            }
            // An operator that binds less tightly than `+`.
            (None, b'~' | b'=' | b'<' | b'>') if depth == 0 => return None,
            (None, b' ') if depth == 0 => {
                let word = expression.get(at + 1..)?.split(|c: char| !c.is_ascii_alphabetic()).next()?;
                if ["if", "else", "and", "or", "not", "in", "is"].contains(&word) {
                    return None;
                }
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(expression.get(from..)?.trim());
    (parts.len() > 1).then_some(parts)
}

/// Python's `+` of texts, some of which may be marked safe.
fn markup_sum(parts: Rest<Value>) -> Result<Value, Error> {
    if let Some(other) = parts.iter().find(|part| part.as_str().is_none()) {
        let reason = format!("can only concatenate text, not {}", other.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    let is_safe = parts.iter().any(Value::is_safe);
    let texts = parts.iter().map(|part| str_of(&if is_safe { escape(part) } else { part.clone() }));
    let sum: String = texts.collect();
    Ok(if is_safe { Value::from_safe_string(sum) } else { Value::from(sum) })
}

/// `json.dumps` with `transformers`' defaults: `ensure_ascii=False`, and no escapes for HTML.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let mut style = JsonStyle { ensure_ascii: false, ..JsonStyle::default() };
    if let Some(indent) = options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        style.indent = Some(match indent.as_str() {
            Some(text) => text.chars().take(TEMPLATE_INDENT_MAX).collect(),
            None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(TEMPLATE_INDENT_MAX)),
        });
    }
    style.sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    style.ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    if let Some(pair) = options.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none()) {
        let part = |i: usize| pair.get_item_by_index(i).map(|part| str_of(&part));
        (style.item_separator, style.key_separator) = (Some(part(0)?), part(1)?);
    }
    options.assert_all_used()?;
    json(value, &style)
}

/// Joins the entries' texts with `separator`; `attribute` names the attribute of each entry to use.
fn join(value: &Value, separator: Option<String>, options: Kwargs) -> Result<String, Error> {
    let attribute: Option<String> = options.get("attribute")?;
    let separator = match separator {
        Some(separator) => separator,
        None => options.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let mut texts = Vec::new();
    for entry in value.try_iter()? {
        texts.push(str_of(&match &attribute {
            Some(name) => entry.get_attr(name)?,
            None => entry,
        }));
    }
    Ok(texts.join(&separator))
}

/// Escapes HTML's five characters as MarkupSafe does. Safe text is unchanged.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let text = str_of(value);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Value::from_safe_string(out)
}

/// `json.loads`.
fn from_json(text: &str) -> Result<Value, Error> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Ok(super::values::of_json(&json, &|text| Value::from(text))),
        Err(error) => Err(Error::new(ErrorKind::BadSerialization, format!("not JSON: {error}"))),
    }
}

/// Methods of Python's types: those that minijinja's contributions lack, and theirs.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name, args) {
        (Some(text), "removeprefix", [prefix]) => {
            let prefix = str_of(prefix);
            Ok(Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text)))
        }
        (Some(text), "removesuffix", [suffix]) => {
            let suffix = str_of(suffix);
            Ok(Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text)))
        }
        (Some(text), "partition" | "rpartition", [mark]) => {
            let mark = str_of(mark);
            let cut = if name == "partition" { text.split_once(&mark) } else { text.rsplit_once(&mark) };
            let parts = match cut {
                Some((before, after)) => [before, &mark, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        (Some(text), "rsplit", [mark, times]) => {
            let mark = str_of(mark);
            let mut parts: Vec<&str> = text.rsplitn(usize::try_from(times.clone())? + 1, &mark).collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        (None, "index", [wanted]) if value.kind() == ValueKind::Seq => {
            let at = value.try_iter()?.position(|item| item == *wanted);
            at.map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "index: the value is not in the list"))
        }
        (None, "copy", []) if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) => Ok(value.clone()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Jinja's `namespace`, with lists that grow: templates keep queues in them.
fn namespace(given: Rest<Value>) -> Result<Value, Error> {
    let defaults = given.iter().find(|value| value.kind() == ValueKind::Map);
    let fields = defaults.map(super::python_print::pairs).unwrap_or_default().into_iter().map(|(name, value)| {
        let value = match value.kind() {
            ValueKind::Seq => Value::from_object(List(Mutex::new(value.try_iter().into_iter().flatten().collect()))),
            _ => value,
        };
        (str_of(&name), value)
    });
    minijinja::functions::namespace(Some(Value::from_iter(fields)))
}

/// A list with `append`, `extend`, `insert`, `pop` and `clear`.
#[derive(Debug)]
struct List(Mutex<Vec<Value>>);

impl List {
    fn with<T>(&self, run: impl FnOnce(&mut Vec<Value>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.with(|items| items.get(usize::try_from(key.clone()).ok()?).cloned())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.with(|items| items.len()))
    }

    fn call_method(self: &Arc<Self>, _: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        let none = || Value::from(());
        let n = self.with(|items| items.len());
        let grown = |by: usize| match n + by <= TEMPLATE_LIST_MAX {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::InvalidOperation, "a list of the template has more than a million entries"))
            }
        };
        match (name, args) {
            ("append", [item]) => {
                grown(1)?;
                self.with(|items| items.push(item.clone()));
                Ok(none())
            }
            ("extend", [more]) => {
                let more: Vec<Value> = more.try_iter()?.collect();
                grown(more.len())?;
                self.with(|items| items.extend(more));
                Ok(none())
            }
            ("insert", [at, item]) => {
                grown(1)?;
                let at = usize::try_from(at.clone())?.min(n);
                self.with(|items| items.insert(at, item.clone()));
                Ok(none())
            }
            ("pop", []) if n > 0 => Ok(self.with(|items| items.pop()).unwrap_or_else(none)),
            ("pop", [at]) => {
                let at = i64::try_from(at.clone())?;
                let at = if at < 0 { at + n as i64 } else { at };
                match usize::try_from(at) {
                    Ok(at) if at < n => Ok(self.with(|items| items.remove(at))),
                    _ => Err(Error::new(ErrorKind::InvalidOperation, "pop: the index is out of range")),
                }
            }
            ("clear", []) => {
                self.with(Vec::clear);
                Ok(none())
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::python_print::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_blocks_become_plain_ones() {
        let text = "{% for a in b %}{%- generation -%}x{%- endgeneration +%}{% endfor %} {{ generation }} {%";
        let plain = "{% for a in b %}{%- if true -%}x{%- endif +%}{% endfor %} {{ generation }} {%";
        assert_eq!(without_generation_blocks(text), plain);
    }

    #[test]
    fn a_tag_that_ends_within_its_beginning_is_left_as_it_is() {
        for text in ["{%}", "a{%} -%}b", "{{}", "{{}}"] {
            assert_eq!(with_markup_sums(&without_generation_blocks(text)), text);
        }
    }

    fn rendered(text: &str) -> String {
        let mut environment = Environment::new();
        add_to(&mut environment, || 951_782_400);
        environment.render_str(text, ()).unwrap()
    }

    #[test]
    fn values_print_as_in_python() {
        assert_eq!(rendered("{{ {'a': [1, none, true]} }} {{ 1.0 }} {{ none }}"), "{'a': [1, None, True]} 1.0 None");
        assert_eq!(rendered("{{ [{'a': 1}, 'b'] | join('-') }} {{ {'a': 'b'} | string }}"), "{'a': 1}-b {'a': 'b'}");
        assert_eq!(rendered("{{ strftime_now('%d %B %Y') }}"), "29 February 2000");
    }

    #[test]
    fn json_goes_both_ways_with_pythons_options() {
        assert_eq!(rendered("{{ {'b': 'é', 'a': [1]} | tojson }}"), r#"{"b": "é", "a": [1]}"#);
        assert_eq!(
            rendered("{{ {'b': 'é<', 'a': [1]} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}"),
            r#"{"a":[1],"b":"\u00e9<"}"#
        );
        assert_eq!(rendered("{{ {'a': [1]} | tojson(indent=1) }}"), "{\n \"a\": [\n  1\n ]\n}");
        assert_eq!(rendered("{{ ('{\"a\": [1, 2]}' | fromjson).a[1] }} {{ ('[3]' | from_json)[0] }}"), "2 3");
    }

    #[test]
    fn html_is_escaped_as_markupsafe_does() {
        assert_eq!(rendered("{{ '<a b=\"c\">&\\'</a>' | e }}"), "&lt;a b=&#34;c&#34;&gt;&amp;&#39;&lt;/a&gt;");
    }

    #[test]
    fn a_sum_with_safe_text_escapes_the_rest() {
        let sum = |text: &str| rendered(&with_markup_sums(text));
        assert_eq!(sum("{{- '<b>'|safe + '<i> + &' + ('x' + '>') -}}"), "<b>&lt;i&gt; + &amp;x&gt;");
        for same in
            ["{{ a|safe if b + c else d }}", "{{ a + b }}", "{{ a|selectattr('e') + b }}", "{{ a ~ b|safe + c }}"]
        {
            assert_eq!(with_markup_sums(same), same);
        }
    }

    #[test]
    fn a_namespaces_lists_grow_and_strings_have_pythons_methods() {
        let queue = "{% set q = namespace(ids=['a']) %}{% set _ = q.ids.append('b') %}{{ q.ids.pop(0) }}{{ q.ids }}{{ q.ids | length }}";
        assert_eq!(rendered(queue), "a['b']1");
        assert_eq!(
            rendered("{{ 'ab'.removeprefix('a') }}{{ 'a:b:c'.partition(':')[2] }}{{ 'a:b:c'.rsplit(':', 1) }}"),
            "bb:c['a:b', 'c']"
        );
    }
}
