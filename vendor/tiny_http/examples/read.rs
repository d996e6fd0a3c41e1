//! Tells each client how its requests were read: X-Method and X-Url are the request line's, the answer's body is the request's.
//! `tests/smuggling/judge.py` holds that against what other parsers read. `read` listens on a free port of loopback and prints it.

use tiny_http::{Header, Response, Server};

fn main() {
    let server = Server::http("127.0.0.1:0").expect("a free port");
    println!("listening on {}", server.server_addr());
    while let Ok(request) = server.recv() {
        let header = |name: &str, value: &str| Header::from_bytes(name, value).expect("a token, or a printable target");
        let headers = [header("X-Method", request.method().as_str()), header("X-Url", request.url())];
        let response = Response::from_data(request.body().to_vec());
        let response = headers.into_iter().fold(response, |response, header| response.with_header(header));
        // A client that is gone gets no answer.
        let _ = request.respond(response);
    }
}
