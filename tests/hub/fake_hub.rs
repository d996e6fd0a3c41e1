//! A server with the interface of Hugging Face's hub: the list of a repository's files, files behind a redirect to another
//! host, ranges of files. It loses connections, announces wrong values and refuses as a test says, and records every
//! request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

pub const REPO: &str = "Tiny/Model-GGUF";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The behaviour of the hub.
#[derive(Clone, Default)]
pub struct Manners {
    /// For each connection that sends a file, the bytes after which it is lost. Further connections are complete.
    pub cuts: Vec<usize>,
    /// Files are sent from the beginning, even if a range was requested.
    pub ignores_ranges: bool,
    /// The token without which every request is refused.
    pub token: Option<&'static str>,
    /// Whether files, but not their list, need a token.
    pub is_gated: bool,
    /// Whether a wrong hash is announced.
    pub lies: bool,
    /// The announced size, in place of the real one.
    pub announces: Option<u64>,
    /// A pause after each 64 KiB.
    pub pause: Duration,
    /// Whether pages are sent instead of JSON, as by a captive portal.
    pub is_a_portal: bool,
}

/// A recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it was sent to the other host's name.
    pub is_cdn: bool,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    manners: Mutex<Manners>,
    seen: Mutex<Vec<Seen>>,
    /// The number of bytes of files that were sent.
    sent: Mutex<usize>,
    cdn: SocketAddr,
}

pub struct FakeHub {
    state: Arc<State>,
    addr: SocketAddr,
}

/// A connection, plain or not.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Turns an accepted connection into a plain or TLS one.
pub type Wrap = Box<dyn Fn(TcpStream) -> Option<Box<dyn Wire>> + Send + Sync>;

impl FakeHub {
    pub fn start(files: &[(&str, &[u8])], manners: Manners) -> FakeHub {
        FakeHub::wrapped(files, manners, Box::new(|stream| Some(Box::new(stream))))
    }

