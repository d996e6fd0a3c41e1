//! The client of a request: the request's number, its name and its account, on every route.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Instant;

use tiny_http::{Header, Request, Response};

use crate::http::account::{Account, Standing};
use crate::http::ask::warnings;
use crate::http::fault::header;
use crate::http::log_line::LogLine;
use crate::http::traceparent::TraceParent;
use crate::types::RequestId;
use crate::types::limits::REQUEST_NAME_BYTES_MAX;

/// A request on its way through the HTTP room.
pub struct Caller {
    /// The request's number.
    pub id: RequestId,
    /// Its name, and its future line in the log. Shared with its generations; the last one dropped writes the line.
    pub line: Rc<LogLine>,
    /// Its owner, rank and account.
    pub standing: Standing,
    /// The headers about its account's limits, set when it is admitted or refused.
    limits: OnceCell<Vec<Header>>,
    /// The headers that let a page of another site read the answer.
    cors: Vec<Header>,
}

impl Caller {
    /// The client's own name for the request, if it is short and printable, because it goes into headers and logs;
    /// otherwise `req-N`.
    pub fn of(request: &Request, id: RequestId, cors: Vec<Header>) -> Caller {
        warnings::forget();
        let name = Caller::name_of(request.headers(), id);
        let line = LogLine::new(name, Some(Instant::now())).traced(TraceParent::of(request.headers()));
        Caller { id, line: Rc::new(line), standing: Standing::default(), limits: OnceCell::new(), cors }
    }

    /// Sets owner, rank and account.
    #[must_use]
    pub fn coming_as(self, standing: Standing) -> Caller {
        Caller { standing, ..self }
    }

    /// The request's name: the client's in these headers, or `req-N`.
    pub fn name_of(headers: &[Header], id: RequestId) -> String {
        let given = headers.iter().find(|header| header.field.equiv("X-Request-Id"));
        let given = given.map(|header| header.value.as_str().trim()).filter(|name| is_fit(name));
        given.map_or_else(|| id.to_string(), str::to_owned)
    }

    /// A request that came over no connection. A request made on behalf of another one keeps the other's warnings.
    pub fn unconnected(id: RequestId) -> Caller {
        Caller {
            id,
            line: Rc::new(LogLine::new(id.to_string(), None)),
            standing: Standing::default(),
            limits: OnceCell::new(),
            cors: Vec::new(),
        }
    }

    /// Records the headers about the account's limits. Only the first call counts.
    pub fn limited(&self, account: &Account, now_us: u64) {
        self.limits.get_or_init(|| account.headers(now_us));
    }

    /// Most tokens that a prompt and its answer may take together, at most `n_ctx`.
    pub fn n_ctx(&self, n_ctx: usize) -> usize {
        let own = self.standing.account.as_ref().and_then(|account| account.terms.limits.context);
        own.map_or(n_ctx, |own| own.min(n_ctx))
    }

    /// Whether the request's key may use the model with this name.
    pub fn may_use(&self, model: &str) -> bool {
        self.standing.account.as_ref().is_none_or(|account| account.terms.may_use(model))
    }

    /// The headers that every answer to this request has.
    pub fn headers(&self) -> impl Iterator<Item = Header> + '_ {
        let warning = warnings::value().map(|text| header("X-Cllm-Warning", &text));
        let id = std::iter::once(header("X-Request-Id", &self.line.name));
        let limits = self.limits.get().into_iter().flatten();
        id.chain(warning).chain(limits.chain(&self.cors).cloned())
    }

    /// Adds these headers to an answer.
    pub fn sign<R: std::io::Read>(&self, response: &mut Response<R>) {
        self.headers().for_each(|header| response.add_header(header));
    }
}

fn is_fit(name: &str) -> bool {
    (1..=REQUEST_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::is_fit;

    #[test]
    fn names_are_short_and_printable() {
        assert!(is_fit("a") && is_fit("7f9c:trace/1-2_3=") && is_fit(&"x".repeat(128)));
        for bad in ["", "a b", "a\"b", "<script>", "é", "a\u{7f}", &"x".repeat(129)] {
            assert!(!is_fit(bad), "{bad:?}");
        }
    }
}
