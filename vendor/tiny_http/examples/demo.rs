//! A server for `tests/clients.py`: says which connection a request came over, streams, and takes a report from a browser.
//! `demo [CERTIFICATE KEY]` listens on a free port of loopback and prints it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tiny_http::{ConfigListenAddr, Header, Limits, Request, Response, Server, ServerConfig, SslConfig};

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>demo</title><script>
(async () => {
  const text = async path => (await fetch(path)).text();
  const stream = () => new Promise((done, fail) => {
    const events = [], source = new EventSource("/stream");
    source.onmessage = event => {
      events.push(event.data);
      if (events.length == 5) { source.close(); done(events.join(" ")); }
    };
    source.onerror = fail;
  });
  const report = { echo: await (await fetch("/echo", { method: "POST", body: "hällo" })).text(),
    ports: [await text("/port"), await text("/port"), await text("/port"), await text("/port")], stream: await stream(), read: await text("/stream") };
  await fetch("/report", { method: "POST", body: JSON.stringify(report) });
})();
</script>"#;

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("a constant header")
}

fn main() {
    let files: Vec<Vec<u8>> =
        std::env::args().skip(1).map(|path| std::fs::read(path).expect("a readable PEM file")).collect();
    let ssl = match files.as_slice() {
        [certificate, key] => Some(SslConfig { certificate: certificate.clone(), private_key: key.clone() }),
        _ => None,
    };
    let addr = ConfigListenAddr::from_socket_addrs("127.0.0.1:0").expect("an address");
    let server = Server::with_limits(ServerConfig { addr, ssl }, Limits::default()).expect("a free port");
    println!("listening on {}", server.server_addr());
    let (server, report) = (Arc::new(server), Arc::new(Mutex::new(String::new())));
    let workers = (0..4).map(|_| {
        let (server, report) = (Arc::clone(&server), Arc::clone(&report));
        thread::spawn(move || server.incoming_requests().for_each(|request| drop(answer(request, &report))))
    });
    workers.collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
}

fn answer(request: Request, report: &Mutex<String>) -> std::io::Result<()> {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    match request.url() {
        "/port" => {
            let port = request.remote_addr().map_or(0, |addr| addr.port());
            request.respond(Response::from_string(port.to_string()))
        }
        "/echo" => request.respond(Response::from_string(body)),
        "/stream" => {
            let headers = vec![header("Content-Type", "text/event-stream"), header("Cache-Control", "no-store")];
            let mut stream = request.into_stream(200, headers)?;
            for number in 0..5 {
                stream.write_event(format!("data: {number}\n\n").as_bytes())?;
                thread::sleep(Duration::from_millis(20));
            }
            stream.finish()
        }
        "/" => request.respond(Response::from_string(PAGE).with_header(header("Content-Type", "text/html"))),
        "/report" => {
            *report.lock().unwrap() = body;
            request.respond(Response::empty(204))
        }
        "/reported" => request.respond(Response::from_string(report.lock().unwrap().as_str())),
        _ => request.respond(Response::from_string("no such path").with_status_code(404)),
    }
}
