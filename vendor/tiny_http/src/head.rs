//! A request head: bytes in, a validated [`Head`] or the reason for refusing it out. Pure; runs on the thread that owns the
//! connection. httparse finds the parts. Heads that two servers could read differently are refused here.

use crate::fault::Fault;
use crate::header::{Header, is_value_byte};
use crate::limits::{HEADERS_CEILING, Limits};
use crate::message::{HTTPVersion, Method};
use std::mem::MaybeUninit;

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes; 0 without a body.
    Length(usize),
    /// After the last chunk.
    Chunked,
}

/// The content of a head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) version: HTTPVersion,
    pub(crate) headers: Vec<Header>,
    pub(crate) framing: Framing,
    /// Whether the client may send another request on this connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
}

/// Reads a head that ends with an empty line.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Head, Fault> {
    check_lines(bytes)?;
    check_version(bytes)?;
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_CEILING];
    let fields = &mut fields[..limits.headers_max.min(HEADERS_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
        Ok(_) => return Err(Fault::bad_request("the request head doesn't end where its empty line is")),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TOO_MANY_HEADERS),
        Err(httparse::Error::Version) => return Err(Fault::bad_request("the HTTP version can't be read")),
        Err(httparse::Error::Token) => return Err(Fault::bad_request("the request line can't be read")),
        Err(_) => return Err(Fault::bad_request("a header field can't be read")),
    }
    let (Some(method), Some(url), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Fault::bad_request("the request line can't be read"));
    };
    let method: Method = method.parse().map_err(|()| Fault::bad_request("the method is no token"))?;
    let version = HTTPVersion(1, minor);
    check_target(&method, url)?;
    let mut headers = Vec::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let header = Header::from_bytes(field.name, field.value);
        headers.push(header.map_err(|()| Fault::bad_request("a header field isn't UTF-8 text"))?);
    }
    check_host(&headers, version)?;
    let framing = framing(&headers, version, &method)?;
    let expects_continue = expects_continue(&headers, version)?;
    if framing != Framing::Chunked && matches!(framing, Framing::Length(bytes) if bytes > limits.body_bytes_max) {
        return Err(Fault::BODY_TOO_LARGE);
    }
    let keep_alive = keep_alive(&headers, version);
    Ok(Head { method, url: url.to_owned(), version, headers, framing, keep_alive, expects_continue })
}

/// The parts of an invalid or incomplete head that can be read: its target, if there is one, and the fields on complete
/// lines before an empty one, behind which another request may begin. Used only for answering it.
pub(crate) fn glimpse(bytes: &[u8]) -> (Option<String>, Vec<Header>) {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let word = |line: &[u8]| line.split(|byte| byte.is_ascii_whitespace()).nth(1).map(<[u8]>::to_vec);
    let url = lines.next().and_then(word).and_then(|word| String::from_utf8(word).ok());
    let url = url.filter(|url| url.starts_with('/') && url.bytes().all(|byte| byte.is_ascii_graphic()));
    let field = |line: &[u8]| {
        let line = line.strip_suffix(b"\r\n")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        Header::from_bytes(&line[..colon], line[colon + 1..].trim_ascii()).ok()
    };
    let of_head = lines.take_while(|line| !matches!(line, [b'\n'] | [b'\r', b'\n']));
    (url, of_head.filter_map(field).take(HEADERS_CEILING).collect())
}

/// Checks that lines end with CR LF, contain no other CR, LF or control character, and are not folded.
fn check_lines(bytes: &[u8]) -> Result<(), Fault> {
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| !is_value_byte(*byte)) {
        if !rest[end..].starts_with(b"\r\n") {
            return Err(Fault::bad_request("the request head holds a stray control character or line ending"));
        }
        rest = &rest[end + 2..];
        if rest.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(Fault::bad_request("folded header fields are not accepted"));
        }
    }
    Ok(())
}

/// Refuses a well-formed version that isn't supported with 505. A malformed one is left to httparse, which gives 400.
fn check_version(bytes: &[u8]) -> Result<(), Fault> {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let word = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match word {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Fault::VERSION)
        }
        _ => Ok(()),
    }
}

/// Checks the target: origin form, absolute form, or `*` for OPTIONS.
fn check_target(method: &Method, url: &str) -> Result<(), Fault> {
    let is_absolute = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if *method == Method::Connect {
        return Err(Fault::CONNECT);
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::bad_request("the request target isn't printable ASCII"));
    }
    let is_known = url.starts_with('/')
        || is_absolute("http://")
        || is_absolute("https://")
        || (url == "*" && *method == Method::Options);
    if is_known { Ok(()) } else { Err(Fault::bad_request("the request target has no known form")) }
}

/// The values of all fields with this name.
fn values<'a>(headers: &'a [Header], name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |header| header.field.equiv(name)).map(|header| header.value.as_str())
}

fn check_host(headers: &[Header], version: HTTPVersion) -> Result<(), Fault> {
    let mut hosts = values(headers, "Host");
    match (hosts.next(), hosts.next()) {
        (None, None) if version < HTTPVersion(1, 1) => Ok(()),
        (Some(host), None) => {
            let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte);
            let is_host = host.bytes().all(is_host_byte);
            if is_host { Ok(()) } else { Err(Fault::bad_request("the Host field can't be read")) }
        }
        _ => Err(Fault::bad_request("exactly one Host field is needed")),
    }
}

