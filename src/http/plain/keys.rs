//! `/keys`: the terms and the usage of each API key, for administrators. The keys themselves aren't shown.

use serde_json::{Value, json};
use tiny_http::ResponseBox;

use crate::http::account::Account;
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::route::Dialect;
use crate::http::service::Service;

impl Service {
    /// Answers requests with a key that has `admin=yes`. Others get 403, as do all on a server without keys.
    pub(in crate::http) fn keys(&self, caller: &Caller) -> ResponseBox {
        if !caller.standing.account.as_ref().is_some_and(|account| account.terms.is_admin) {
            self.note_refusal(caller, "admin_only");
            let message =
                "this route needs the key of an administrator: one with admin=yes behind it in --api-key-file";
            return Dialect::Native.errors().answer(403, message, "admin_only", Value::Null);
        }
        let now_us = self.now_us();
        let keys: Vec<Value> = self.parts.access.accounts().iter().map(|account| told(account, now_us)).collect();
        json_response(200, &json!({"success": true, "data": {"keys": keys}}))
    }
}

fn told(account: &Account, now_us: u64) -> Value {
    let (terms, counts) = (&account.terms, account.counts());
    let left = account.left(now_us);
    json!({
        "name": terms.name,
        "weight": terms.weight.get(),
        "priority": terms.class.as_str(),
        "admin": terms.is_admin,
        "tokens_per_minute": terms.limits.tokens_per_minute,
        "tokens_left": left.tokens,
        "requests": terms.limits.requests,
        "requests_left": left.requests,
        "context": terms.limits.context,
        "models": terms.models,
        "requests_total": counts.requests.get(),
        "refused_total": counts.refused.get(),
        "prompt_tokens_total": counts.prompt_tokens.get(),
        "cached_tokens_total": counts.cached_tokens.get(),
        "generated_tokens_total": counts.generated_tokens.get(),
        "gave_way_total": counts.gave_way.get(),
        "waited_s": counts.waited_us.get() as f64 / 1e6,
    })
}