    pub fn wrapped(files: &[(&str, &[u8])], manners: Manners, wrap: Wrap) -> FakeHub {
        let hub = TcpListener::bind("127.0.0.1:0").expect("a port");
        // The other host, which must not receive the hub's token.
        let cdn = TcpListener::bind("127.0.0.2:0").expect("a port");
        let state = Arc::new(State {
            files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect(),
            manners: Mutex::new(manners),
            seen: Mutex::default(),
            sent: Mutex::new(0),
            cdn: cdn.local_addr().expect("an address"),
        });
        let (addr, wrap) = (hub.local_addr().expect("an address"), Arc::new(wrap));
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let (state, wrap) = (Arc::clone(&state), Arc::clone(&wrap));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, wrap) = (Arc::clone(&state), Arc::clone(&wrap));
                    std::thread::spawn(move || {
                        // The host behind the redirect is always without TLS.
                        let wire = if is_cdn { Some(Box::new(stream) as Box<dyn Wire>) } else { wrap(stream) };
                        // An error here means that the client closed the connection.
                        wire.map(|wire| state.answer(wire, is_cdn))
                    });
                }
            });
        }
        FakeHub { state, addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn behave(&self, manners: Manners) {
        *self.state.manners.lock().unwrap() = manners;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The requested range of each request for a file.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.seen().into_iter().filter(|seen| seen.is_cdn).map(|seen| seen.range).collect()
    }

    pub fn sent(&self) -> usize {
        *self.state.sent.lock().unwrap()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    fn answer(&self, wire: Box<dyn Wire>, is_cdn: bool) -> std::io::Result<()> {
        let mut wire = BufReader::new(wire);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if wire.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
            Some(line.split_once(": ")?.1.to_owned())
        };
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let (range, authorization) = (header("range"), header("authorization"));
        let seen = Seen { is_cdn, path: path.clone(), range: range.clone(), authorization: authorization.clone() };
        self.seen.lock().unwrap().push(seen);
        let manners = self.manners.lock().unwrap().clone();
        let wire = wire.get_mut();
        let is_known = manners.token.is_none_or(|token| authorization == Some(format!("Bearer {token}")));
        let repo = path.strip_prefix("/api/models/").and_then(|rest| rest.strip_suffix("/revision/main?blobs=true"));
        let file = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/"));
        match (is_cdn, repo, file) {
            (true, ..) => self.send(wire, path.trim_start_matches('/'), range, &manners),
            _ if manners.is_a_portal => reply(wire, "200 OK", "", b"<html>Please accept our terms"),
            // A repository that was renamed.
            (_, Some("Old/Name"), _) => {
                let there = format!("Location: /api/models/{REPO}/revision/main?blobs=true\r\n");
                reply(wire, "307 Temporary Redirect", &there, b"")
            }
            (_, Some(REPO), _) if is_known || manners.is_gated => self.list(wire, &manners),
            (_, None, Some(_)) if !is_known && manners.is_gated => reply(
                wire,
                "401 Unauthorized",
                "X-Error-Code: GatedRepo\r\nX-Error-Message: Access is restricted\r\n",
                b"",
            ),
            // To a client without access the hub gives the same answer as for a missing repository.
            (_, Some(_), _) if manners.token.is_some() && authorization.is_some() => reply(
                wire,
                "401 Unauthorized",
                "X-Error-Message: Invalid credentials in Authorization header\r\n",
                br#"{"error":"Invalid credentials in Authorization header"}"#,
            ),
            (_, Some(_), _) => reply(
                wire,
                "401 Unauthorized",
                "X-Error-Code: RepoNotFound\r\nX-Error-Message: Repository not found\r\n",
                b"{}",
            ),
            (_, None, Some(name)) if is_known && self.files.contains_key(&name.replace("%20", " ")) => {
                let hash = sha256(&self.files[&name.replace("%20", " ")]);
                let headers = format!(
                    "Location: http://{}/{name}\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{hash}\"\r\nETag: \"{hash}\"\r\n",
                    self.cdn
                );
                reply(wire, "302 Found", &headers, b"")
            }
            _ => reply(wire, "404 Not Found", "X-Error-Code: EntryNotFound\r\n", b""),
        }
    }

    fn list(&self, wire: &mut dyn Wire, manners: &Manners) -> std::io::Result<()> {
        let files = self.files.iter().map(|(name, bytes)| {
            let hash = if manners.lies { sha256(b"another") } else { sha256(bytes) };
            let size = manners.announces.unwrap_or(bytes.len() as u64);
            json!({"rfilename": name, "size": size, "blobId": "b".repeat(40),
                   "lfs": {"sha256": hash, "size": size, "pointerSize": 134}})
        });
        let mut siblings: Vec<_> = files.collect();
        siblings.push(json!({"rfilename": "README.md", "size": 3, "blobId": "c".repeat(40)}));
        siblings.push(json!({"rfilename": "../../../../escape.gguf", "size": 3, "blobId": "d".repeat(40)}));
        let info =
            json!({"_id": "1", "id": REPO, "private": false, "gated": false, "sha": COMMIT, "siblings": siblings});
        reply(wire, "200 OK", "Content-Type: application/json\r\n", info.to_string().as_bytes())
    }

    fn send(&self, wire: &mut dyn Wire, name: &str, range: Option<String>, manners: &Manners) -> std::io::Result<()> {
        let bytes = &self.files[&name.replace("%20", " ")];
        let from = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.filter(|_| !manners.ignores_ranges).unwrap_or(0);
        let left = bytes.len() - from;
        if from > 0 {
            let place = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            write!(wire, "HTTP/1.1 206 Partial Content\r\nContent-Range: {place}\r\n")?;
        } else {
            write!(wire, "HTTP/1.1 200 OK\r\n")?;
        }
        write!(wire, "Content-Length: {left}\r\nConnection: close\r\n\r\n")?;
        let cut = {
            let cuts = &mut self.manners.lock().unwrap().cuts;
            if cuts.is_empty() { left } else { cuts.remove(0).min(left) }
        };
        for chunk in bytes[from..from + cut].chunks(64 << 10) {
            *self.sent.lock().unwrap() += chunk.len();
            wire.write_all(chunk)?;
            wire.flush()?;
            sleep(manners.pause);
        }
        Ok(())
    }
}

fn reply(wire: &mut dyn Wire, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(wire, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    wire.write_all(body)?;
    wire.flush()
}
