//! The cache that Hugging Face's tools share, and the variables that say where it is:
//!
//! ```text
//! models--ORG--NAME/refs/main             the commit of the branch when it was last asked
//! models--ORG--NAME/snapshots/COMMIT/FILE -> ../../blobs/ETAG
//! models--ORG--NAME/blobs/ETAG            a file's content, named by its SHA-256
//! models--ORG--NAME/blobs/ETAG.part       an unfinished download; its process holds a lock on ETAG.lock (hf-hub's names)
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::choose::choose;
use crate::types::hub::Which;

/// The hub's address if `HF_ENDPOINT` isn't set.
const ENDPOINT: &str = "https://huggingface.co";
/// Files are fetched from this branch.
const BRANCH: &str = "main";

/// The values of the environment variables.
pub(super) struct HubSettings {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The access token; `None`: requests are anonymous.
    pub token: Option<AccessToken>,
    /// Whether `HF_HUB_OFFLINE` forbids requests to the hub.
    pub is_offline: bool,
    /// A PEM file of certificate authorities, used instead of Mozilla's.
    pub authorities: Option<PathBuf>,
    cache: Cache,
}

/// An access token, and the variable or file that it was read from.
pub(super) struct AccessToken {
    /// The token itself, a secret.
    pub secret: String,
    /// The variable or the file's path.
    pub origin: String,
}

impl HubSettings {
    /// Reads the environment variables.
    ///
    /// # Errors
    /// The cache's folder is unknown, or a variable has an invalid value.
    pub fn from_env() -> Result<HubSettings, String> {
        HubSettings::from_vars(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<HubSettings, String> {
        let path = |name: &str| var(name).map(PathBuf::from);
        let home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(path("HOME")?.join(".cache/huggingface")));
        let hub = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let hub = hub.or_else(|| Some(home.as_ref()?.join("hub")));
        let hub = hub.ok_or("no folder for the cache: neither HF_HOME nor HOME is set")?;
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(format!("HF_ENDPOINT: {endpoint:?} doesn't begin with https:// or http://"));
        }
        let is_on = |text: String| ["1", "on", "yes", "true"].contains(&text.trim().to_ascii_lowercase().as_str());
        Ok(HubSettings {
            endpoint,
            token: token(&var, home.as_deref())?,
            is_offline: var("HF_HUB_OFFLINE").is_some_and(is_on),
            authorities: path("SSL_CERT_FILE"),
            cache: Cache::new(hub),
        })
    }

    /// The part of the cache for the repository `name`.
    pub fn repo(&self, name: &str) -> CachedRepo {
        let repo = Repo::model(name.to_owned());
        let folder = self.cache.path().join(repo.folder_name());
        CachedRepo { inner: self.cache.repo(repo), folder }
    }
}

/// The token in the variable, otherwise the one in the file that `hf auth login` writes.
fn token(var: &impl Fn(&str) -> Option<String>, home: Option<&Path>) -> Result<Option<AccessToken>, String> {
    let variable =
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| Some(((*name).to_owned(), var(name)?)));
    let file = || {
        let path = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")))?;
        Some((path.display().to_string(), fs::read_to_string(path).ok()?))
    };
    let Some((origin, text)) = variable.or_else(file) else { return Ok(None) };
    let secret = text.trim().to_owned();
    if secret.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(format!("{origin} holds no token"));
    }
    Ok((!secret.is_empty()).then_some(AccessToken { secret, origin }))
}

/// The part of the cache that belongs to one repository.
pub(super) struct CachedRepo {
    inner: CacheRepo,
    folder: PathBuf,
}

