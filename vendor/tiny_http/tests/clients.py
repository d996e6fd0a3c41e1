"""Each client completes a request, a stream and a keep-alive pair against examples/demo.rs, on loopback.

    cargo build --release --example demo
    python3 tests/clients.py target/release/examples/demo

Clients that aren't installed are named and skipped: curl, wrk, node, chromium as programs, requests and httpx as
Python packages. A keep-alive pair is two requests that the server saw come from one port.
"""

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

STREAM = "".join(f"data: {number}\n\n" for number in range(5))
failures = []


def start(demo, *arguments):
    server = subprocess.Popen([demo, *arguments], stdout=subprocess.PIPE, text=True)
    return server, int(server.stdout.readline().rsplit(":", 1)[1])


def check(client, request, stream, pair):
    """Prints a line; all three must hold."""
    ok = request and stream and len(pair) == 2 and pair[0] == pair[1] and pair[0] not in ("", "0")
    print(f"{client:34} request {bool(request)}  stream {bool(stream)}  keep-alive pair {pair}")
    if not ok:
        failures.append(client)


def pair_of(ports):
    """Two equal ones. A pool of several connections may take them in turn."""
    return next(([port, port] for port in ports if ports.count(port) > 1), [])


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def curl(base, *options):
    echo = run("curl", "-s", *options, "-d", "hello", f"{base}/echo")
    expect = run("curl", "-s", *options, "-H", "Expect: 100-continue", "-d", "x" * 2000, f"{base}/echo")
    old = run("curl", "-s", *options, "--http1.0", f"{base}/stream")
    stream = run("curl", "-sN", *options, f"{base}/stream")
    ports = run("curl", "-s", *options, "-w", "\n", f"{base}/port", f"{base}/port").split()
    check("curl " + " ".join(options), echo == "hello" and len(expect) == 2000, stream == old == STREAM, ports)


def wrk(base):
    out = run("wrk", "-t1", "-c4", "-d1s", f"{base}/port")
    count = int(re.search(r"(\d+) requests in", out)[1])
    errors = "Socket errors" in out or "Non-2xx" in out
    streams = run("wrk", "-t1", "-c4", "-d1s", f"{base}/stream")
    streamed = int(re.search(r"(\d+) requests in", streams)[1])
    # wrk keeps its connections; that it made more requests than it has connections is the pair.
    pair = ["kept", "kept"] if count > 100 and not errors else []
    check(f"wrk ({count} requests, {streamed} streams)", count > 0, streamed > 4 and "Socket" not in streams, pair)


def http_client(name, connection):
    def get(method, path, body=None):
        connection.request(method, path, body)
        return connection.getresponse().read().decode()

    echo = get("POST", "/echo", "hello")
    chunked = get("POST", "/echo", iter([b"hel", b"lo"]))
    check(name, echo == chunked == "hello", get("GET", "/stream") == STREAM, [get("GET", "/port"), get("GET", "/port")])


def python_requests(base):
    import requests

    with requests.Session() as session:
        echo = session.post(f"{base}/echo", data="hello").text
        with session.get(f"{base}/stream", stream=True) as answer:
            stream = b"".join(answer.iter_content(None)).decode()
        pair = [session.get(f"{base}/port").text for _ in range(2)]
    check(f"requests {requests.__version__}", echo == "hello", stream == STREAM, pair)


def python_httpx(base):
    import httpx

    with httpx.Client() as client:
        echo = client.post(f"{base}/echo", content="hello").text
        with client.stream("GET", f"{base}/stream") as answer:
            stream = "".join(answer.iter_text())
        pair = [client.get(f"{base}/port").text for _ in range(2)]
    check(f"httpx {httpx.__version__}", echo == "hello", stream == STREAM, pair)


def node(base):
    script = """
    (async base => {
      const text = async (path, options) => (await fetch(base + path, options)).text();
      const echo = await text("/echo", { method: "POST", body: "hello" });
      let stream = "";
      const decoder = new TextDecoder();
      for await (const piece of (await fetch(base + "/stream")).body) stream += decoder.decode(piece, { stream: true });
      const ports = [];
      for (let n = 0; n < 4; n++) ports.push(await text("/port"));
      console.log(JSON.stringify({ echo, stream, ports, version: process.version }));
    })(process.argv[1]);
    """
    out = json.loads(run("node", "-e", script, base))
    check(f"node {out['version']} fetch", out["echo"] == "hello", out["stream"] == STREAM, pair_of(out["ports"]))


def chromium(program, base):
    with tempfile.TemporaryDirectory() as profile:
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync"
        browser = subprocess.Popen(
            [program, *flags.split(), "--remote-debugging-port=0", f"--user-data-dir={profile}", f"{base}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        report = ""
        for _ in range(300):
            with urllib.request.urlopen(f"{base}/reported") as answer:
                report = answer.read().decode()
            if report or browser.poll() is not None:
                break
            time.sleep(0.2)
        browser.terminate()
        browser.wait(30)
    report = json.loads(report or "{}")
    streams = report.get("stream") == "0 1 2 3 4" and report.get("read") == STREAM
    version = run(program, "--version").strip()
    check(f"headless {version}"[:34], report.get("echo") == "hällo", streams, pair_of(report.get("ports", [])))


def main(demo):
    server, port = start(demo)
    base = f"http://127.0.0.1:{port}"
    programs = {"curl": curl, "wrk": wrk, "node": node}
    try:
        for name, client in programs.items():
            client(base) if shutil.which(name) else print(f"{name}: not installed")
        http_client("http.client", http.client.HTTPConnection("127.0.0.1", port, timeout=20))
        for name, client in {"requests": python_requests, "httpx": python_httpx}.items():
            try:
                client(base)
            except ImportError:
                print(f"{name}: not installed")
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        chromium(browser, base) if browser else print("chromium: not installed")
    finally:
        server.terminate()
    if shutil.which("openssl"):
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
            run(*"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost".split(),
                "-keyout", key, "-out", certificate)
            server, port = start(demo, certificate, key)
            try:
                if shutil.which("curl"):
                    curl(f"https://127.0.0.1:{port}", "-k")
                context = ssl._create_unverified_context()
                http_client("http.client over TLS", http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context))
            finally:
                server.terminate()
    print(f"failed: {failures}" if failures else "every client completed its three")
    sys.exit(bool(failures))


main(sys.argv[1])
