//! HTTPS: the same server behind rustls, its deadlines, and a certificate that changes while it runs.
#![cfg(feature = "tls")]

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{ConfigListenAddr, Limits, Response, Server, ServerConfig, SslConfig};

fn certificate() -> SslConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    SslConfig { certificate: made.cert.pem().into_bytes(), private_key: made.key_pair.serialize_pem().into_bytes() }
}

fn serve(limits: Limits, ssl: &SslConfig) -> (Arc<Server>, SocketAddr, mpsc::Receiver<Duration>) {
    let addr = ConfigListenAddr::from_socket_addrs("127.0.0.1:0").unwrap();
    let server = Arc::new(Server::with_limits(ServerConfig { addr, ssl: Some(ssl.clone()) }, limits).unwrap());
    let (sender, receiver) = mpsc::channel();
    for _ in 0..2 {
        let (server, sender) = (Arc::clone(&server), sender.clone());
        thread::spawn(move || {
            for mut request in server.incoming_requests() {
                assert!(request.secure());
                if request.url() == "/stream" {
                    let start = Instant::now();
                    let mut stream = request.into_stream(200, Vec::new()).unwrap();
                    while start.elapsed() < Duration::from_secs(5) && stream.write_event(b"event").is_ok() {
                        thread::sleep(Duration::from_millis(10));
                    }
                    sender.send(start.elapsed()).unwrap();
                    continue;
                }
                let mut body = Vec::new();
                request.as_reader().read_to_end(&mut body).unwrap();
                request.respond(Response::from_data(body)).unwrap();
            }
        });
    }
    let addr = server.server_addr().to_ip().unwrap();
    (server, addr, receiver)
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(addr: SocketAddr, trusted: &SslConfig) -> Client {
    connect_as(addr, trusted, &[])
}

fn connect_as(addr: SocketAddr, trusted: &SslConfig, protocols: &[&str]) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&trusted.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// Posts `bytes` and reads them back.
fn echo(client: &mut Client, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    write!(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
    client.write_all(bytes)?;
    client.flush()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut body = vec![0; bytes.len()];
    client.read_exact(&mut body)?;
    Ok(body)
}

#[test]
fn requests_small_and_large_over_one_connection() {
    let ssl = certificate();
    let (server, addr, _) = serve(Limits::default(), &ssl);
    let mut client = connect(addr, &ssl);
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for bytes in [b"small".as_slice(), &large, b"", b"again"] {
        assert!(echo(&mut client, bytes).unwrap() == bytes);
    }
    assert_eq!((server.stats().accepted(), server.stats().requests()), (1, 4));
}

#[test]
fn pipelined_requests_in_one_record_are_all_answered() {
    let ssl = certificate();
    let (_server, addr, _) = serve(Limits::default(), &ssl);
    let mut client = connect(addr, &ssl);
    let one = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
    client.write_all(one.repeat(20).as_bytes()).unwrap();
    let (mut text, mut block) = (String::new(), [0; 4096]);
    while text.matches("\r\n\r\nok").count() < 20 {
        let count = client.read(&mut block).unwrap();
        assert!(count > 0, "closed after {text}");
        text += std::str::from_utf8(&block[..count]).unwrap();
    }
}

#[test]
fn a_stream_whose_client_leaves_ends_at_once() {
    let ssl = certificate();
    let (_server, addr, receiver) = serve(Limits::default(), &ssl);
    let mut client = connect(addr, &ssl);
    client.write_all(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 200]).unwrap();
    drop(client);
    assert!(receiver.recv_timeout(Duration::from_secs(4)).unwrap() < Duration::from_secs(2));
}

#[test]
fn a_handshake_that_doesnt_come_is_closed_at_the_head_deadline_and_nonsense_at_once() {
    let ssl = certificate();
    let (_server, addr, _) = serve(Limits { head_timeout: Duration::from_millis(300), ..Limits::default() }, &ssl);
    let mut silent = TcpStream::connect(addr).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut plain = TcpStream::connect(addr).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "an alert at most");
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_changes_nothing() {
    let (old, new) = (certificate(), certificate());
    let (server, addr, _) = serve(Limits::default(), &old);
    let mut before = connect(addr, &old);
    assert_eq!(echo(&mut before, b"a").unwrap(), b"a");
    assert!(server.reload_tls(&SslConfig { certificate: b"nonsense".to_vec(), ..old.clone() }).is_err());
    assert!(server.reload_tls(&SslConfig { private_key: old.private_key.clone(), ..new.clone() }).is_err());
    assert_eq!(echo(&mut connect(addr, &old), b"b").unwrap(), b"b");
    server.reload_tls(&new).unwrap();
    assert_eq!(echo(&mut connect(addr, &new), b"c").unwrap(), b"c");
    assert!(echo(&mut connect(addr, &old), b"d").is_err(), "the old one is not shown any more");
    assert_eq!(echo(&mut before, b"e").unwrap(), b"e", "who was there stays");
}

#[test]
fn clients_that_name_their_version_are_welcome() {
    let ssl = certificate();
    let (_server, addr, _) = serve(Limits::default(), &ssl);
    for protocols in [&["http/1.0"][..], &["http/1.1"], &["h2", "http/1.1"], &[]] {
        assert_eq!(echo(&mut connect_as(addr, &ssl, protocols), b"a").unwrap(), b"a", "{protocols:?}");
    }
}
