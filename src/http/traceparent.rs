//! The `traceparent` header of W3C's Trace Context: the trace and the span to which a request belongs. They go into the
//! request's log line; cllm exports no traces.

use tiny_http::Header;

/// Hexadecimal digits of a trace's id, and of a span's id.
const TRACE_ID_DIGITS: usize = 32;
const SPAN_ID_DIGITS: usize = 16;

/// The ids of a trace and a span, in lower-case hexadecimal digits, as in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id, 32 digits.
    pub trace_id: String,
    /// The id of the client's span that sent the request, 16 digits.
    pub span_id: String,
}

impl TraceParent {
    /// Reads a request's headers. `None`: there is no such header, or it is invalid; the specification says that it is
    /// then ignored.
    pub fn of(headers: &[Header]) -> Option<TraceParent> {
        let header = headers.iter().find(|header| header.field.equiv("traceparent"))?;
        TraceParent::parse(header.value.as_str().trim())
    }

    /// Parses `VERSION-TRACE-SPAN-FLAGS`. Versions after 00 may have more parts.
    fn parse(value: &str) -> Option<TraceParent> {
        let mut parts = value.split('-');
        let version = parts.next().filter(|version| is_hex(version, 2) && *version != "ff")?;
        let trace_id = parts.next().filter(|id| is_id(id, TRACE_ID_DIGITS))?;
        let span_id = parts.next().filter(|id| is_id(id, SPAN_ID_DIGITS))?;
        parts.next().filter(|flags| is_hex(flags, 2))?;
        (version != "00" || parts.next().is_none())
            .then(|| TraceParent { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() })
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `text` is an id; only zeros are none.
fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_specification_allows_is_taken() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = TraceParent { trace_id: trace.to_owned(), span_id: span.to_owned() };
        for value in
            [format!("00-{trace}-{span}-01"), format!("00-{trace}-{span}-00"), format!("7c-{trace}-{span}-01-more")]
        {
            assert_eq!(TraceParent::parse(&value).as_ref(), Some(&good), "{value}");
        }
        let zeros = "0".repeat(32);
        for value in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-{span}"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}x-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{trace}é-{span}-01"),
        ] {
            assert_eq!(TraceParent::parse(&value), None, "{value}");
        }
    }
}
