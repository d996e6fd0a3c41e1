//! The map of ARCHITECTURE.md and that of `src/lib.rs` have every room.

use std::fs;

use super::rooms::ARROWS;
use super::source::root;

/// The rooms that the map of ARCHITECTURE.md shows, from top to bottom.
fn mapped(architecture: &str) -> Vec<String> {
    let map = architecture.split("\n## ").find(|section| section.starts_with("The map")).unwrap_or_default();
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `src/"));
    let cells = rows.map(|row| row.split('|').next().unwrap_or_default());
    let names = cells.flat_map(|cell| cell.split("`src/").filter_map(|rest| rest.split('`').next()));
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

/// Rooms that the map lacks, rooms that it only has itself, and rooms that stand above one that names them.
fn map_complaints(mapped: &[String], rooms: &[String]) -> Vec<String> {
    let place = |room: &str| mapped.iter().position(|shown| shown == room);
    let mut complaints: Vec<String> =
        rooms.iter().filter(|room| place(room).is_none()).map(|room| format!("the map lacks {room}")).collect();
    complaints.extend(mapped.iter().filter(|room| !rooms.contains(room)).map(|room| format!("no room is {room}")));
    for (room, below) in ARROWS {
        for named in below.iter().filter(|named| place(named) <= place(room)) {
            complaints.push(format!("the map has {named} above {room}, which names it"));
        }
    }
    complaints
}

/// The folders and files directly under src/, without the two that are no rooms.
fn rooms() -> Vec<String> {
    let entries = fs::read_dir(root().join("src")).expect("src/");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let names = names.map(|name| name.trim_end_matches(".rs").to_owned());
    names.filter(|name| name != "main" && name != "lib").collect()
}

#[test]
fn the_map_shows_each_room_above_those_that_it_names() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let complaints = map_complaints(&mapped(&architecture), &rooms());
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_crates_own_map_names_each_room() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let prose: String = lib.lines().filter(|line| line.starts_with("//!")).collect();
    let words: Vec<&str> = prose.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<String> = rooms().into_iter().filter(|room| !words.contains(&room.as_str())).collect();
    assert!(missing.is_empty(), "src/lib.rs does not name {missing:?}");
}

#[test]
fn about_the_map() {
    let map = "# A\n\n## The map\n\n| room | |\n|---|---|\n| `src/cli` | `src/x` |\n| `src/a`, `src/b.rs` | |\n\n## On\n| `src/c` |";
    assert_eq!(mapped(map), ["cli", "a", "b"]);
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut shown = mapped(&fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    shown.reverse();
    let complaints = map_complaints(&shown, &rooms());
    assert!(complaints.contains(&"the map has types above http, which names it".to_owned()), "{complaints:?}");
    let complaints = map_complaints(&names(&["attic"]), &names(&["cellar"]));
    assert_eq!(complaints[..2], ["the map lacks cellar", "no room is attic"]);
}
