//! The smallest server: a trivial handler on a number of workers. The same file compiles against the registry's
//! tiny_http, which is how the two are compared. `hello [ADDRESS [WORKERS]]`

use std::sync::Arc;
use tiny_http::{Response, Server};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let workers = arguments.next().map_or(4, |count| count.parse().expect("a number of workers"));
    let server = Arc::new(Server::http(address.as_str()).expect("the address can be bound"));
    println!("listening on {}", server.server_addr());
    let workers = (0..workers).map(|_| {
        let server = Arc::clone(&server);
        std::thread::spawn(move || {
            loop {
                let Ok(request) = server.recv() else { return };
                let _ = request.respond(Response::from_string("hello"));
            }
        })
    });
    workers.collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
}
