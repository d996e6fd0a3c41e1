//! All ways to connect: TLS with a certificate that changes, a Unix-domain socket, a socket passed by another process;
//! and the number of descriptors that connections need.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;

use super::exactly;
use super::http::Client;
use super::server::Server;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cllm-listen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A whole answer, then a streamed one, over one connection.
fn generates_and_streams(mut client: Client) {
    assert_eq!(client.post("/generate", &exactly(5)).data()["generated_tokens"], 5);
    let mut events = client.events("/generate_stream", &exactly(5));
    let (text, end) = events.finish();
    assert!(!text.is_empty());
    assert_eq!((&end["generated_tokens"], &end["finish_reason"]), (&json!(5), &json!("length")));
    assert_eq!(events.into_client().get("/health").status, 200);
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::http::Wire;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;

    type Made = rcgen::CertifiedKey;

    fn made() -> Made {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
    }

    impl Folder {
        fn put(&self, cert: &str, key: &str) {
            std::fs::write(self.path("cert.pem"), cert).unwrap();
            std::fs::write(self.path("key.pem"), key).unwrap();
        }

        fn serve(&self) -> Server {
            Server::start(&format!("--tls-cert {} --tls-key {}", self.path("cert.pem"), self.path("key.pem")))
        }
    }

    impl Wire for StreamOwned<ClientConnection, TcpStream> {
        fn cut(&self) {
            self.sock.cut();
        }
    }

    /// A client that trusts only `certificate`; `Err` if the server shows another.
    fn connect(addr: SocketAddr, certificate: &Made) -> std::io::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = TcpStream::connect(addr)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Client::over(StreamOwned::new(session, stream)))
    }

    #[test]
    fn https_generates_and_streams() {
        let (folder, made) = (Folder::new("https"), made());
        folder.put(&made.cert.pem(), &made.key_pair.serialize_pem());
        let server = folder.serve();
        generates_and_streams(connect(server.addr(), &made).unwrap());
        let index = connect(server.addr(), &made).unwrap().get("/").text();
        assert!(index.contains("curl https://test/"), "{index}");
    }

    #[test]
    fn sighup_changes_the_certificate_and_drops_no_connection() {
        let (folder, old, new) = (Folder::new("reload"), made(), made());
        folder.put(&old.cert.pem(), &old.key_pair.serialize_pem());
        let mut server = folder.serve();
        let mut idle = connect(server.addr(), &old).unwrap();
        assert_eq!(idle.get("/health").status, 200);
        let mut stream = connect(server.addr(), &old).unwrap().events("/generate_stream", &exactly(1500));
        assert!(stream.next().is_some());

        // A new certificate with the old key, then a truncated file: the old pair stays.
        folder.put(&new.cert.pem(), &old.key_pair.serialize_pem());
        server.signal("HUP");
        server.logged("certificate not reloaded");
        folder.put(&new.cert.pem()[..60], &new.key_pair.serialize_pem());
        server.signal("HUP");
        server.logged("certificate not reloaded");
        assert_eq!(connect(server.addr(), &old).unwrap().get("/health").status, 200);

        folder.put(&new.cert.pem(), &new.key_pair.serialize_pem());
        server.signal("HUP");
        server.logged("certificate reloaded");
        assert_eq!(connect(server.addr(), &new).unwrap().get("/health").status, 200);
        assert!(connect(server.addr(), &old).is_err(), "the old one is shown no more");
        assert_eq!(idle.get("/health").status, 200, "who was there stays");
        assert_eq!(stream.finish().1["generated_tokens"], 1500);
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn a_path_is_listened_on_and_removed_at_the_end() {
    let folder = Folder::new("path");
    let path = folder.path("cllm.sock");
    // A socket file that a killed server left behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut server = Server::start(&format!("--host unix:{path}"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    generates_and_streams(Client::over(UnixStream::connect(&path).unwrap()));
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(std::fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_supervisors_socket_is_taken_over() {
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Connected before the server runs.
    let early = Client::connect(addr);
    let server = Server::through(script, OwnedFd::from(listener), "--host 192.0.2.1");
    assert_eq!(server.addr(), addr, "and not --host");
    generates_and_streams(early);
    generates_and_streams(server.client());

    let folder = Folder::new("handed");
    let path = folder.path("cllm.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Server::through(script, OwnedFd::from(listener), "");
    generates_and_streams(Client::over(UnixStream::connect(&path).unwrap()));
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(std::fs::metadata(&path).is_ok(), "the path is the supervisor's");
}

#[test]
fn a_socket_for_another_process_is_left_alone() {
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=1 exec \"$0\" \"$@\"";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::through(script, OwnedFd::from(listener), "");
    assert_ne!(server.addr(), addr);
    assert_eq!(server.client().get("/health").status, 200);
}

#[test]
fn descriptors_are_raised_to_what_connections_need() {
    let server = Server::through("ulimit -Sn 256; exec \"$0\" \"$@\"", Stdio::null(), "");
    assert_eq!(server.descriptors_max(), 1024 + 128 + 64);
    assert!(!server.logged_at_first("too few file descriptors"));
    // The limit isn't raised beyond the hard limit; then the log says so.
    let mut server = Server::through("ulimit -n 256; exec \"$0\" \"$@\"", Stdio::null(), "");
    assert_eq!(server.descriptors_max(), 256);
    assert!(server.logged_at_first("too few file descriptors"));
    assert_eq!(server.client().get("/health").status, 200);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}
