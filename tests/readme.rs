//! Tests README.md, its Chinese translation and docs/: runs their shell blocks, compares the answers, and looks up links
//! and names. `README_UPDATE=1 cargo test --release --test readme` rewrites answers and tables.
//!
//! In the documents: `sh` and `python` blocks are run from top to bottom in one folder, with the port replaced. The first
//! `json` block after a `sh` block is its answer (same fields, same `text`). A `console` block has commands after `$ ` and
//! their exact output. Blocks without a language and `toml` blocks are not run.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::CommandFactory;
use cllm::config::{docs, settings};
use serde_json::Value;

/// The address of the server in the documents.
const ADDRESS: &str = "127.0.0.1:8080";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The READMEs and the files in docs/.
fn documents() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).expect("docs/").map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all.sort();
    all.splice(0..0, ["README.md", "README.zh-CN.md"].map(|name| root().join(name)));
    all
}

fn updating() -> bool {
    std::env::var_os("README_UPDATE").is_some()
}

/// A fenced block.
#[derive(Debug)]
struct Block {
    lang: String,
    /// The line at which its text begins, from 1.
    line: usize,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (i, line) in document.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(lang), None) => open = Some(Block { lang: lang.to_owned(), line: i + 2, text: String::new() }),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block isn't closed");
    blocks
}

/// A temporary folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The built program, without the variables of this shell.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A running server on a free port, and a folder to run blocks in.
struct World {
    server: Child,
    address: String,
    scratch: Scratch,
}

impl World {
    fn start(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("cllm-readme-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        // Makes curl fail if a request is refused, and the block with it.
        fs::write(folder.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n").expect("a file");
        let mut server = clean(env!("CARGO_BIN_EXE_cllm"))
            .args(["serve", "--port", "0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(server.stderr.take().expect("piped"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("the log") > 0, "the server ended");
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split(['"', ' ', '\n']).next().expect("an address").to_owned();
            }
        };
        // Reads the rest of the log and drops it, so that the server never blocks on writing.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        World { server, address, scratch: Scratch(folder) }
    }

    /// Runs `text` with `program` and returns its output.
    fn run(&self, program: &str, flags: &[&str], text: &str, place: &str) -> String {
        let here = Path::new(env!("CARGO_BIN_EXE_cllm")).parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([here].into_iter().chain(std::env::split_paths(&path))).expect("a PATH");
        let output = clean(program)
            .args(flags)
            .arg(text.replace(ADDRESS, &self.address))
            .current_dir(&self.scratch.0)
            .env("PATH", path)
            .env("CURL_HOME", &self.scratch.0)
            .output()
            .expect("the shell runs");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {}\n{text}{stdout}{stderr}", output.status);
        stdout
    }

    fn shell(&self, text: &str, place: &str) -> String {
        self.run("bash", &["-euo", "pipefail", "-c"], text, place)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let here = found.is_ok_and(|status| status.success());
    if !here {
        println!("not tried: blocks that need {program}, which isn't installed");
    }
    here
}

/// The document, with the answers of `console` and `json` blocks replaced by the program's present ones.
fn played(path: &Path, world: &World) -> String {
    let (curl, python) = (installed("curl"), installed("python3"));
    let document = fs::read_to_string(path).expect("a document");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    let mut answer: Option<String> = None;
    // Blocks depend on earlier ones, so they run from top to bottom; the changes are applied from the bottom up, so that
    // lines don't move.
    let mut changes: Vec<(usize, usize, String)> = Vec::new();
    for block in blocks(&document) {
        let place = format!("{name}:{}", block.line);
        let before = answer.take();
        let now = match block.lang.as_str() {
            "sh" => {
                if curl || !block.text.contains("curl") {
                    answer = Some(world.shell(&block.text, &place));
                }
                continue;
            }
            "python" => {
                if python {
                    let said = world.run("python3", &["-c"], &block.text, &place);
                    assert!(!said.trim().is_empty(), "{place} prints nothing");
                }
                continue;
            }
            "json" => match before {
                Some(said) => answered(&block.text, &said, &place),
                None => continue,
            },
            "console" => block.text.lines().filter(|line| line.starts_with("$ ")).fold(String::new(), |all, line| {
                all + &format!("{line}\n{}", world.shell(line.trim_start_matches("$ "), &place))
            }),
            "" | "toml" | "yaml" | "vim" => continue,
            other => panic!("{place}: what is a block of {other}?"),
        };
        if now != block.text {
            changes.push((block.line - 1, block.text.lines().count(), now));
        }
    }
    for (first, count, now) in changes.into_iter().rev() {
        lines.splice(first..first + count, now.lines().map(str::to_owned));
    }
    lines.join("\n") + "\n"
}

/// The answer in the document; or the real one, if they differ in more than numbers and ids.
fn answered(shown: &str, said: &str, place: &str) -> String {
    let said: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{place}: {error}: {said}"));
    match serde_json::from_str::<Value>(shown) {
        Ok(shown_value) if alike(&shown_value, &said) => shown.to_owned(),
        _ => format!("{said:#}\n"),
    }
}

fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().eq(b.keys())
                && a.iter().all(|(key, value)| ["id", "commit"].contains(&key.as_str()) || alike(value, &b[key]))
        }
        (Value::Number(_), Value::Number(_)) => true,
        _ => a == b,
    }
}

