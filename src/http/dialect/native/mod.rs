//! cllm's own generating routes, `/generate` and `/generate_stream`, and the shape of their errors, which all routes about
//! the server use, too.
//!
//! ```text
//! request  the fields of a body
//! answer   whole answers, and the fields of an end that whole answers and streams share
//! events   answers as server-sent events
//! ```

mod answer;
mod events;
mod request;

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use crate::http::ask::generation::{Defaults, Generation};
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::run::refuse::{ErrorShape, Fault};
use crate::http::run::speaks::{Speaks, Told};
use crate::http::service::Service;
use crate::types::RequestError;

pub use request::Native;

/// cllm's errors: `{"success": false, "error": message, "code": word}`, and further fields.
pub static ERRORS: ErrorShape = ErrorShape { schema: "Error", body, prompt_field: None, too_long: None };

fn body(fault: &Fault<'_>) -> Value {
    let mut body = json!({"success": false, "error": fault.message, "code": fault.code});
    if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), &fault.extra) {
        body.extend(extra.clone());
    }
    body
}

impl Speaks for Native {
    const ERRORS: &'static ErrorShape = &ERRORS;
    type Whole<'a> = answer::TextAnswer<'a>;
    type Events<'a> = events::TextEvents;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Native), RequestError> {
        Ok((request::parse(body, defaults, fresh_seed)?, Native))
    }

    fn whole(self, told: Told<'_>) -> answer::TextAnswer<'_> {
        answer::TextAnswer::new(told)
    }

    fn events(self, told: Told<'_>) -> events::TextEvents {
        events::TextEvents::new(told.id, told.generation.sampling.seed)
    }
}

impl Service {
    /// `/generate_stream`: always a stream of events, whatever the body's `stream` is.
    pub(in crate::http) fn generate_stream(&self, request: Request, caller: &Caller) {
        let parsed = self.parsed::<Native>(caller, request.body());
        let parsed = parsed.map(|(generation, native)| (Generation { stream: true, ..generation }, native));
        self.run_parsed(request, caller, parsed);
    }

    /// The answer of `/generate` to `body` as JSON, without a connection. Never a stream.
    pub fn generate_json(&self, body: &[u8]) -> ResponseBox {
        warnings::forget();
        self.generate_unconnected(&Caller::unconnected(self.next_id()), body)
    }

    pub(in crate::http) fn generate_unconnected(&self, caller: &Caller, body: &[u8]) -> ResponseBox {
        self.run_unconnected::<Native>(caller, body)
    }
}
