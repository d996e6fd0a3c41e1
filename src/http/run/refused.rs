//! What the layer below refuses, said in the shape of the route that was asked for. Runs on whichever thread refuses.

use serde_json::Value;
use tiny_http::{Header, Refusal, Refused};

use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::fault::header;
use crate::http::service::Service;

impl Service {
    /// The answer to a request that never came as far as a route.
    pub fn refused(&self, refused: &Refused<'_>) -> Refusal {
        let name = Caller::name_of(refused.headers, self.next_id());
        let url = refused.url.unwrap_or_default();
        let body = Dialect::at(url).error_body(refused.status, refused.message, refused.slug, Value::Null);
        let headers: Vec<Header> = vec![header("Content-Type", "application/json"), header("X-Request-Id", &name)];
        Refusal { headers, body: format!("{body}\n").into_bytes() }
    }
}
