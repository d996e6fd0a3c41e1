"""A router in front of three cllm servers, under a load of conversations, while one server is killed and another drains.

fleet.py smg|haproxy PROGRAM [REQUESTS]: PROGRAM is cllm's, REQUESTS the number of requests of the main load (2,000).
"""

import contextlib
import dataclasses
import http.client
import json
import os
import random
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from support import WORDS, free_port, get, wait_until

ROOT = Path(__file__).resolve().parents[2]
# Conversations at once. A server holds 16 in its cache, and two of three servers are away at the same time.
CLIENTS = 12
TURNS = 8
# Requests of each of the two loads that are compared: this router's way of choosing a server, and in turn.
COMPARED = 400
# What the issue asks for: of the requests whose conversation a live server holds, those that reach it.
HELD_MIN = 0.9


class Server:
    """One cllm server, on a port that it keeps over restarts."""

    def __init__(self, program, folder, name):
        self.program, self.name, self.port = program, name, free_port()
        self.log = open(folder / f"{name}.log", "wb")
        # Restarts and kills so far: what a server held before is gone.
        self.lives = 0
        self.start()

    def start(self):
        # 16 conversations of 2,048 tokens.
        flags = ["-np", "16", "-c", "32768", "-t", "1", "--port", str(self.port), "--log-level", "warn"]
        self.process = subprocess.Popen([self.program, "serve", *flags], stderr=self.log, stdin=subprocess.DEVNULL)

    def is_ready(self):
        return get(self.port, "/ready")[0] == 200

    def end(self, how):
        self.lives += 1
        self.process.send_signal(how)

    def finished(self):
        """Generations that it finished since it started."""
        lines = get(self.port, "/metrics")[1].decode().splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith("cllm_requests_finished_total{"))


class Smg:
    """SGLang's gateway."""

    name, tls = "smg", None

    def __init__(self, folder, servers, policy="cache_aware"):
        self.folder, self.servers, self.port = folder, servers, free_port()
        self.start(policy)

    def start(self, policy):
        log = open(self.folder / f"smg-{policy}.log", "wb")
        flags = ["--host", "127.0.0.1", "--port", self.port, "--policy", policy, "--prometheus-port", free_port(),
                 "--prometheus-host", "127.0.0.1", "--health-check-endpoint", "/ready",
                 "--health-check-interval-secs", 1, "--health-failure-threshold", 1, "--health-success-threshold", 1,
                 "--worker-urls", *[f"http://127.0.0.1:{server.port}" for server in self.servers]]
        command = [os.environ.get("SMG", "smg"), "launch", *map(str, flags)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until("smg sees three workers", lambda: len(self.healthy()) == 3)

    def workers(self):
        return json.loads(get(self.port, "/workers")[1])["workers"]

    def healthy(self):
        """Ports of the servers that get requests."""
        return {int(worker["url"].rsplit(":", 1)[1]) for worker in self.workers() if worker["is_healthy"]}

    def check(self):
        """smg knows what a worker is: nothing was said but its address."""
        for worker in self.workers():
            assert worker["model_id"] == "cllm-tiny" and worker["connection_mode"] == "http", worker
            assert worker["models"][0]["context_length"] == 2048, worker
            assert {"chat", "completions"} <= set(worker["models"][0]["model_type"]), worker

    def served_by(self, headers):
        return int(headers["x-smg-routed-worker-id"].rsplit(":", 1)[1])

    def in_turn(self):
        self.close()
        self.start("round_robin")

    def close(self):
        self.process.terminate()
        self.process.wait()


class HAProxy:
    """HAProxy with docs/fleet/haproxy.cfg as it stands there, over TLS."""

    name = "haproxy"

    def __init__(self, folder, servers):
        self.folder, self.servers, self.port = folder, servers, free_port()
        self.stats = folder / "haproxy.sock"
        key, chain = folder / "key.pem", folder / "chain.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
                       check=True, stderr=subprocess.DEVNULL)
        (folder / "cllm.pem").write_bytes(chain.read_bytes() + key.read_bytes())
        self.tls = ssl.create_default_context(cafile=chain)
        self.start(ROOT / "docs/fleet/haproxy.cfg")

    def start(self, config):
        log = open(self.folder / "haproxy.log", "ab")
        servers = {f"CLLM_{server.name.upper()}": f"127.0.0.1:{server.port}" for server in self.servers}
        paths = {"CLLM_STATS": str(self.stats), "CLLM_PEM": str(self.folder / "cllm.pem")}
        environment = os.environ | servers | paths | {"CLLM_LISTEN": f"127.0.0.1:{self.port}"}
        self.process = subprocess.Popen(["haproxy", "-db", "-f", config], env=environment, stdout=log, stderr=log)
        wait_until("HAProxy sees three servers", lambda: len(self.healthy()) == 3)

    def healthy(self):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.stats))
            admin.sendall(b"show stat\n")
            rows = admin.makefile().read().splitlines()
        names = rows[0].lstrip("# ").split(",")
        rows = [dict(zip(names, row.split(","))) for row in rows[1:] if row.startswith("cllm,")]
        ports = {server.name: server.port for server in self.servers}
        # A server whose first check has yet to come counts as up without one.
        is_up = lambda row: row["status"].startswith("UP") and row["check_status"] == "L7OK"
        return {ports[row["svname"]] for row in rows if row["svname"] in ports and is_up(row)}

    def check(self):
        """/health says that servers can answer; metrics stay inside."""
        for path, status in (("/health", 200), ("/metrics", 404), ("/v1/models", 200)):
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", path)
                assert connection.getresponse().status == status, path

    def served_by(self, headers):
        return next(server.port for server in self.servers if server.name == headers["x-served-by"])

    def in_turn(self):
        self.close()
        config = (ROOT / "docs/fleet/haproxy.cfg").read_text()
        changed = config.replace("balance hdr(X-Conversation)", "balance roundrobin").replace("    hash-type", "    # hash-type")
        changed = changed.replace("    hash-balance-factor", "    # hash-balance-factor")
        assert changed.count("roundrobin") == 1
        (self.folder / "in_turn.cfg").write_text(changed)
        self.start(self.folder / "in_turn.cfg")

    def close(self):
        self.process.terminate()
        self.process.wait()


