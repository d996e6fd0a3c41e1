//! The page at `/`: chat and a live view of the engine. Plain ES modules, in the binary as they stand here; nothing
//! builds them and nothing else is loaded. Pure data; HTTP threads hand it out.
//!
//! ```text
//! page.html        the frame: conversations, chat, engine
//! main.js          puts the parts together: panels, theme, keyboard
//! api.js           requests to this server: key, errors, server-sent events
//! chat.js          one conversation on the screen; message.js: one message
//! conversations.js what the browser keeps
//! settings.js      system prompt and sampling
//! markdown.js      text to DOM nodes
//! engine.js        the live view; prometheus.js: reads /metrics; lanes.js: slots over time; charts.js: lines and bars
//! dom.js           elements from code
//! ```

/// What browsers may do with the page: load from this server, and nothing else. No text ever becomes markup: browsers
/// that know trusted types refuse `innerHTML` outright.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    pub name: &'static str,
    pub content_type: &'static str,
    pub text: &'static str,
}

const JS: &str = "text/javascript; charset=utf-8";

macro_rules! assets {
    ($($name:literal as $content_type:expr),* $(,)?) => {
        &[$(Asset { name: $name, content_type: $content_type, text: include_str!($name) }),*]
    };
}

/// All files; the first is what `/` gives.
pub const ASSETS: &[Asset] = assets![
    "page.html" as "text/html; charset=utf-8",
    "style.css" as "text/css; charset=utf-8",
    "icon.svg" as "image/svg+xml",
    "main.js" as JS,
    "api.js" as JS,
    "chat.js" as JS,
    "message.js" as JS,
    "conversations.js" as JS,
    "settings.js" as JS,
    "markdown.js" as JS,
    "engine.js" as JS,
    "prometheus.js" as JS,
    "lanes.js" as JS,
    "charts.js" as JS,
    "dom.js" as JS,
];

/// The file of that name.
pub fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file is there that another one loads, and nothing makes markup from text.
    #[test]
    fn the_files_are_whole() {
        for file in ASSETS {
            let loaded = file.text.split(['"', '\'']).filter_map(|part| {
                part.strip_prefix("./").or_else(|| part.strip_prefix("page/")).filter(|name| !name.contains(' '))
            });
            for name in loaded {
                assert!(asset(name).is_some(), "{} loads {name}", file.name);
            }
            for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://"] {
                assert!(!file.text.contains(unsafe_way), "{} has {unsafe_way}", file.name);
            }
        }
    }
}