/// Compares the document with what it should be, or writes it if `README_UPDATE` is set.
fn same(path: &Path, is: &str, should: &str) {
    if updating() {
        fs::write(path, should).expect("it can be written");
    } else if is != should {
        let differ = is.lines().zip(should.lines()).enumerate().find(|(_, (is, should))| is != should);
        let (line, (is, should)) = differ.map_or((0, ("", "")), |(i, lines)| (i + 1, lines));
        panic!(
            "{}:{line} says\n{is}\nbut it should be\n{should}\nREADME_UPDATE=1 cargo test --release --test readme puts it right",
            path.display()
        );
    }
}

#[test]
fn what_the_documents_show_is_what_happens() {
    for (i, path) in documents().iter().enumerate() {
        let world = World::start(&i.to_string());
        same(path, &fs::read_to_string(path).expect("a document"), &played(path, &world));
    }
}

/// The name that a heading has in links, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for path in documents().into_iter().chain([root().join("ARCHITECTURE.md")]) {
        let text = fs::read_to_string(&path).expect("a document");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            if file.starts_with("http") {
                continue;
            }
            let leads_to = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(leads_to.exists(), "{}: {target}", path.display());
            if !place.is_empty() {
                let headings = sections(&fs::read_to_string(&leads_to).expect("a document"));
                let found = headings.iter().any(|section| anchor(section.lines().next().unwrap_or_default()) == place);
                assert!(found, "{}: {target} leads to no heading", path.display());
            }
        }
    }
}

/// A document without its fenced blocks and its HTML comments.
fn prose(document: &str) -> String {
    let mut fenced = false;
    let lines = document.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fence && !fenced && !line.starts_with("<!--")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A document from each heading to the next; blocks may have lines that begin with `#`.
fn sections(document: &str) -> Vec<String> {
    let (mut sections, mut fenced): (Vec<String>, bool) = (Vec::new(), false);
    for line in document.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            *section += &format!("{line}\n");
        }
    }
    sections
}

/// What a section says in every language.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// Signs `#` before the heading.
    level: usize,
    /// Languages and texts of blocks, without the comments behind commands.
    blocks: Vec<(String, String)>,
    /// What stands in backquotes, sorted.
    names: Vec<String>,
    /// Where links and pictures lead, sorted, without those to the other language.
    links: Vec<String>,
    /// Numbers written in digits, sorted.
    figures: Vec<String>,
}

