//! Tests the page at `/` in headless Chromium, against `cllm serve`. Screenshots are saved in `target/page/`.
//!
//! No test depends on the speed of the machine: each step waits for what the page shows.

mod chromium;
#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/server.rs"]
#[allow(dead_code)]
mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use chromium::Browser;
use server::Server;

const ANSWERED: &str = "document.querySelector('article.assistant footer button')";

fn visit(server: &Server) -> Browser {
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.wait("document.querySelector('#model').textContent");
    browser
}

fn say(browser: &mut Browser, text: &str) {
    browser.eval("document.querySelector('#input').focus()");
    browser.type_text(text);
    browser.press("Enter");
}

/// A server whose model generates slowly and without end.
fn endless() -> Server {
    Server::start("-np 4 --decoder null --null-step-us 20000")
}

#[test]
fn the_first_visit_shows_the_model_and_an_idle_engine() {
    let server = Server::start("-np 4");
    let mut browser = visit(&server);
    assert_eq!(browser.text("#model"), "cllm-tiny");
    browser.wait("document.querySelector('#verdict').textContent === 'Idle'");
    assert_eq!(browser.eval("document.activeElement.id"), "input", "typing writes a message");
    assert_eq!(browser.eval("document.querySelectorAll('.lane-names span').length"), 4);
    browser.screenshot("first-visit");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_chat_is_answered_edited_regenerated_and_kept() {
    let server = Server::start("-np 2");
    let mut browser = visit(&server);
    browser.click("#show-settings");
    browser.eval("document.querySelector('#temperature').value = '0'");
    browser.screenshot("settings");
    browser.click("#settings .primary");
    say(&mut browser, "What can you do?");
    browser.wait(ANSWERED);
    let asked = json!({"messages": [{"role": "user", "content": "What can you do?"}], "temperature": 0});
    let said = server.client().post("/v1/chat/completions", &asked).json();
    let said = said["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let kept = "JSON.parse(localStorage.getItem('cllm.conversations'))[0].messages";
    assert_eq!(browser.eval(&format!("{kept}[1].content")), said.as_str(), "the page shows what the route says");
    browser.screenshot("chat");

    browser.click("article.assistant footer button");
    browser.wait("document.querySelector('article.busy')  === null");
    browser.wait(ANSWERED);
    assert_eq!(browser.eval(&format!("{kept}.length")), 2, "regenerating replaces the answer");

    browser.click("article.user footer button");
    browser.eval("document.querySelector('article.user textarea').value = ''");
    browser.type_text("Hello");
    browser.press("Enter");
    browser.wait(ANSWERED);
    assert_eq!(browser.eval(&format!("{kept}[0].content")), "Hello");
    assert_eq!(browser.eval(&format!("{kept}.length")), 2);

    browser.open(&format!("http://{}/", server.addr()));
    browser.wait("document.querySelector('article.user')");
    assert_eq!(browser.text("article.user .body"), "Hello", "the browser kept it");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn stop_ends_the_answer_here_and_in_the_engine() {
    let server = endless();
    let mut browser = visit(&server);
    for by_key in [false, true] {
        say(&mut browser, "Go on");
        browser.wait("document.querySelector('article.assistant:last-child .body').textContent.length > 20");
        if by_key {
            browser.press("Escape")
        } else {
            browser.click("#stop")
        }
        browser.wait("document.querySelector('article:last-child footer')?.textContent.includes('stopped')");
        server.wait_for(0, 0);
        assert_eq!(browser.eval("document.querySelector('#stop').hidden"), true);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// What the cells lost comes from RAM, and the page says so.
#[test]
fn the_engine_tells_where_prompts_came_from() {
    let server = Server::start("-np 1 -c 1024 --prompt-ram 64MiB --kv-unified");
    let prompt = |word: &str| json!({"prompt": word.repeat(200), "max_tokens": 1});
    for (n, word) in [(1, "a "), (2, "the "), (3, "a ")] {
        server.generate(&prompt(word));
        server.wait_until("saved", |metrics| {
            server::number(metrics, "cllm_prompt_memory_blocks{tier=\"ram\"}") >= 3 * n.min(2)
        });
    }
    let mut browser = visit(&server);
    // How many blocks: the engine chooses by what they have taken, and on a busy machine that differs.
    browser.wait("/ from KV cells, (64|128|192) from RAM \\(/.test(document.querySelector('#prompts').textContent)");
    browser.wait("document.querySelector('#prompts').textContent.includes(' to restore.')");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_engine_moves_under_load() {
    let server = endless();
    let mut browser = visit(&server);
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let body = json!({"prompt": format!("{n} and more"), "ignore_eos": true, "stream": true});
            let mut client = server.client();
            client.request("POST", "/generate", body.to_string().as_bytes()).unwrap();
            client
        })
        .collect();
    browser.wait("document.querySelector('#verdict').textContent.endsWith('2 wait')");
    browser.wait("document.querySelector('path.decode').getAttribute('d').split('M').length > 4");
    browser.wait("document.querySelector('.histogram output').textContent.includes('95 %')");
    let rate = "Number(document.querySelector('.line output').textContent)";
    browser.wait(&format!("{rate} > 0"));
    let lanes = "document.querySelector('path.decode').getAttribute('d')";
    let before = browser.eval(lanes);
    browser.wait(&format!("{lanes} !== {before}"));
    browser.screenshot("engine");
    browser.prefers("dark");
    browser.screenshot("engine-dark");
    // The labels of bars don't overlap, and on a phone neither does the text at the top.
    let apart = "[...document.querySelectorAll('.bars')].every((bars) => { \
        const range = document.createRange(); \
        const spans = [...bars.querySelectorAll('small')].filter((small) => small.textContent) \
            .map((small) => (range.selectNodeContents(small), range.getBoundingClientRect())); \
        return spans.every((span, i) => i === 0 || span.left >= spans[i - 1].right) })";
    browser.wait(apart);
    browser.resize(360, 740);
    browser.wait("document.querySelector('#verdict').textContent.endsWith('2 wait')");
    let whole = "(() => { const word = document.querySelector('#verdict'); \
        return word.scrollWidth <= word.clientWidth && word.getBoundingClientRect().right <= 360 })()";
    assert_eq!(browser.eval(whole), true);
    browser.screenshot("phone-busy");
    browser.wait(&format!("document.querySelector('.bars').checkVisibility() && {apart}"));
    clients.into_iter().for_each(http::Client::leave);
    browser.wait("document.querySelector('#verdict').textContent === 'Idle'");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Tells the threads beside a test to end, also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A picture of the README: `make pictures`.
#[test]
fn a_chat_is_answered_while_three_others_are() {
    let server = Server::start("-np 4");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&done);
        for _ in 0..3 {
            scope.spawn(|| {
                let asked = json!({"messages": [{"role": "user", "content": "Tell me a story"}], "ignore_eos": true, "max_tokens": 400});
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(server.client().post("/generate", &asked).status, 200);
                }
            });
        }
        let mut browser = visit(&server);
        browser.wait("document.querySelector('#verdict').textContent !== 'Idle'");
        say(&mut browser, "What can you do?");
        browser.wait(ANSWERED);
        say(&mut browser, "Tell me a story");
        browser.wait(
            "document.querySelectorAll('article.assistant').length === 2 && !document.querySelector('article.busy')",
        );
        // The panel measures once a second.
        std::thread::sleep(Duration::from_secs(4));
        browser.screenshot("beside-others");
        assert_eq!(browser.complaints, Vec::<String>::new());
    });
}

#[test]
fn dark_is_dark_by_the_system_or_by_hand() {
    let server = Server::start("-np 1");
    let mut browser = visit(&server);
    let back = "getComputedStyle(document.body).backgroundColor";
    browser.prefers("light");
    let light = browser.eval(back);
    browser.prefers("dark");
    let dark = browser.eval(back);
    assert_ne!(light, dark);
    browser.screenshot("dark");
    browser.click("#theme");
    browser.click("#theme");
    assert_eq!(browser.eval(back), light, "light by hand in a dark system");
}

#[test]
fn nothing_is_cut_at_360_pixels() {
    let server = Server::start("-np 2");
    let mut browser = Browser::start();
    browser.resize(360, 740);
    browser.open(&format!("http://{}/", server.addr()));
    browser.wait("document.querySelector('#model').textContent");
    say(&mut browser, "What can you do?");
    browser.wait(ANSWERED);
    let fits = "document.documentElement.scrollWidth <= 360 && \
        [...document.querySelectorAll('header button, #send, article')].every((e) => e.getBoundingClientRect().right <= 360)";
    assert_eq!(browser.eval(fits), true);
    browser.screenshot("phone-chat");
    browser.click("#show-engine");
    browser.wait("document.querySelector('.histogram output').textContent.includes('95 %')");
    assert_eq!(browser.eval(fits), true);
    browser.screenshot("phone-engine");
    browser.click("#show-engine");
    browser.click("#show-conversations");
    browser.screenshot("phone-chats");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_conversation_is_exported_as_it_reads() {
    let server = Server::start("-np 1");
    let mut browser = visit(&server);
    let folder = browser.downloads();
    say(&mut browser, "What can you do? é/1");
    browser.wait(ANSWERED);
    let said = browser.eval("JSON.parse(localStorage.getItem('cllm.conversations'))[0].messages[1].content");
    browser.click("#list button[aria-label^='Export']");
    let file = folder.join("What-can-you-do-é-1.md");
    let expected = format!(
        "# What can you do? é/1\n\n## user\n\nWhat can you do? é/1\n\n## assistant\n\n{}\n",
        said.as_str().expect("an answer")
    );
    let started = Instant::now();
    while std::fs::read_to_string(&file).ok().as_deref() != Some(&expected) {
        let there: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|at| at.path()).collect();
        assert!(started.elapsed() < Duration::from_secs(60), "{there:?}: {:?}", std::fs::read_to_string(&file));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_system_prompt_goes_first_until_it_is_emptied() {
    let server = Server::start("-np 1");
    let mut browser = visit(&server);
    let asked = |browser: &mut Browser| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": "Yes."}}]});
        let body = format!("data: {delta}\n\ndata: [DONE]\n\n");
        browser.click("#new");
        let asked =
            browser.answer_with("/v1/chat/completions", "text/event-stream", &body, |browser| say(browser, "Hi"));
        browser.wait(ANSWERED);
        asked["messages"].clone()
    };
    let user = json!({"role": "user", "content": "Hi"});
    assert_eq!(asked(&mut browser), json!([user]));
    browser.click("#show-settings");
    browser.eval("document.querySelector('#system').focus()");
    browser.type_text("Be brief.\nBe kind.");
    browser.click("#settings .primary");
    let system = json!({"role": "system", "content": "Be brief.\nBe kind."});
    assert_eq!(asked(&mut browser), json!([system, user]));
    // The browser stores it.
    browser.open(&format!("http://{}/", server.addr()));
    browser.wait("document.querySelector('#model').textContent");
    assert_eq!(asked(&mut browser), json!([system, user]));
    browser.click("#show-settings");
    browser
        .eval("[...document.querySelectorAll('#settings button')].find((b) => b.textContent === 'Defaults').click()");
    browser.click("#settings .primary");
    assert_eq!(asked(&mut browser), json!([user]));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_keyboard_is_enough_and_never_loses_its_place() {
    let server = Server::start("-np 1");
    let mut browser = visit(&server);
    // A message and its answer, with the focus in the message's field.
    browser.type_text("What can you do?");
    browser.press("Enter");
    browser.wait(ANSWERED);
    let mut order = vec![browser.focused()];
    while order.last().is_some_and(|at| at != "Skip to the message") && order.len() < 40 {
        browser.press("Shift+Tab");
        order.push(browser.focused());
    }
    order.reverse();
    let header = ["Skip to the message", "show-settings", "theme", "show-engine"];
    let chats = ["new", "What can you do?", "Export", "Delete"];
    let chat = ["messages", "Edit", "Copy", "Regenerate", "Copy", "input"];
    assert_eq!(order, [&header[..], &chats[..], &chat[..]].concat(), "what is reached, in the order it is read");
    browser.press("Enter");
    assert_eq!(browser.focused(), "input", "the way past everything");
    browser.press("Tab");
    assert_eq!(browser.focused(), "send");
    browser.press("Shift+Tab");

    let back_to = |browser: &mut Browser, name: &str| {
        (0..40).find(|_| {
            browser.press("Shift+Tab");
            browser.focused() == name
        });
        assert_eq!(browser.focused(), name);
    };
    // When the focused element is removed, the focus moves to the element with which one continues.
    back_to(&mut browser, "Regenerate");
    browser.press("Enter");
    browser.wait("document.querySelector('article.busy') === null");
    browser.wait(ANSWERED);
    assert_eq!(browser.focused(), "input");
    back_to(&mut browser, "Edit");
    browser.press("Enter");
    assert_eq!(browser.eval("document.activeElement.value"), "What can you do?");
    browser.press("Escape");
    assert_eq!(browser.focused(), "Edit");
    back_to(&mut browser, "show-settings");
    browser.press("Enter");
    assert_eq!(browser.focused(), "system", "a dialog takes the focus");
    browser.press("Tab");
    assert_eq!(browser.focused(), "temperature");
    browser.type_text("0");
    browser.press("Enter");
    assert_eq!(browser.eval("document.querySelector('#settings').open"), false);
    assert_eq!(browser.eval("JSON.parse(localStorage.getItem('cllm.settings')).temperature"), 0);
    assert_eq!(browser.focused(), "show-settings", "and gives it back");
    browser.press("/");
    assert_eq!(browser.focused(), "input");
    browser.type_text("Hello");
    browser.press("Tab");
    browser.press("Enter");
    browser.wait("document.querySelectorAll('article.assistant footer button').length === 4");
    assert_eq!(browser.focused(), "input", "sent by its button, which gave way to Stop");
    assert_eq!(browser.complaints, Vec::<String>::new());

    // A panel over the chat takes the focus, and returns it to the button that opened it.
    browser.resize(360, 740);
    browser.eval("document.querySelector('#show-conversations').focus()");
    browser.press("Enter");
    (0..4).for_each(|_| browser.press("Tab"));
    assert_eq!(browser.focused(), "new", "hidden panels are passed over");
    browser.press("Escape");
    assert_eq!(browser.focused(), "show-conversations");
}

/// Markup, scripts and links are shown as text, Markdown is rendered.
#[test]
fn hostile_output_stays_text() {
    let server = Server::start("-np 1");
    let mut browser = visit(&server);
    let hostile = "# Title\n\n<script>window.caught = 1</script> <img src=x onerror='window.caught = 2'>\n\n\
        [a](javascript:window.caught=3) [b](data:text/html,<script>1</script>) [c](http://127.0.0.1/ok) \
        [d](JaVaScRiPt:alert(1)) **bold <b>x</b>** `<i>code</i>`\n\n```html\n<iframe src=javascript:window.caught=4>\n```\n\n\
        | <svg onload=window.caught=5> | b |\n|---|---|\n| 1 | <style>*{display:none}</style> |\n\n\
        - one\n  - two\n- three\n\n> quote\n\n</p></div><form action=/generate><input autofocus onfocus=window.caught=6>";
    let delta = json!({"choices": [{"index": 0, "delta": {"content": hostile, "reasoning_content": hostile}}]});
    let body = format!("data: {delta}\n\ndata: [DONE]\n\n");
    browser.answer_with("/v1/chat/completions", "text/event-stream", &body, |browser| say(browser, "<b>Hi</b>"));
    browser.wait(ANSWERED);
    let count = |browser: &mut Browser, selector: &str| {
        let found = browser.eval(&format!("document.querySelectorAll('article .body').values().reduce((n, body) => n + body.querySelectorAll('{selector}').length, 0)"));
        found.as_u64().unwrap()
    };
    assert_eq!(count(&mut browser, "script, img, iframe, svg, style, form, input, b, i, [onerror], [onload]"), 0);
    // Each occurs once in the answer and once in the thoughts.
    for (selector, times) in
        [("h2", 2), ("strong", 2), ("table", 2), ("ul ul", 2), ("blockquote", 2), ("figure pre code", 2), ("a", 2)]
    {
        assert_eq!(count(&mut browser, selector), times, "{selector}");
    }
    assert_eq!(browser.eval("document.querySelector('article .body a').href"), "http://127.0.0.1/ok");
    assert_eq!(browser.text("article.user .body"), "<b>Hi</b>");
    assert_eq!(browser.eval("window.caught === undefined"), true);
    browser.screenshot("hostile");
    // If a script tried to make markup from text, the policy would refuse it.
    let refused = "(() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch { return true } })()";
    assert_eq!(browser.eval(refused), true);
}

#[test]
fn the_page_asks_for_a_key_where_keys_are_on() {
    let server = Server::start("-np 1 --api-key secret");
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.wait("document.querySelector('#key').open");
    browser.screenshot("key");
    browser.type_text("wrong");
    browser.press("Enter");
    browser.wait("document.querySelector('#key').open && document.querySelector('#key-input').value === ''");
    browser.type_text("secret");
    browser.press("Enter");
    browser.wait("document.querySelector('#model').textContent === 'cllm-tiny'");
    browser.wait("document.querySelector('#verdict').textContent === 'Idle'");
    assert_eq!(browser.eval("document.querySelector('#key').open"), false);
}

#[test]
fn the_files_of_the_page_are_strict_and_the_list_stays() {
    let server = Server::start("-np 1 --api-key secret");
    let mut client = server.client();
    let mut ask = |path: &str, accept: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n");
        client.write(head.as_bytes()).unwrap();
        client.answer(false).unwrap()
    };
    for (path, kind) in [("/", "text/html"), ("/page/main.js", "text/javascript"), ("/page/style.css", "text/css")] {
        let answer = ask(path, "text/html,*/*;q=0.8");
        assert!(answer.status == 200 && answer.header("Content-Type").unwrap().starts_with(kind), "{path}");
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    }
    assert_eq!(ask("/page/none.js", "*/*").status, 404);
    assert_eq!(ask("/page/../Cargo.toml", "*/*").status, 404);
    assert_eq!(ask("/", "*/*").status, 401, "the list of routes wants a key");
}
