//! Every way in: IPv4, IPv6, Unix-domain, a listener that exists already, one that a supervisor hands over.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tiny_http::{Limits, Listener, Response, Server};

/// Answers one request with what it knows about its client.
fn answer_one(server: Server) -> thread::JoinHandle<Arc<Server>> {
    let server = Arc::new(server);
    thread::spawn(move || {
        let request = server.recv().unwrap();
        let text = format!("from {:?} secure {}", request.remote_addr().map(|addr| addr.ip()), request.secure());
        request.respond(Response::from_string(text)).unwrap();
        server
    })
}

fn ask(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn ipv4_and_ipv6() {
    for (addr, ip) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let server = Server::http(addr).unwrap();
        let addr = server.server_addr().to_ip().unwrap();
        let answering = answer_one(server);
        assert!(ask(TcpStream::connect(addr).unwrap()).ends_with(&format!("from Some({ip}) secure false")));
        answering.join().unwrap();
    }
}

#[test]
fn unix_domain_replaces_what_a_dead_server_left_and_cleans_up() {
    let path = std::env::temp_dir().join(format!("tiny_http-{}.sock", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left over");
    let server = Server::http_unix(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660, "whatever the umask");
    assert!(Server::http_unix(&path).is_err(), "a living server's path is not taken");
    let answering = answer_one(server);
    assert!(ask(UnixStream::connect(&path).unwrap()).ends_with("from None secure false"));
    drop(answering.join().unwrap());
    assert!(!path.exists());
}

#[test]
fn a_listener_that_exists_already() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answering = answer_one(Server::from_listener(listener, None).unwrap());
    assert!(ask(TcpStream::connect(addr).unwrap()).contains("secure false"));
    answering.join().unwrap();
}

/// The server's side of the next test, in a process that inherited a socket as descriptor 3.
#[test]
fn serve_what_was_handed_over() {
    if std::env::var_os("HANDED_OVER").is_none() {
        assert!(Listener::from_env().unwrap().is_none(), "nobody handed anything over");
        return;
    }
    let listener = Listener::from_env().unwrap().expect("a listener was handed over");
    let server = Server::from_listener_with_limits(listener, None, Limits::default()).unwrap();
    answer_one(server).join().unwrap();
}

#[test]
fn a_listener_from_a_supervisor() {
    // Python plays the supervisor: bind, make it descriptor 3, name our pid, become the server.
    let supervisor = "import os,socket,sys
s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(16)
print(s.getsockname()[1],flush=True)
os.dup2(s.fileno(),3); os.set_inheritable(3,True)
os.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()),HANDED_OVER='1')
os.execv(sys.argv[1],[sys.argv[1],'--exact','serve_what_was_handed_over'])";
    let program = std::env::current_exe().unwrap();
    let child = Command::new("python3").arg("-c").arg(supervisor).arg(program).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return eprintln!("no python3 to play the supervisor") };
    let mut port = Vec::new();
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        port.push(byte[0]);
    }
    let port: u16 = String::from_utf8(port).unwrap().parse().unwrap();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(ask(client).contains("secure false"));
    assert!(child.wait().unwrap().success());
}
