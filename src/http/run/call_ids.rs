//! Ids of tool calls.

use crate::chat::CallStyle;
use crate::http::service::Service;
use crate::types::RequestId;

/// Makes the ids of the calls of one request.
#[derive(Clone, Copy)]
pub struct CallIds {
    base: u64,
    style: CallStyle,
}

impl CallIds {
    /// The id of call number `call` of answer number `choice`.
    pub fn of(self, choice: usize, call: usize) -> String {
        let number = self.base.wrapping_add((choice as u64) << 40).wrapping_add(call as u64);
        match self.style {
            // Mistral's templates require nine letters and digits.
            CallStyle::MistralList | CallStyle::MistralArgs => format!("{:09x}", number % (1 << 36)),
            _ => format!("call_{number:014x}"),
        }
    }
}

impl Service {
    /// Makes the ids for the request `id`.
    pub(in crate::http) fn call_ids(&self, id: RequestId) -> CallIds {
        CallIds { base: self.mixed(id), style: self.parts.template.style().calls }
    }

    /// A number for ids, which differs between requests and between runs. It isn't derived from the seed.
    pub(in crate::http) fn mixed(&self, id: RequestId) -> u64 {
        self.fresh_seed(RequestId(!id.0))
    }
}
