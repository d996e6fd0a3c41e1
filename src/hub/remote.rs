//! Requests to the hub: the list of a repository's files, and the bytes of a file from an offset on.
//!
//! The token is sent only to the hub. The hub redirects requests for large files to other hosts, and ureq drops the token's
//! header on the way. No request waits without end: a connection that sends nothing for `HUB_SILENCE_S_MAX` seconds counts
//! as lost.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::cache::{AccessToken, HubSettings, is_hex};
use crate::types::hub::is_file;
use crate::types::limits::{HUB_ANSWER_BYTES_MAX, HUB_CONNECT_S_MAX, HUB_SILENCE_S_MAX};

/// Characters that are not percent-encoded in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of the hub.
pub(super) struct Remote<'a> {
    agent: Agent,
    endpoint: &'a str,
    token: Option<&'a AccessToken>,
}

/// The files of a repository at one commit.
pub(super) struct Listing {
    /// The commit's hash, hexadecimal.
    pub commit: String,
    /// The files of the repository at this commit.
    pub files: Vec<RemoteFile>,
}

/// One file as the hub describes it.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    /// The file's path in the repository.
    pub name: String,
    /// The file's size.
    pub bytes: u64,
    /// The file's name among the blobs: its SHA-256, or git's own hash if the file is small and stored in git.
    pub etag: String,
    /// The SHA-256 of the file's content, hexadecimal; `None`: the hub doesn't tell it.
    pub sha256: Option<String>,
}

/// Why a request failed.
pub(super) enum HubFailure {
    /// The connection broke, or the server has a temporary problem: another attempt may succeed.
    Lost(String),
    /// Another attempt would fail in the same way.
    Refused(String),
}

impl HubFailure {
    /// The reason in words.
    pub fn reason(self) -> String {
        match self {
            HubFailure::Lost(reason) | HubFailure::Refused(reason) => reason,
        }
    }
}

/// A response with the bytes of a file from `from` on.
pub(super) struct FileResponse {
    /// The offset of the response's first byte in the file.
    pub from: u64,
    /// The bytes.
    pub body: Box<dyn Read>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

impl<'a> Remote<'a> {
    /// Makes a client.
    ///
    /// # Errors
    /// The file of certificate authorities can't be used.
    pub fn new(settings: &'a HubSettings) -> Result<Remote<'a>, String> {
        let authorities = settings.authorities.as_deref().map(authorities).transpose()?;
        let seconds = |s| Some(Duration::from_secs(s));
        let config = Agent::config_builder()
            .user_agent(concat!("cllm/", env!("CARGO_PKG_VERSION")))
            // A compressed response could not be continued at an offset of the file.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(seconds(HUB_CONNECT_S_MAX))
            .timeout_recv_response(seconds(HUB_SILENCE_S_MAX))
            .timeout_per_read(seconds(HUB_SILENCE_S_MAX))
            .tls_config(TlsConfig::builder().root_certs(authorities.unwrap_or(RootCerts::WebPki)).build());
        Ok(Remote { agent: config.build().into(), endpoint: &settings.endpoint, token: settings.token.as_ref() })
    }

    /// The hub's address, for messages.
    pub fn endpoint(&self) -> &str {
        self.endpoint
    }

    /// The files on the branch `main` of `repo`.
    pub fn list(&self, repo: &str) -> Result<Listing, HubFailure> {
        let url = format!("{}/api/models/{repo}/revision/main?blobs=true", self.endpoint);
        let mut answer = self.get(&url, None)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(&answer, repo));
        }
        let text = answer.body_mut().with_config().limit(HUB_ANSWER_BYTES_MAX).read_to_vec();
        let text = text.map_err(|error| HubFailure::Lost(reason(&error)))?;
        let odd = |what: &str| HubFailure::Refused(format!("{} answers oddly: {what}", self.endpoint));
        let info: Info = serde_json::from_slice(&text).map_err(|error| odd(&error.to_string()))?;
        if !is_hex(&info.sha, &[40]) {
            return Err(odd("its commit is no hash"));
        }
        // Names and hashes become paths. Entries in which they are not valid are skipped.
        let files = info.siblings.into_iter().filter(|file| is_file(&file.rfilename)).filter_map(described);
        Ok(Listing { commit: info.sha, files: files.collect() })
    }

