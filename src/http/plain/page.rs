//! `/` for browsers, and the files that the page loads.

use serde_json::Value;
use tiny_http::{Response, ResponseBox};

use crate::http::dialect::native::ERRORS;
use crate::http::fault::header;
use crate::http::path::path_of;
use crate::http::route::absence;
use crate::page::{ASSETS, Asset, CONTENT_SECURITY_POLICY, asset};

/// The page itself.
pub fn front() -> ResponseBox {
    answer(&ASSETS[0])
}

/// The file that `url` names.
pub fn file(url: &str) -> ResponseBox {
    match path_of(url).strip_prefix("/page/").and_then(asset) {
        Some(asset) => answer(asset),
        None => ERRORS.answer(404, &absence(url), "not_found", Value::Null),
    }
}

fn answer(asset: &Asset) -> ResponseBox {
    let headers = [
        ("Content-Type", asset.content_type),
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        // A server of another version may run at this address later.
        ("Cache-Control", "no-cache"),
        // `/` gives a list of routes to clients that don't ask for HTML.
        ("Vary", "Accept"),
    ];
    let response = Response::from_data(asset.text).boxed();
    headers.iter().fold(response, |response, (name, value)| response.with_header(header(name, value)))
}