/// Decides where the body ends. A head that can be read in two ways is refused (RFC 9112, 6.1 and 6.3).
fn framing(headers: &[Header], version: HTTPVersion, method: &Method) -> Result<Framing, Fault> {
    let mut lengths = values(headers, "Content-Length");
    let mut codings = values(headers, "Transfer-Encoding");
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, None, None, None) => {
            let has_body = matches!(method, Method::Post | Method::Put | Method::Patch);
            if version < HTTPVersion(1, 1) && has_body { Err(Fault::LENGTH_REQUIRED) } else { Ok(Framing::Length(0)) }
        }
        (Some(length), None, None, None) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Fault::bad_request("the Content-Length is no number"));
            }
            length.parse().map(Framing::Length).map_err(|_| Fault::BODY_TOO_LARGE)
        }
        (None, None, Some(_), _) if version < HTTPVersion(1, 1) => {
            Err(Fault::bad_request("HTTP/1.0 has no Transfer-Encoding"))
        }
        (None, None, Some(coding), None) => {
            let is_chunked = coding.eq_ignore_ascii_case("chunked");
            if is_chunked { Ok(Framing::Chunked) } else { Err(Fault::TRANSFER_CODING) }
        }
        (None, None, Some(_), Some(_)) => Err(Fault::bad_request("more than one Transfer-Encoding field")),
        (Some(_), Some(_), None, None) => Err(Fault::bad_request("more than one Content-Length field")),
        _ => Err(Fault::bad_request("Content-Length and Transfer-Encoding together")),
    }
}

fn expects_continue(headers: &[Header], version: HTTPVersion) -> Result<bool, Fault> {
    let mut expectations = values(headers, "Expect");
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(_), _) if version < HTTPVersion(1, 1) => Ok(false),
        (Some(expectation), None) if expectation.eq_ignore_ascii_case("100-continue") => Ok(true),
        _ => Err(Fault::EXPECTATION),
    }
}

fn keep_alive(headers: &[Header], version: HTTPVersion) -> bool {
    let says = |word: &str| {
        values(headers, "Connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim_matches([' ', '\t']).eq_ignore_ascii_case(word))
    };
    !says("close") && (version >= HTTPVersion(1, 1) || says("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, u16> {
        parse(text.as_bytes(), &Limits::default()).map_err(|fault| fault.status)
    }

    #[test]
    fn a_glimpse_shows_what_is_there() {
        let seen = |text: &str| {
            let (url, headers) = glimpse(text.as_bytes());
            (url, headers.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(seen(""), (None, vec![]));
        assert_eq!(seen("GET"), (None, vec![]));
        assert_eq!(seen("GET /v1/mod"), (Some("/v1/mod".into()), vec![]));
        assert_eq!(seen("GET http://a/ HTTP/1.1\r\n"), (None, vec![]));
        let text = "POST /a HTTP/9.9\r\nX:  y \r\nbad field\r\nbad\n: c\r\nZ: cut";
        assert_eq!(seen(text), (Some("/a".into()), vec!["X: y".to_owned()]));
        for end in ["\r\n", "\n"] {
            let text = format!("GET /a HTTP/1.1\r\nX: y\r\n{end}GET /b HTTP/1.1\r\nZ: of another request\r\n\r\n");
            assert_eq!(seen(&text), (Some("/a".into()), vec!["X: y".to_owned()]));
        }
    }

    /// Reads a GET with these additional field lines.
    fn with(fields: &str) -> Result<Head, u16> {
        read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn a_plain_head_is_read() {
        let head = read("POST /a?b HTTP/1.1\r\nHost: a:1\r\nContent-Length: 7\r\nX:  y \r\n\r\n").unwrap();
        assert_eq!((head.method, head.url.as_str(), head.version), (Method::Post, "/a?b", HTTPVersion(1, 1)));
        assert_eq!((head.framing, head.keep_alive, head.expects_continue), (Framing::Length(7), true, false));
        assert_eq!(head.headers[2].value, "y");
    }

    #[test]
    fn two_readings_of_the_framing_are_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 1 1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length : 1\r\n",
            "X: a\r\n b\r\n",
            "X: a\r\n\tb\r\n",
            "X: a\nY: b\r\n",
            "X: a\rb\r\n",
            "X: a\0b\r\n",
            "Host: b\r\n",
            ": empty\r\n",
        ] {
            assert_eq!(with(fields).map(|_| ()), Err(400), "{fields:?}");
        }
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "\"chunked\"", ""] {
            assert_eq!(with(&format!("Transfer-Encoding: {coding}\r\n")).map(|_| ()), Err(501), "{coding:?}");
        }
        assert_eq!(with("Transfer-Encoding: Chunked\r\n").unwrap().framing, Framing::Chunked);
        assert_eq!(with("Content-Length: 99999999999999999999999\r\n").map(|_| ()), Err(413));
        assert_eq!(with("Content-Length: 100000000000\r\n").map(|_| ()), Err(413));
    }

    #[test]
    fn versions_targets_and_hosts() {
        for (text, status) in [
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/1.11\r\nHost: a\r\n\r\n", 400),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\nHost: a\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\n\r\n", 411),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(status), "{text:?}");
        }
        assert!(!read("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(read("GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n").unwrap().keep_alive);
        assert!(!with("Connection: close\r\n").unwrap().keep_alive);
        assert!(read("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n").is_ok());
        assert!(with("Expect: 100-Continue\r\n").unwrap().expects_continue);
        assert_eq!(with("Expect: tea\r\n").map(|_| ()), Err(417));
    }

    #[test]
    fn one_header_too_many_is_431() {
        assert!(with(&"X: y\r\n".repeat(99)).is_ok());
        assert_eq!(with(&"X: y\r\n".repeat(100)).map(|_| ()), Err(431));
    }
}
