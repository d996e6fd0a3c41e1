//! The page at `/`: a chat, and a live view of the engine. Plain ES modules, compiled into the binary as they are. There is no
//! build step, and the page loads nothing from other servers. Pure data, which HTTP threads send.
//!
//! ```text
//! page.html        the frame: conversations, chat, engine
//! main.js          connects the parts: panels, theme, keyboard
//! api.js           requests to this server: key, errors, server-sent events
//! chat.js          one conversation on the screen; message.js: one message
//! conversations.js conversations that the browser stores
//! settings.js      system prompt and sampling
//! markdown.js      text to DOM nodes
//! engine.js        the live view; prometheus.js: reads /metrics; lanes.js: slots over time; charts.js: lines and bars; memory.js: where
//!                  prompts came from
//! dom.js           makes elements
//! ```

/// Lets browsers load files for the page from this server only. Browsers that support trusted types also refuse
/// `innerHTML`, so that no text of a model or user becomes markup.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The file's name in its URL.
    pub name: &'static str,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub text: &'static str,
}

const JS: &str = "text/javascript; charset=utf-8";

macro_rules! assets {
    ($($name:literal as $content_type:expr),* $(,)?) => {
        &[$(Asset { name: $name, content_type: $content_type, text: include_str!($name) }),*]
    };
}

/// All files; the first is the response to `/`.
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
    "memory.js" as JS,
    "dom.js" as JS,
];

/// The file with this name; `None`: there is none.
pub fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each file that another file loads exists, and no script makes markup from text.
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
