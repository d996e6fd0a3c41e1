"""Subscribers to KV events beside one cllm server, under random conversations: the blocks that each subscriber believes in are
those that the server holds, after lost connections too.

events.py PROGRAM [CONVERSATIONS]: PROGRAM is cllm's, CONVERSATIONS their number (1,000). Needs pyzmq and msgpack.
"""

import atexit
import contextlib
import hashlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgpack
import zmq

from support import WORDS, free_port, get, wait_until

CLIENTS = 8
BLOCK = 16
TOPIC = "kv@127.0.0.1:8080@cllm-tiny"
# Times at which everything stops and all sets are compared.
STOPS = 10
# Connections through the relay are cut each time that so many conversations have ended.
CUT_EVERY = 40
END = (1 << 64) - 1


class Server:
    """One cllm server that publishes KV events."""

    def __init__(self, program, folder, events, *flags):
        self.port = free_port()
        log = open(folder / "cllm.log", "ab")
        # 8 conversations of 640 tokens: most of what is held is soon given up.
        flags = ["-np", "8", "-c", "5120", "-t", "1", "--port", str(self.port), "--kv-events", events,
                 "--kv-events-topic", TOPIC, *flags]
        self.process = subprocess.Popen([program, "serve", *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        atexit.register(self.process.kill)
        wait_until("the server is ready", lambda: get(self.port, "/ready")[0] == 200)

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            return json.loads(data)

    def held(self):
        """Names of the blocks that the engine holds: it is asked itself."""
        status, body = get(self.port, "/debug/kv-blocks", 60)
        assert status == 200, body
        data = json.loads(body)["data"]
        assert data["block_size"] == BLOCK
        return set(data["blocks"])

    def metric(self, name):
        lines = get(self.port, "/metrics", 60)[1].decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


class Relay:
    """Passes connections on to `port`; `cut` ends all of them, as a network does that fails."""

    def __init__(self, port):
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock, self.open, self.cuts = threading.Lock(), [], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            with self.lock:
                self.open.append((near, far))
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    def copy(self, a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        with self.lock:
            self.cuts += 1
            for pair in self.open:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self.open.clear()


class Subscriber:
    """What a router does with KV events. `how`: "steady" has a connection that is never cut, and checks that nothing is missing;
    "replay" asks for numbers that it missed, as vLLM's subscribers do; "snapshot" only listens, as llm-d's do."""

    def __init__(self, context, how, address):
        self.how, self.context, self.address = how, context, address
        self.last, self.blocks, self.lock = -1, {}, threading.Lock()
        self.messages = self.stored = self.removed = self.gaps = self.replayed = self.cleared = 0
        self.keys, self.problem, self.stopped = {}, None, False
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt_string(zmq.SUBSCRIBE, "kv@")
        self.socket.connect(address)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while not self.stopped:
                if self.socket.poll(100):
                    topic, number, payload = self.socket.recv_multipart()
                    assert topic.decode() == TOPIC and len(number) == 8, (topic, number)
                    with self.lock:
                        self.take(int.from_bytes(number, "big"), payload)
        except Exception as problem:
            self.problem = problem
            raise

    def take(self, number, payload):
        self.messages += 1
        if self.how == "snapshot":
            # A message with an earlier number belongs to what it was told when it came back.
            self.apply(payload)
        elif number <= self.last:
            return
        elif number == self.last + 1:
            self.apply(payload)
        elif self.how == "replay":
            self.gaps += 1
            self.replay()
            return
        else:
            # The first thing that a subscriber is told is everything.
            assert self.last == -1, f"from {self.last} to {number}"
            self.apply(payload)
        self.last = number

    def replay(self):
        """All messages after the last one, from the same address. Where the connection is cut meanwhile, the next message shows it."""
        with contextlib.closing(self.context.socket(zmq.DEALER)) as asker:
            asker.setsockopt(zmq.LINGER, 0)
            asker.connect(self.address)
            asker.send_multipart([b"", (self.last + 1).to_bytes(8, "big")])
            while asker.poll(2000):
                empty, number, payload = asker.recv_multipart()
                number = int.from_bytes(number, "big")
                assert empty == b""
                if number == END:
                    assert payload == b""
                    return
                assert number == self.last + 1, (number, self.last)
                self.apply(payload)
                self.last, self.replayed = number, self.replayed + 1

    def apply(self, payload):
        at, events, rank = msgpack.unpackb(payload)
        assert abs(at - time.time()) < 3600 and rank == 0
        for event in events:
            kind, *fields = event
            if kind == "AllBlocksCleared":
                self.cleared += 1
                self.blocks.clear()
            elif kind == "BlockRemoved":
                names, medium = fields
                assert medium == "GPU"
                for name in names:
                    assert self.how == "snapshot" or name in self.blocks, "a block is removed that wasn't stored"
                    self.blocks.pop(name, None)
                    self.removed += 1
            else:
                names, parent, tokens, size, lora_id, medium, lora_name = fields
                assert (kind, size, lora_id, medium, lora_name) == ("BlockStored", BLOCK, None, "GPU", None), event
                assert len(tokens) == len(names) * BLOCK
                assert parent is None or parent in self.blocks, "a block's parent isn't known"
                for i, name in enumerate(names):
                    part = tuple(tokens[i * BLOCK:(i + 1) * BLOCK])
                    assert name == name_of(parent, part), "a name isn't its tokens' name"
                    # As llm-d does: a key of one's own, made of the parent's and the tokens.
                    key = hash((self.blocks[parent] if parent else None, part))
                    self.blocks[name] = key
                    parent = name
                    self.stored += 1

    def names(self):
        if self.problem:
            raise SystemExit(f"{self.how}: {self.problem!r}")
        with self.lock:
            return set(self.blocks)

    def leading(self, tokens):
        """Of a prompt's complete blocks, how many of the first ones the server holds."""
        with self.lock:
            known, key, count = set(self.blocks.values()), None, 0
            for i in range(0, len(tokens) - BLOCK + 1, BLOCK):
                key = hash((key, tuple(tokens[i:i + BLOCK])))
                if key not in known:
                    break
                count += 1
            return count


def name_of(parent, tokens):
    """A block's name, as docs/fleet.md says."""
    before = parent.to_bytes(8, "big") if parent else hashlib.sha256(b"cllm kv block\0" + b"cllm-tiny").digest()[:8]
    words = b"".join(token.to_bytes(4, "big") for token in tokens)
    return max(int.from_bytes(hashlib.sha256(before + words).digest()[:8], "big"), 1)


class Load:
    """CLIENTS threads that hold random conversations until their share of `total` has ended."""

    def __init__(self, server, total, seed):
        self.server, self.total, self.seed = server, total, seed
        self.lock, self.begun, self.ended, self.requests, self.left = threading.Lock(), 0, 0, 0, 0
        dice = random.Random(seed)
        # Beginnings that conversations share.
        self.systems = ["You are helper " + " ".join(dice.choices(WORDS, k=dice.randint(5, 80))) for _ in range(12)]

    def run(self):
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def client(self, number):
        dice = random.Random(self.seed * 1000 + number)
        while True:
            with self.lock:
                if self.begun == self.total:
                    return
                self.begun += 1
            messages = [{"role": "system", "content": dice.choice(self.systems)}]
            for _ in range(dice.randint(1, 4)):
                messages.append({"role": "user", "content": " ".join(dice.choices(WORDS, k=dice.randint(1, 30)))})
                text = self.ask(dice, messages)
                messages.append({"role": "assistant", "content": text or "Yes."})
            with self.lock:
                self.ended += 1

    def ask(self, dice, messages):
        body = {"messages": messages, "max_tokens": dice.randint(1, 24), "n": dice.choice([1, 1, 1, 2]), "seed": dice.randint(0, 99)}
        self.requests += 1
        if dice.random() < 0.1:
            # A client that leaves in the middle of its answer.
            body |= {"stream": True, "max_tokens": 200}
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            with contextlib.closing(connection):
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
                connection.getresponse().readline()
                self.left += 1
            return None
        return self.server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]


def compare(server, subscribers):
    """Waits until the engine rests and all sets are equal. Returns their size."""
    wait_until("the engine rests", lambda: server.metric("cllm_requests_running") == 0 == server.metric("cllm_requests_waiting"))
    held = server.held()
    for subscriber in subscribers:
        end = time.monotonic() + 20
        while subscriber.names() != held and time.monotonic() < end:
            time.sleep(0.05)
        names = subscriber.names()
        assert names == held, f"{subscriber.how}: {len(names - held)} blocks too many, {len(held - names)} too few"
    assert held == server.held(), "something moved meanwhile"
    return len(held)


def main(program, total):
    folder = Path(tempfile.mkdtemp(prefix="cllm-events-"))
    events = free_port()
    server = Server(program, folder, f"tcp://127.0.0.1:{events}")
    relay, context = Relay(events), zmq.Context()
    steady = Subscriber(context, "steady", f"tcp://127.0.0.1:{events}")
    replay = Subscriber(context, "replay", f"tcp://127.0.0.1:{relay.port}")
    snapshot = Subscriber(context, "snapshot", f"tcp://127.0.0.1:{relay.port}")
    subscribers = [steady, replay, snapshot]
    # One that takes nothing, which nothing may wait for.
    idler = context.socket(zmq.SUB)
    idler.setsockopt(zmq.RCVHWM, 1)
    idler.setsockopt(zmq.SUBSCRIBE, b"")
    idler.connect(f"tcp://127.0.0.1:{events}")
    wait_until("all have subscribed", lambda: server.metric("cllm_kv_events_subscribers") == 4)
    compare(server, subscribers)
    sizes, loads = [], [Load(server, total // STOPS, seed) for seed in range(STOPS)]
    is_over = threading.Event()

    def cutter():
        done = 0
        while not is_over.wait(0.01):
            if (now := sum(load.ended for load in loads)) >= done + CUT_EVERY:
                done = now
                relay.cut()

    cutting = threading.Thread(target=cutter)
    cutting.start()
    began = time.monotonic()
    for load in loads:
        load.run()
        sizes.append(compare(server, subscribers))
    took = time.monotonic() - began
    is_over.set()
    cutting.join()

    # A subscriber that comes late, and a router's use of all this: how much of a prompt is held before it is sent.
    late = Subscriber(context, "snapshot", f"tcp://127.0.0.1:{events}")
    compare(server, [*subscribers, late])
    found = 0
    for system in loads[-1].systems:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "lamp?"}]
        tokens = server.post("/v1/chat/completions/render", {"messages": messages})["token_ids"]
        blocks = late.leading(tokens)
        usage = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert usage["prompt_tokens"] == len(tokens) and blocks * BLOCK <= cached + BLOCK, (blocks, cached)
        found += blocks
        compare(server, [late])
    assert found > 0, "no prompt had a block in the cache"

    lost = server.metric("cllm_kv_events_lost_total")
    conversations = sum(load.ended for load in loads)
    print(f"{conversations} conversations, {sum(load.requests for load in loads)} requests, {sum(load.left for load in loads)} clients "
          f"left early; {took:.1f} s")
    print(f"  compared      {len(sizes)} times, {min(sizes)} to {max(sizes)} blocks of {BLOCK} tokens: all sets equal the server's")
    for one in subscribers:
        print(f"  {one.how:<13} {one.messages} messages, {one.stored} blocks stored, {one.removed} removed; {one.gaps} gaps, "
              f"{one.replayed} messages replayed, cleared {one.cleared} times")
    print(f"  connections   cut {relay.cuts} times; {int(lost)} messages lost to slow subscribers")
    print(f"  prompts       {found} blocks of {len(loads[-1].systems)} prompts known before they were sent")
    assert conversations == total // STOPS * STOPS and relay.cuts >= conversations // CUT_EVERY // 2
    assert replay.gaps > 0 and replay.replayed > 0 and snapshot.cleared > 2 and steady.gaps == 0 and steady.removed > 0
    for one in [*subscribers, late]:
        one.stopped = True
    server.end()

    # Another life of the server at the same address: a subscriber comes back by itself and forgets what it knew.
    path = f"ipc://{folder}/events"
    first = Server(program, folder, path)
    follower = Subscriber(context, "snapshot", path)
    wait_until("it has subscribed", lambda: first.metric("cllm_kv_events_subscribers") == 1)
    Load(first, 8, 77).run()
    assert compare(first, [follower]) > 0
    first.process.kill()
    first.process.wait()
    second = Server(program, folder, path)
    assert compare(second, [follower]) == 0
    Load(second, 8, 78).run()
    print(f"  restarted     killed with -9, {compare(second, [follower])} blocks known again over {path.partition(':')[0]}")
    follower.stopped = True
    second.end()


main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
