//! The tables of docs/configuration.md, made from the definitions. `tests/readme.rs` holds the document to them.

use super::definition::{About, Definition, Usual};
use super::settings;

/// All tables, a heading above each: flags, accepted values, default and help.
pub fn tables() -> String {
    let mut text = String::new();
    let mut heading = "";
    for setting in settings::all() {
        if setting.about().heading != heading {
            heading = setting.about().heading;
            text += &format!("\n### {heading}\n\n| flag | accepts | default | |\n|---|---|---|---|\n");
        }
        text += &row(setting);
    }
    text
}

fn row(setting: &dyn Definition) -> String {
    let About { key, short, two_letters, aliases, help, .. } = setting.about();
    let mut flags: Vec<String> = short.iter().map(|short| format!("`-{short}`")).collect();
    flags.extend(two_letters.iter().map(|two| format!("`{two}`")));
    flags.extend([key].into_iter().chain(*aliases).map(|long| format!("`--{long}`")));
    let Usual { value, rule, does } = setting.usual();
    let default = match value {
        Some(value) if rule.is_empty() => format!("`{}`", value.trim_matches('"')),
        Some(value) => format!("`{}`: {rule}", value.trim_matches('"')),
        None => does.to_owned(),
    };
    format!("| {} | {} | {default} | {} |\n", flags.join(" "), setting.accepts(), capitalised(help))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
}
