//! Answers of the HTTP layer's own refusals, in the format of the route that was asked for. Runs on the thread that
//! refuses.

use serde_json::Value;
use tiny_http::{Header, Refusal, Refused};

use crate::http::caller::Caller;
use crate::http::fault::header;
use crate::http::route::Dialect;
use crate::http::run::refuse::Fault;
use crate::http::service::Service;

impl Service {
    /// The answer to a request that was refused before it reached its route.
    pub fn refused(&self, refused: &Refused<'_>) -> Refusal {
        let name = Caller::name_of(refused.headers, self.next_id());
        let fault = Fault { status: refused.status, message: refused.message, code: refused.slug, extra: Value::Null };
        let body = (Dialect::at(refused.url.unwrap_or_default()).errors().body)(&fault);
        let headers: Vec<Header> = vec![header("Content-Type", "application/json"), header("X-Request-Id", &name)];
        Refusal { headers, body: format!("{body}\n").into_bytes() }
    }
}