fn facts(section: &str) -> Facts {
    let without_comment = |line: &str| line.split("  #").next().unwrap_or(line).trim_end().to_owned();
    let text_of = |block: &Block| block.text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let blocks = blocks(section).iter().map(|block| (block.lang.clone(), text_of(block))).collect();
    let prose = prose(section);
    let mut names: Vec<String> = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let unquoted = prose.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let target = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
    let mut links: Vec<String> = unquoted.split("](").skip(1).map(target).collect();
    links.retain(|link| !link.starts_with("README"));
    let mut shown = unquoted.clone();
    for link in &links {
        shown = shown.replace(link.as_str(), "");
    }
    let mut figures: Vec<String> = shown
        .split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')
        .map(|number| number.trim_matches(['.', ',']).to_owned())
        .filter(|number| !number.is_empty())
        .collect();
    names.sort();
    links.sort();
    figures.sort();
    Facts { level: section.chars().take_while(|c| *c == '#').count(), blocks, names, links, figures }
}

#[test]
fn the_readme_says_the_same_in_both_languages() {
    let read = |name: &str| sections(&fs::read_to_string(root().join(name)).expect("a README"));
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert!(english.len() >= 8, "{} headings", english.len());
    assert_eq!(english.len(), chinese.len(), "headings");
    for (english, chinese) in english.iter().zip(&chinese) {
        let heading = |section: &str| section.lines().next().unwrap_or_default().to_owned();
        assert_eq!(facts(english), facts(chinese), "{} and {}", heading(english), heading(chinese));
    }
}

/// At 180 words a minute. Blocks, tables and addresses are not read aloud.
#[test]
fn the_readme_is_read_aloud_in_five_minutes() {
    let text = prose(&fs::read_to_string(root().join("README.md")).expect("README.md"));
    let spoken = text.lines().filter(|line| !line.starts_with('|')).collect::<Vec<_>>().join("\n");
    // What stands between `](` and `)` is an address.
    let mut parts = spoken.split("](");
    let mut words = parts.next().unwrap_or_default().split_whitespace().count();
    for part in parts {
        words += part.split_once(')').map_or(part, |(_, shown)| shown).split_whitespace().count();
    }
    println!("README.md: {words} words");
    assert!((600..=900).contains(&words), "{words} words");
}

#[test]
fn every_name_is_known() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        for target in words_after(&text, "\nmake ").into_iter().chain(words_after(&text, "`make ")) {
            assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", path.display());
        }
        for bench in words_after(&text, "--bench ") {
            let here = root().join(format!("benches/{bench}.rs")).exists();
            assert!(here, "{}: no bench {bench}", path.display());
        }
        for flag in words_after(&text, "`--") {
            let mut abouts = settings::all().map(|setting| setting.about());
            let is_setting = abouts.any(|about| about.key == flag || about.aliases.contains(&flag.as_str()));
            let own = flag == "help" || takes(&cllm::cli::Cli::command(), &flag);
            let cargos = flag == "no-default-features";
            assert!(is_setting || own || cargos, "{}: --{flag}", path.display());
        }
    }
}

/// Whether `command` or one of its subcommands has this long flag.
fn takes(command: &clap::Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(flag))
        || command.get_subcommands().any(|below| takes(below, flag))
}