    /// Requests a file of a commit from the offset `from` on. If the server can't do that, the response begins at 0.
    pub fn open(&self, repo: &str, commit: &str, file: &RemoteFile, from: u64) -> Result<FileResponse, HubFailure> {
        let name = utf8_percent_encode(&file.name, PATH);
        let url = format!("{}/{repo}/resolve/{commit}/{name}", self.endpoint);
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.get(&url, range.as_deref())?;
        let from = match answer.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if range_of(answer.headers()) == Some((from, file.bytes)) => from,
            StatusCode::PARTIAL_CONTENT => {
                return Err(HubFailure::Refused(format!(
                    "{} sends another part of the file than was requested",
                    self.endpoint
                )));
            }
            _ => return Err(self.refusal(&answer, repo)),
        };
        Ok(FileResponse { from, body: Box::new(answer.into_body().into_reader()) })
    }

    fn get(&self, url: &str, range: Option<&str>) -> Result<Response<Body>, HubFailure> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.token {
            request = request.header("Authorization", format!("Bearer {}", token.secret));
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        request.call().map_err(|error| {
            let reason = format!("can't reach {}: {}", self.endpoint, reason(&error));
            match error {
                ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_) => HubFailure::Lost(reason),
                _ => HubFailure::Refused(reason),
            }
        })
    }

    /// The error for a response's status.
    fn refusal(&self, answer: &Response<Body>, repo: &str) -> HubFailure {
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, code) = (answer.status().as_u16(), header("x-error-code"));
        let wants_a_token = match self.token {
            Some(token) => format!("the token in {} has no access to it", token.origin),
            None => "HF_TOKEN is not set".to_owned(),
        };
        let is_bad_token = header("x-error-message").starts_with("Invalid credentials");
        HubFailure::Refused(match (status, code, self.token) {
            (401, _, Some(token)) if is_bad_token => {
                format!("{} doesn't know the token in {}", self.endpoint, token.origin)
            }
            (401 | 403, "GatedRepo", _) => {
                format!("is gated: accept its terms at {}/{repo} first ({wants_a_token})", self.endpoint)
            }
            (401 | 404, "RepoNotFound" | "", _) => format!("no such repository, or a private one ({wants_a_token})"),
            (401 | 403, _, _) => format!("{} refuses, status {status} ({wants_a_token})", self.endpoint),
            (404, _, _) => format!("{} has no branch `main` of it, or the file no more", self.endpoint),
            (429, _, _) => format!("{} says that it was asked too often; try again later", self.endpoint),
            (408 | 500..=599, _, _) => {
                return HubFailure::Lost(format!("{} answers with status {status}", self.endpoint));
            }
            _ => format!("{} answers with status {status}", self.endpoint),
        })
    }
}

fn described(file: Sibling) -> Option<RemoteFile> {
    let sha256 = file.lfs.as_ref().map(|lfs| lfs.sha256.to_ascii_lowercase());
    let etag = sha256.clone().or(file.blob_id).filter(|etag| is_hex(etag, &[40, 64]))?;
    let bytes = file.lfs.and_then(|lfs| lfs.size).or(file.size)?;
    Some(RemoteFile { name: file.rfilename, bytes, sha256: (etag.len() == 64).then(|| etag.clone()), etag })
}

/// The start of the part and the length of the whole file in a header such as `bytes 100-199/200`.
fn range_of(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, whole) = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, whole.parse().ok()?))
}

/// ureq's reason for a failed request or a failed read, in words.
pub(super) fn reason(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    if ["timeout: per read", "timeout: receive response"].contains(&text.as_str()) {
        return format!("no data for {HUB_SILENCE_S_MAX} s");
    }
    text.strip_prefix("io: ").unwrap_or(&text).to_owned()
}

fn authorities(path: &Path) -> Result<RootCerts, String> {
    let refuse = |reason: String| format!("SSL_CERT_FILE: {}: {reason}", path.display());
    let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(refuse("holds no PEM certificate".to_owned()));
    }
    Ok(certificates.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_where_it_begins() {
        let of =
            |text: &str| range_of(&HeaderMap::from_iter([("content-range".parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(of("bytes 100-199/200"), Some((100, 200)));
        assert_eq!((of("bytes */200"), of("bytes 1-2/*"), of("")), (None, None, None));
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        let described = |text: &str| described(serde_json::from_str(text).unwrap()).map(|file| (file.etag, file.bytes));
        let (sha256, sha1) = ("a".repeat(64), "b".repeat(40));
        let lfs = format!(r#"{{"rfilename":"x","size":7,"blobId":"{sha1}","lfs":{{"sha256":"{sha256}","size":7}}}}"#);
        assert_eq!(described(&lfs), Some((sha256, 7)));
        assert_eq!(described(&format!(r#"{{"rfilename":"x","size":7,"blobId":"{sha1}"}}"#)), Some((sha1, 7)));
        assert_eq!(described(r#"{"rfilename":"x","size":7,"blobId":"../../x"}"#), None);
        assert_eq!(described(r#"{"rfilename":"x"}"#), None);
    }
}
