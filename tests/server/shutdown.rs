//! SIGTERM: what runs is finished, or told so; the process ends with 0.

use std::thread;

use serde_json::{Value, json};

use super::http::Client;
use super::server::Server;
use super::{endless, exactly};

/// `CLLM_DRAINS` has it more often.
fn repeats() -> usize {
    std::env::var("CLLM_DRAINS").map_or(10, |n| n.parse().expect("a number"))
}

const CLIENTS: usize = 8;

/// Whoever comes while it drains is told so, on old connections and new ones; who was in goes on.
#[test]
fn draining_is_said_to_all_who_ask() {
    let mut server = Server::start("-np 2 -c 131072 --grace-ms 3600000");
    let mut idle = server.client();
    assert_eq!(idle.get("/ready").status, 200);
    let mut stream = server.stream(&endless());
    assert!(stream.next().is_some());
    server.signal("TERM");
    server.logged("stopping");
    for mut client in [idle, server.client()] {
        let answer = client.get("/ready");
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("shutting_down")));
        let answer = client.post("/generate", &exactly(1));
        assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("5")));
        assert_eq!(client.get("/health").status, 200, "alive it is");
    }
    assert!(stream.next().is_some(), "it goes on");
    server.signal("TERM");
    assert_eq!(stream.finish().1["finish_reason"], "shutdown");
    assert_eq!(server.exit().code(), Some(0));
}

/// A request that was sent and not yet answered.
fn sent(server: &Server, path: &str, body: &Value) -> Client {
    let mut client = server.client();
    client.request("POST", path, body.to_string().as_bytes()).unwrap();
    client
}

#[test]
fn what_runs_is_finished() {
    for _ in 0..repeats() {
        // However slow the machine is just now: the grace period isn't what this is about.
        let mut server = Server::start("--grace-ms 600000");
        let mut idle = server.client();
        assert_eq!(idle.get("/ready").status, 200);
        let whole: Vec<Client> = (0..CLIENTS / 2).map(|_| sent(&server, "/generate", &exactly(900))).collect();
        let mut streams: Vec<_> = (0..CLIENTS / 2).map(|_| server.stream(&exactly(900))).collect();
        server.wait_until("all in", |metrics| {
            let number = |name| super::server::number(metrics, name);
            number("cllm_requests_running") + number("cllm_requests_finished_total{reason=\"length\"}")
                == CLIENTS as u64
        });
        server.signal("TERM");
        server.logged("stopping");
        // Whoever comes now is refused, by a status or by nobody listening.
        if let Ok(mut late) = Client::try_connect(server.addr())
            && late.request("POST", "/generate", exactly(1).to_string().as_bytes()).is_ok()
            && let Ok(answer) = late.answer(false)
        {
            assert_eq!(answer.status, 503);
        }
        for mut client in whole {
            assert_eq!(client.answer(false).expect("an answer").data()["generated_tokens"], 900);
        }
        for stream in &mut streams {
            let (text, end) = stream.finish();
            assert_eq!((&end["generated_tokens"], &end["finish_reason"]), (&json!(900), &json!("length")));
            assert!(!text.is_empty());
        }
        assert_eq!(server.exit().code(), Some(0));
        assert!(Client::try_connect(server.addr()).is_err(), "nobody listens any more");
    }
}

#[test]
fn what_takes_longer_than_the_grace_period_gets_one_answer() {
    for _ in 0..repeats() {
        let mut server = Server::start("-np 4 --queue 8 -c 262144 --grace-ms 100");
        // Four run, four wait; of each, two stream.
        let mut running: Vec<_> = (0..2).map(|_| server.stream(&endless())).collect();
        assert!(running.iter_mut().all(|stream| stream.next().is_some()));
        let whole: Vec<Client> = (0..2).map(|_| sent(&server, "/generate", &endless())).collect();
        server.wait_for(4, 0);
        let waiting: Vec<Client> = ["/generate", "/generate", "/generate_stream", "/generate_stream"]
            .map(|path| sent(&server, path, &endless()))
            .into();
        server.wait_for(4, 4);
        server.signal("TERM");
        let readers = running.into_iter().map(|mut stream| thread::spawn(move || stream.finish()));
        let readers: Vec<_> = readers.collect();
        for mut client in whole {
            let answer = client.answer(false).expect("an answer");
            let body = answer.json();
            assert_eq!((answer.status, &body["code"]), (503, &json!("shutting_down")));
            assert!(body["data"]["generated_tokens"].as_u64().unwrap() > 0, "with what there is: {body}");
        }
        for mut client in waiting {
            let answer = client.answer(false).expect("an answer");
            assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("shutting_down")));
        }
        for reader in readers {
            let (text, end) = reader.join().unwrap();
            assert_eq!(end["finish_reason"], "shutdown");
            assert!(!text.is_empty());
        }
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let mut server = Server::start("-np 2 -c 131072 --grace-ms 3600000");
        let mut stream = server.stream(&endless());
        assert!(stream.next().is_some());
        server.signal(first);
        server.logged("stopping");
        assert!(stream.next().is_some(), "it goes on while there is grace");
        server.signal(second);
        assert_eq!(stream.finish().1["finish_reason"], "shutdown");
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn idle_it_ends_with_connections_open() {
    let mut server = Server::start("");
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    // One in the middle of a request that never comes.
    clients[0].write(b"POST /generate HTTP/1.1\r\nContent-Le").unwrap();
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}
