//! The owner of a server may say what its refusals look like. Each knows the request that it refuses, as far as that was read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tiny_http::{ConfigListenAddr, Header, Limits, Refusal, Refused, Server, ServerConfig};

fn shape(refused: &Refused<'_>) -> Refusal {
    let name = refused.headers.iter().find(|header| header.field.equiv("X-Name")).map(|header| header.value.as_str());
    let body = format!("{} {} {:?} {name:?}", refused.status, refused.slug, refused.url);
    Refusal { headers: vec![Header::from_bytes("X-Shaped", "yes").unwrap()], body: body.into_bytes() }
}

/// A server whose worker drops every request, and what it says to `text`.
fn told(text: &[u8], limits: Limits) -> String {
    let addr = ConfigListenAddr::from_socket_addrs("127.0.0.1:0").unwrap();
    let server = Arc::new(Server::with_limits(ServerConfig { addr, ssl: None }, limits).unwrap());
    server.shape_refusals(shape);
    server.shape_refusals(|_| Refusal { headers: Vec::new(), body: b"the first counts".to_vec() });
    let worker = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || while server.recv().is_ok() {})
    };
    let mut client = TcpStream::connect(server.server_addr().to_ip().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(text).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    server.unblock();
    worker.join().unwrap();
    assert!(answer.contains("\r\nX-Shaped: yes\r\n") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains(&body[..3]), "{answer}");
    body.to_owned()
}

#[test]
fn each_refusal_knows_its_request() {
    let soon = Limits {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    for (text, expected) in [
        ("POST /v1/a HTTP/9.9\r\nX-Name: n\r\n\r\n", "505 http_version Some(\"/v1/a\") Some(\"n\")"),
        ("POST /v1/a HTTP/1.1\r\nX-Name: n\r\n\r\n", "400 bad_request Some(\"/v1/a\") Some(\"n\")"),
        ("nonsense\r\n\r\n", "400 bad_request None None"),
        (
            "POST /b HTTP/1.1\r\nHost: a\r\nX-Name: n\r\nContent-Length: 99999999999\r\n\r\n",
            "413 body_too_large Some(\"/b\") Some(\"n\")",
        ),
        (
            "POST /c HTTP/1.1\r\nHost: a\r\nX-Name: n\r\nContent-Length: 9\r\n\r\nhalf",
            "408 body_timeout Some(\"/c\") Some(\"n\")",
        ),
        ("POST /c HTTP/1.1\r\nHost: a\r\nX-Name: n\r\nX-Na", "408 head_timeout Some(\"/c\") Some(\"n\")"),
        ("GET /d HTTP/1.1\r\nHost: a\r\nX-Name: n\r\n\r\n", "500 internal_error Some(\"/d\") Some(\"n\")"),
    ] {
        assert_eq!(told(text.as_bytes(), soon.clone()), expected);
    }
    let long = [b"GET /e HTTP/1.1\r\nX-Name: n\r\nX-Long: ".as_slice(), &[b'x'; 20_000]].concat();
    assert_eq!(told(&long, soon), "431 head_too_large Some(\"/e\") Some(\"n\")");
}
