//! Sizes in bytes as people write them: `512MB`, `2GiB`, `1.5G`, `4096`; and a folder with a size, `DIR:SIZE`. Pure.

use std::path::PathBuf;

/// Values of a size or a folder that mean that there is none.
pub const OFF: [&str; 3] = ["off", "none", "0"];

/// The units, by their lower-case names: powers of 1,000 as disks are sold, and of 1,024 with an i or alone, as systemd has them.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

/// The number of bytes that `text` names; `None`: it is no size.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim())?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let part: f64 = number.parse().ok()?;
    let bytes = part * unit as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The folder and the size of `DIR[:SIZE]`. A colon that no number follows is part of the folder's name.
///
/// # Errors
/// Why it names no folder or no size.
pub fn parse_folder(text: &str, default: u64) -> Result<(PathBuf, u64), String> {
    let (folder, size) = match text.rsplit_once(':') {
        Some((folder, size)) if size.starts_with(|c: char| c.is_ascii_digit()) => {
            (folder, parse(size).ok_or_else(|| format!("{size:?} isn't a size like 512MB or 20GB"))?)
        }
        _ => (text, default),
    };
    if folder.is_empty() {
        return Err("needs a folder: DIR or DIR:SIZE".to_owned());
    }
    Ok((PathBuf::from(folder), size))
}

/// Bytes in words, for people: `1.5 GiB`.
pub fn words(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{:.1} {name}", bytes as f64 / f64::from(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4_096),
            ("512MB", 512_000_000),
            ("2GB", 2_000_000_000),
            ("2 GiB", 2 << 30),
            ("1.5g", 3 << 29),
            ("1k", 1_024),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "2XB", "1.2.3", "99999999999TB", "2 G B", "."] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(
            (words(1 << 29), words(3 << 29), words(4_096)),
            ("512.0 MiB".into(), "1.5 GiB".into(), "4.0 KiB".into())
        );
    }

    #[test]
    fn a_folder_may_name_its_size() {
        let folder = |text| parse_folder(text, 7);
        assert_eq!(folder("/a/b"), Ok(("/a/b".into(), 7)));
        assert_eq!(folder("/a/b:2GB"), Ok(("/a/b".into(), 2_000_000_000)));
        assert_eq!(folder("/a:b"), Ok(("/a:b".into(), 7)));
        assert!(folder("/a:2XB").is_err_and(|error| error.contains("2XB")));
        assert!(folder(":2GB").is_err());
    }
}