impl CachedRepo {
    /// The folder of this repository in the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of `BLOB`, `BLOB.part` or `BLOB.lock`.
    pub fn blob(&self, etag: &str, suffix: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}{suffix}"))
    }

    /// The path of a file in the snapshot of `commit`, whether or not it exists.
    pub fn path(&self, commit: &str, file: &str) -> PathBuf {
        self.inner.pointer_path(commit).join(file)
    }

    /// The first file of the model, if all its files are in the cache. Looks in the commit that the branch had when the hub
    /// was last asked.
    pub fn find(&self, which: &Which) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.folder.join("refs").join(BRANCH)).ok()?;
        let commit = Some(commit.trim()).filter(|commit| is_hex(commit, &[40]))?;
        let mut names = Vec::new();
        list(&self.inner.pointer_path(commit), "", &mut names);
        Some(self.path(commit, choose(&names, which)?.first()?))
    }

    /// Links the blob into the snapshot of `commit` as `file`.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> io::Result<()> {
        let pointer = self.path(commit, file);
        if pointer.exists() {
            return Ok(());
        }
        fs::create_dir_all(pointer.parent().unwrap_or(&pointer))?;
        // Removes a link to a blob that has been deleted.
        let _ = fs::remove_file(&pointer);
        let up = "../".repeat(file.split('/').count() + 1);
        match symlink(format!("{up}blobs/{etag}"), &pointer) {
            Err(_) if pointer.exists() => Ok(()),
            // On a file system without links, the snapshot holds the file itself, as with Hugging Face's tools.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                fs::rename(self.blob(etag, ""), &pointer)
            }
            linked => linked,
        }
    }

    /// Records that the branch is at `commit`, for later look-ups that don't ask the hub.
    pub fn point_at(&self, commit: &str) -> io::Result<()> {
        self.inner.create_ref(commit)
    }
}

/// Adds the files below `folder` to `names`, each with its path from there. Links to missing files are left out.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(own) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{own}");
        match fs::metadata(entry.path()) {
            // Folders behind links are skipped, because links can form a circle.
            Ok(_) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                list(&entry.path(), &format!("{name}/"), names);
            }
            Ok(about) if about.is_file() => names.push(name),
            _ => {}
        }
    }
}

/// Whether `text` consists of hexadecimal digits, and their number is one of `digits`. Such a text is safe as a file's
/// name.
pub(super) fn is_hex(text: &str, digits: &[usize]) -> bool {
    digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<HubSettings, String> {
        HubSettings::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_cache_is_where_the_other_tools_have_it() {
        let at = |vars: &[(&str, &str)]| settings(vars).unwrap().repo("a/b").folder().display().to_string();
        assert_eq!(at(&[("HOME", "/h")]), "/h/.cache/huggingface/hub/models--a--b");
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub/models--a--b");
        assert_eq!(at(&[("HOME", "/h"), ("HF_HOME", "/f")]), "/f/hub/models--a--b");
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]), "/c/models--a--b");
        assert_eq!(at(&[("HUGGINGFACE_HUB_CACHE", "/o")]), "/o/models--a--b");
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn the_other_variables_mean_what_they_mean_elsewhere() {
        let home = ("HOME", "/h");
        assert_eq!(settings(&[home]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(settings(&[home, ("HF_ENDPOINT", "http://mirror/hf/")]).unwrap().endpoint, "http://mirror/hf");
        assert!(settings(&[home, ("HF_ENDPOINT", "mirror")]).is_err());
        let offline = |value| settings(&[home, ("HF_HUB_OFFLINE", value)]).unwrap().is_offline;
        assert!(offline("1") && offline("True") && !offline("0") && !settings(&[home]).unwrap().is_offline);
        let token = |vars: &[(&str, &str)]| settings(vars).unwrap().token.map(|token| (token.origin, token.secret));
        let said = token(&[home, ("HF_TOKEN", " hf_x\n"), ("HUGGING_FACE_HUB_TOKEN", "hf_y")]);
        assert_eq!(said, Some(("HF_TOKEN".to_owned(), "hf_x".to_owned())));
        assert_eq!(token(&[home]), None);
        assert!(settings(&[home, ("HF_TOKEN", "two words")]).is_err_and(|line| !line.contains("words")));
    }
}