@dataclasses.dataclass
class Counts:
    """What became of the requests of one load."""

    sent: int = 0
    whole: int = 0
    streams: int = 0
    # Streams that the kill ended; the messages of all other failures.
    cut: int = 0
    failed: list = dataclasses.field(default_factory=list)
    # Requests whose conversation a live server held, those that reached it, and those whose earlier tokens it had.
    held: int = 0
    met: int = 0
    found: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    # Seconds to the first piece of each stream.
    first: list = dataclasses.field(default_factory=list)


class Load:
    """CLIENTS threads that hold conversations until `total` requests are answered."""

    def __init__(self, router, servers, total, seed):
        self.router, self.total, self.seed = router, total, seed
        self.servers = {server.port: server for server in servers}
        self.counts, self.lock = Counts(), threading.Lock()
        self.killed = None

    def run(self, events=()):
        """`events`: (number of requests, what happens then), in order."""
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for at, event in events:
            wait_until(f"request {at}", lambda: self.counts.sent >= at, 300)
            event()
        for thread in threads:
            thread.join()
        return self.counts

    def client(self, number):
        dice = random.Random(self.seed * 1000 + number)
        connection = None
        conversation = 0
        while True:
            conversation += 1
            name = f"{self.seed}-{number}-{conversation}"
            beginning = f"You are helper {name}. " + " ".join(dice.choices(WORDS, k=220))
            messages = [{"role": "system", "content": beginning}]
            home, tokens = None, 0
            for turn in range(TURNS):
                with self.lock:
                    if self.counts.sent == self.total:
                        return
                    self.counts.sent += 1
                messages.append({"role": "user", "content": " ".join(dice.choices(WORDS, k=12)) + "?"})
                text, home, tokens, connection = self.ask(connection, name, messages, turn % 2 == 0, home, tokens)
                messages.append({"role": "assistant", "content": text or "Yes."})

    def ask(self, connection, name, messages, streams, home, tokens):
        """One request. Returns its text, the server and life that hold the conversation now, its tokens, the connection."""
        body = {"model": "cllm-tiny", "messages": messages, "max_tokens": 8, "temperature": 0, "stream": streams}
        if streams:
            body["stream_options"] = {"include_usage": True}
        began, port, text, usage, first, problem = time.monotonic(), None, "", None, None, None
        try:
            if connection is None:
                connection = (http.client.HTTPSConnection("127.0.0.1", self.router.port, timeout=120, context=self.router.tls)
                              if self.router.tls else http.client.HTTPConnection("127.0.0.1", self.router.port, timeout=120))
            connection.request("POST", "/v1/chat/completions", json.dumps(body),
                               {"Content-Type": "application/json", "X-Conversation": name})
            answer = connection.getresponse()
            if answer.status != 200:
                problem = f"{answer.status} {answer.read()[:300]}"
            else:
                port = self.router.served_by(answer.headers)
                if streams:
                    problem = "the stream has no end"
                    for line in answer:
                        data = line.removeprefix(b"data: ").strip()
                        if not line.startswith(b"data: "):
                            continue
                        if data == b"[DONE]":
                            problem = None
                            continue
                        event = json.loads(data)
                        if "error" in event:
                            problem = f"the stream has an error: {event}"
                            break
                        usage = event.get("usage") or usage
                        for choice in event["choices"]:
                            if piece := choice["delta"].get("content"):
                                first = first or time.monotonic() - began
                                text += piece
                else:
                    whole = json.loads(answer.read())
                    text, usage = whole["choices"][0]["message"]["content"], whole["usage"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            if connection:
                connection.close()
            connection = None
        with self.lock:
            counts = self.counts
            # The server that began a stream was killed: there is no other end for it.
            if problem and streams and port is not None and port == self.killed:
                counts.cut += 1
            elif problem:
                counts.failed.append(f"{'stream' if streams else 'whole'} of {name} by {port}: {problem}")
            else:
                counts.streams += streams
                counts.whole += not streams
                if first:
                    counts.first.append(first)
                cached = usage["prompt_tokens_details"]["cached_tokens"]
                counts.prompt_tokens += usage["prompt_tokens"]
                counts.cached_tokens += cached
                if home and self.servers[home[0]].lives == home[1]:
                    counts.held += 1
                    counts.met += port == home[0]
                    counts.found += cached >= tokens - 1
                home, tokens = (port, self.servers[port].lives), usage["prompt_tokens"]
        return text, home, tokens, connection


def hold(server, held):
    """Keeps a draining server alive: eight long answers, whose client leaves when `held` is set."""
    body = {"prompt": "Once", "max_tokens": 1900, "n": 8, "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", "/v1/completions", json.dumps(body))
    held.wait(60)
    # What `close` leaves to the answer that is still awaited.
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def main(kind, program, total):
    folder = Path(tempfile.mkdtemp(prefix="cllm-fleet-"))
    servers = [Server(program, folder, name) for name in "abc"]
    routers = []
    try:
        for server in servers:
            wait_until(f"server {server.name} is ready", server.is_ready)
        router = Smg(folder, servers) if kind == "smg" else HAProxy(folder, servers)
        routers.append(router)
        router.check()

        # Each server is new to the conversations of each load: their names and beginnings depend on the seed.
        compared = {"by beginning": Load(router, servers, COMPARED, 1).run()}
        router.in_turn()
        compared["in turn"] = Load(router, servers, COMPARED, 2).run()
        router.close()
        routers.pop()
        router = Smg(folder, servers) if kind == "smg" else HAProxy(folder, servers)
        routers.append(router)

        load = Load(router, servers, total, 3)
        killed, drained, _ = servers

        def kill():
            load.killed = killed.port
            killed.end(signal.SIGKILL)
            killed.process.wait()
            wait_until(f"{router.name} sees the kill", lambda: killed.port not in router.healthy())

        def drain():
            held = threading.Event()
            holder = threading.Thread(target=hold, args=(drained, held))
            holder.start()
            wait_until("the long answers run", lambda: b"cllm_requests_running 8" in get(drained.port, "/metrics")[1]
                       or get(drained.port, "/health") and json.loads(get(drained.port, "/health")[1])["data"]["running"] >= 8)
            drained.end(signal.SIGTERM)
            # It still runs and says 503 at /ready: this is what takes it out, not a connection that fails.
            wait_until("/ready says 503", lambda: get(drained.port, "/ready")[0] == 503)
            wait_until(f"{router.name} sees the drain", lambda: drained.port not in router.healthy())
            assert drained.process.poll() is None, "the draining server ended before the router saw it"
            held.set()
            holder.join()
            assert drained.process.wait(60) == 0, "a drain ends well"
            drained.start()
            wait_until(f"{router.name} sees the restart", lambda: drained.is_ready() and drained.port in router.healthy())

        counts = load.run([(total // 4, kill), (total // 2, drain)])
        after = drained.finished()
        report(router, compared, counts, total, after)
    finally:
        for router in routers:
            router.close()
        for server in servers:
            server.process.kill()
            server.process.wait()


def report(router, compared, counts, total, after):
    print(f"{router.name}: {counts.sent} requests, one server killed with -9, another drained and restarted")
    print(f"  answered      {counts.whole} whole, {counts.streams} streams; {after} by the restarted server")
    print(f"  cut           {counts.cut} streams, by the kill")
    print(f"  failed        {len(counts.failed)}")
    print(f"  held          {counts.met} of {counts.held} requests ({share(counts.met, counts.held)}) met the server that held"
          f" their conversation; {counts.found} ({share(counts.found, counts.held)}) found all of it in the cache")
    for name, one in compared.items():
        print(f"  {name:<13} time to first token {statistics.median(one.first) * 1000:.1f} ms (median of {len(one.first)}),"
              f" {share(one.cached_tokens, one.prompt_tokens)} of prompt tokens cached")
    for problem in counts.failed[:10]:
        print(f"  {problem}")
    for name, one in compared.items():
        assert not one.failed and one.whole + one.streams == COMPARED, (name, one.failed[:10])
    assert not counts.failed
    # Every request has one fate. At most those that ran can have been cut.
    assert counts.whole + counts.streams + counts.cut == total and counts.cut <= CLIENTS
    assert after > 0, "the restarted server got no request"
    assert counts.met >= HELD_MIN * counts.held and counts.found >= HELD_MIN * counts.held
    by_beginning, in_turn = compared["by beginning"], compared["in turn"]
    assert by_beginning.cached_tokens / by_beginning.prompt_tokens > in_turn.cached_tokens / in_turn.prompt_tokens


def share(part, whole):
    return f"{100 * part / max(whole, 1):.1f} %"


main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2000)