fn words_after(text: &str, start: &str) -> Vec<String> {
    text.split(start).skip(1).map(word).filter(|word| !word.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').collect()
}

/// `GET /` and docs/http.md list the same routes, and the README names no other.
#[test]
fn the_routes_are_the_servers() {
    if !installed("curl") {
        return;
    }
    let world = World::start("routes");
    let index = world.shell(&format!("curl http://{ADDRESS}/"), "GET /");
    let routes: Vec<String> = index
        .lines()
        .filter(|line| line.starts_with("GET ") || line.starts_with("POST "))
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert!(routes.len() > 5, "{index}");
    let http = fs::read_to_string(root().join("docs/http.md")).expect("docs/http.md");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    for route in &routes {
        assert!(readme.contains(&format!("`{route}`")), "README.md misses {route}");
        assert!(
            http.contains(&format!("## {route}\n")) || http.contains(&format!("`{route}`")),
            "docs/http.md misses {route}"
        );
    }
    let metrics = world.shell(&format!("curl http://{ADDRESS}/metrics"), "GET /metrics");
    let served: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for name in served.iter().filter_map(|line| line.split(' ').next()) {
        assert!(http.contains(&format!("`{name}`")), "docs/http.md misses the metric {name}");
    }
    // Refusals are counted by their code; `other` takes the rest.
    let codes: BTreeSet<&str> = words_in_quotes(&metrics, "cllm_requests_rejected_total{code=\"");
    assert!(codes.len() > 10, "{codes:?}");
    for code in codes.into_iter().filter(|code| *code != "other") {
        let in_table = |line: &str| {
            line.starts_with("| ") && line.split(" | ").nth(1).is_some_and(|cell| cell.contains(&format!("`{code}`")))
        };
        assert!(http.lines().any(in_table), "the tables of docs/http.md miss the error {code}");
    }
}

/// What stands behind `start` up to the next quotation mark, each once.
fn words_in_quotes<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c: char| !in_name(c)).filter(|word| word.starts_with("cllm_") || word.starts_with("vllm:")).collect()
}

/// The dashboard and the alerts use metrics that exist, in queries that Prometheus can parse.
#[test]
fn the_dashboard_and_the_alerts_fit_the_metrics() {
    let world = World::start("watching");
    world.shell(&format!("curl http://{ADDRESS}/generate -d '{{\"prompt\": \"Hi\", \"max_tokens\": 2}}'"), "a step");
    let served = world.shell(&format!("curl http://{ADDRESS}/metrics"), "GET /metrics");
    let served: BTreeSet<&str> = served.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let alerts = fs::read_to_string(root().join("docs/prometheus-alerts.yml")).expect("the alerts");
    let dashboard = fs::read_to_string(root().join("docs/grafana-dashboard.json")).expect("the dashboard");
    for (text, least) in [(&alerts, 8), (&dashboard, 20)] {
        let named = metrics_in(text);
        assert!(named.len() >= least, "{named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !served.contains(**name)).collect();
        assert!(missing.is_empty(), "no such metrics: {missing:?}");
    }
    // Each query of the dashboard becomes a rule, so that Prometheus parses it, too.
    let parsed: Value = serde_json::from_str(&dashboard).expect("JSON");
    let targets = parsed["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().expect("a query"));
    let mut rules = "groups: [{name: dashboard, rules: [".to_owned();
    for (i, query) in queries.enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        rules += &format!("{{record: 'panel{i}', expr: {}}},", Value::from(query));
    }
    fs::write(world.scratch.0.join("dashboard.yml"), rules + "]}]").expect("a file");
    fs::write(world.scratch.0.join("alerts.yml"), &alerts).expect("a file");
    let missing = "promtool is missing (Debian: apt-get install prometheus)";
    let said = world.shell(&format!("command -v promtool >/dev/null || {{ echo '{missing}' >&2; exit 1; }}\npromtool check rules alerts.yml dashboard.yml"), "promtool");
    assert_eq!(said.matches("SUCCESS").count(), 2, "{said}");
    println!("{said}");
}

/// The tables of docs/configuration.md are equal to the program's.
#[test]
fn the_settings_are_the_programs() {
    const START: &str = "<!-- tables: written by tests/readme.rs -->\n";
    const END: &str = "<!-- end of tables -->";
    let path = root().join("docs/configuration.md");
    let is = fs::read_to_string(&path).expect("docs/configuration.md");
    let (before, rest) = is.split_once(START).expect("the mark before the tables");
    let (_, after) = rest.split_once(END).expect("the mark behind the tables");
    same(&path, &is, &format!("{before}{START}{}\n{END}{after}", docs::tables()));
}
