//! What files name: nothing of one machine, and no file that does not exist; and what is checked in can be read.

use std::fs;

use super::source::{Source, complaints, files, hold, root, src};

/// Folders of one machine, and where crates were fetched from. In any file, comments included.
fn no_machine(source: &Source) -> Vec<String> {
    // The built-in model's lessons name made-up folders as examples.
    if source.path == "vendor/model/generate.py" {
        return Vec::new();
    }
    // Put together here, so that this file may be checked too.
    let needles = [
        ["/ho", "me/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/Us", "ers/"].concat(),
        [".cargo/reg", "istry"].concat(),
        ["index.crates", ".io"].concat(),
    ];
    let lines = source.text.lines().enumerate();
    let hits = lines.filter_map(|(n, line)| Some((n, needles.iter().find(|needle| line.contains(needle.as_str()))?)));
    hits.map(|(n, needle)| source.complaint(n, format!("names a place on one machine: {needle}"))).collect()
}

/// Files that documents and comments name in backquotes, from the top of the project or from their own folder on, and that are
/// not there. A source's name alone, such as `plan.rs`, may stand for a file in any folder.
fn names_what_exists(source: &Source) -> Vec<String> {
    const TOPS: [&str; 5] = ["src/", "tests/", "benches/", "docs/", "vendor/"];
    let mut complaints = Vec::new();
    for (n, line) in source.text.lines().enumerate() {
        let is_path = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let beside = root().join(&source.path).with_file_name("");
        let is_there = |name: &str| match TOPS.iter().any(|top| name.starts_with(top)) {
            true => root().join(name).exists() || beside.join(name).exists(),
            false => !is_source(name) || source_names().iter().any(|known| known.ends_with(&format!("/{name}"))),
        };
        for name in line.split('`').skip(1).step_by(2).filter(is_path).filter(|name| !is_there(name)) {
            complaints.push(source.complaint(n, format!("names {name}, which does not exist")));
        }
    }
    complaints
}

const SOURCES: [&str; 5] = [".rs", ".py", ".js", ".cpp", ".sh"];

/// Whether a word is a source's name. `llama.cpp` is a project's.
fn is_source(name: &str) -> bool {
    name != "llama.cpp" && SOURCES.iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

/// The paths of all sources, each with a slash before it.
fn source_names() -> &'static [String] {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| files(&root(), &SOURCES).into_iter().map(|source| format!("/{}", source.path)).collect())
}

/// Checked-in files that aren't text: the built-in model, and what `make pictures` draws.
const BINARIES: &[&str] = &["vendor/model/cllm-tiny.gguf", "docs/pictures/page.png", "docs/pictures/waterfall.png"];

/// What somebody built doesn't belong here: everything that git keeps can be read, the model and the pictures aside.
#[test]
fn what_is_checked_in_can_be_read() {
    // An archive of the sources has no list to look at.
    if !root().join(".git").exists() {
        return;
    }
    let output = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let list = String::from_utf8(output.expect("git runs").stdout).expect("names are UTF-8");
    let names: Vec<&str> = list.split('\0').filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 100, "{names:?}");
    let is_text = |name: &str| fs::read(root().join(name)).is_ok_and(|content| String::from_utf8(content).is_ok());
    // A file that was removed and not yet committed is no complaint.
    let unread = |name: &&&str| root().join(name).exists() && !BINARIES.contains(*name) && !is_text(name);
    let complaints: Vec<&&str> = names.iter().filter(unread).collect();
    assert!(complaints.is_empty(), "not text: {complaints:?}");
    let built: Vec<&&str> =
        names.iter().filter(|name| name.contains("/release/") || name.ends_with("CACHEDIR.TAG")).collect();
    assert!(built.is_empty(), "build output: {built:?}");
}

#[test]
fn no_file_knows_a_machine() {
    let ends = [".rs", ".toml", ".md", ".cpp", ".h", ".sh", ".py", ".yml", "Makefile", "Dockerfile"];
    hold(no_machine, &files(&root(), &ends));
    for folder in [".cargo", ".ci"] {
        hold(no_machine, &files(&root().join(folder), &[""]));
    }
}

#[test]
fn what_documents_and_comments_name_exists() {
    hold(names_what_exists, &files(&root(), &[".md"]));
    hold(names_what_exists, &src());
}

#[test]
fn about_machines() {
    let path = ["// see /ho", "me/someone/notes"].concat();
    assert_eq!(complaints(no_machine, "Makefile", &path), 1);
    assert_eq!(complaints(no_machine, "Makefile", "# see docs/notes"), 0);
}

#[test]
fn about_names_of_files() {
    assert_eq!(complaints(names_what_exists, "docs/http.md", "see `src/http` and `src/nowhere.rs`, `src/`"), 1);
    assert_eq!(complaints(names_what_exists, "docs/http.md", "`GET /page`, `src/{a,b}.rs`, src/nowhere.rs"), 0);
    assert_eq!(complaints(names_what_exists, "docs/http.md", "`plan.rs`, `engine/plan.rs`, `llama.cpp`, `.js`"), 0);
    assert_eq!(complaints(names_what_exists, "docs/http.md", "`plans.rs` and `http/plan.rs`"), 2);
}
