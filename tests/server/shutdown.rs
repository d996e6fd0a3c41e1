//! SIGTERM: running requests are finished, or ended with a reason; the process ends with 0.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::dice::Dice;
use super::http::Client;
use super::server::Server;
use super::{endless, exactly};

/// The number of repetitions of each test; `CLLM_DRAINS` sets it.
fn repeats(usual: usize) -> usize {
    std::env::var("CLLM_DRAINS").map_or(usual, |n| n.parse().expect("a number"))
}

const CLIENTS: usize = 8;

/// Requests that arrive while the server drains are refused, on old connections and new ones; accepted ones continue.
#[test]
fn draining_is_said_in_every_answer() {
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
    for _ in 0..repeats(10) {
        // The grace period is longer than any machine needs, because it isn't tested here.
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
        // A request that arrives now is refused, by a status or because the socket is closed.
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

/// The results of one client's requests, by their ids.
#[derive(Default)]
struct Fates {
    /// Answered completely.
    whole: BTreeSet<String>,
    /// Refused with 429 or 503.
    refused: BTreeSet<String>,
    /// Ended without an answer: the connection was closed, or the server no longer listened.
    nothing: BTreeSet<String>,
}

/// Sends requests without a pause until the server refuses because it ends; with a new connection for each request, or
/// with one for all.
fn ask_to_the_end(addr: SocketAddr, client: usize, dice: &mut Dice) -> Fates {
    let mut fates = Fates::default();
    let keeps = client.is_multiple_of(2);
    let mut kept = None;
    for number in 0.. {
        let name = format!("{client}-{number}");
        let (streams, tokens) = (dice.chance(0.5), dice.within(1..=60));
        let connection = kept.take().filter(|_| keeps).map_or_else(|| Client::try_connect(addr), Ok);
        let Ok(mut connection) = connection else { return fates };
        let body = exactly(tokens).to_string();
        let head = format!(
            "POST /generate{} HTTP/1.1\r\nHost: test\r\nX-Request-Id: {name}\r\nContent-Length: {}\r\n\r\n{body}",
            if streams { "_stream" } else { "" },
            body.len()
        );
        match connection.write(head.as_bytes()).and_then(|()| connection.answer(false)) {
            Ok(answer) if answer.status == 200 => {
                let end = if streams { "\"done\":true" } else { "\"success\":true" };
                let count = format!("\"generated_tokens\":{tokens}");
                assert!(answer.text().contains(end) && answer.text().contains(&count), "{name}: {}", answer.text());
                fates.whole.insert(name);
                let closes = answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                kept = (!closes).then_some(connection);
            }
            Ok(answer) => {
                assert!([429, 503].contains(&answer.status), "{name}: {}", answer.text());
                fates.refused.insert(name);
                if answer.status == 503 {
                    return fates;
                }
            }
            // The request was sent while the connection was being closed. The log shows whether it was accepted.
            Err(_) => {
                fates.nothing.insert(name);
            }
        }
    }
    fates
}

/// The log shows which requests were accepted; each of them must have been answered completely. A request without an
/// answer must not be in the log.
#[test]
fn a_signal_under_load_loses_no_accepted_reply() {
    let repeats = repeats(100);
    let (mut accepted, mut refused, mut nothing) = (0, 0, 0);
    for round in 0..repeats {
        let mut dice = Dice::new(round as u64);
        let mut server = Server::start("-np 4 --queue 8 --grace-ms 600000");
        let addr = server.addr();
        let fates: Vec<Fates> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let mut dice = Dice::new((round * CLIENTS + client) as u64);
                    scope.spawn(move || ask_to_the_end(addr, client, &mut dice))
                })
                .collect();
            server.wait_until("under load", |metrics| {
                super::server::number(metrics, "cllm_requests_finished_total{reason=\"length\"}") >= CLIENTS as u64
            });
            thread::sleep(Duration::from_millis(dice.within(0..=60) as u64));
            server.signal("TERM");
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(server.exit().code(), Some(0));
        let lines = server.rest_of_requests();
        let answered = lines.iter().filter(|line| line["status"] == 200);
        let answered: BTreeSet<&str> = answered.filter_map(|line| line["id"].as_str()).collect();
        let told: BTreeSet<&str> =
            lines.iter().filter(|line| line["status"] != 200).filter_map(|line| line["id"].as_str()).collect();
        let of = |which: fn(&Fates) -> &BTreeSet<String>| -> BTreeSet<&str> {
            fates.iter().flat_map(|fates| which(fates).iter().map(String::as_str)).collect()
        };
        let whole = of(|fates| &fates.whole);
        assert_eq!(answered, whole, "round {round}: accepted, and answered whole");
        let refusals = of(|fates| &fates.refused);
        assert!(told.is_subset(&refusals), "round {round}: {told:?} were told no, {refusals:?} heard it");
        (accepted, refused) = (accepted + whole.len(), refused + refusals.len());
        nothing += of(|fates| &fates.nothing).len();
    }
    println!("{repeats} times: {accepted} accepted, all answered whole; {refused} refused; {nothing} never taken");
    assert!(accepted >= CLIENTS * repeats && refused > 0);
}

#[test]
fn what_takes_longer_than_the_grace_period_gets_one_answer() {
    for _ in 0..repeats(10) {
        let mut server = Server::start("-np 4 --queue 8 -c 262144 --grace-ms 100");
        // Four requests run and four wait; two of each are streams.
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
    // One client is in the middle of a request that it never completes.
    clients[0].write(b"POST /generate HTTP/1.1\r\nContent-Le").unwrap();
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}
