#!/usr/bin/env python3
"""Fair shares by the clock: `benches/fair.py target/release/cllm [flags of cllm serve]`.

Starts servers of 8 slots with a key file and measures three things, each beside what the order of arrival gives (`--fair-by none`):
how long one request waits behind 100 of another key; the time to first token of an interactive stream beside a batch of 500; and the
shares of four keys with weights 1:1:2:4 in SECONDS (60). Without flags the null decoder serves, at 20 ms a step; with `-m FILE` a model
does. It takes about seven minutes. Times depend on the machine: `tests/simulation/fair.rs` counts steps instead and holds the engine to them.
"""

import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time

from support.server import Server

SECONDS = float(os.environ.get("SECONDS_OF_SHARES", "60"))
NULL = ["--decoder", "null", "--null-step-us", "20000"]
KEYS = """\
crowd name=crowd
lone  name=lone admin=yes
night name=night priority=batch
one   name=one
also  name=also
two   name=two  weight=2
four  name=four weight=4
"""


class FairServer(Server):
    """A server with the keys above."""

    def __init__(self, program, flags, fair_by):
        self.folder = tempfile.TemporaryDirectory()
        keys = os.path.join(self.folder.name, "keys")
        with open(keys, "w", encoding="ascii") as file:
            file.write(KEYS)
        command = [program, "serve", "-np", "8", "--queue", "700", "--api-key-file", keys, "--fair-by", fair_by, *flags]
        super().__init__(command, ended_by=signal.SIGKILL)

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()

    def ask(self, key, tokens, prompt="Once upon a time"):
        """Asks for a stream. Returns seconds until the first token and until the end."""
        connection = self.connect(600)
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        started = time.monotonic()
        try:
            connection.request("POST", "/generate", json.dumps(body), {"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            first = None
            for line in answer:
                if line.startswith(b"data:") and first is None:
                    first = time.monotonic() - started
            return first, time.monotonic() - started
        except (OSError, http.client.HTTPException):
            return None, None
        finally:
            connection.close()

    def crowd(self, key, requests, tokens):
        """Sends requests whose answers aren't read, and waits until they are in."""
        for i in range(requests):
            threading.Thread(target=self.ask, args=(key, tokens, f"Number {i}"), daemon=True).start()
        while self.running_and_waiting() < requests:
            time.sleep(0.01)

    def get(self, path):
        return super().get(path, {"Authorization": "Bearer lone"})

    def running_and_waiting(self):
        names = ("cllm_requests_running ", "cllm_requests_waiting ")
        return sum(int(line.split()[1]) for line in self.get("/metrics").splitlines() if line.startswith(names))


def behind_a_crowd(start):
    """100 requests of one key and then 1 of another."""
    with start("key") as server:
        alone = min(server.ask("lone", 50)[1] for _ in range(5))
    waits = {}
    for fair_by in ("key", "none"):
        with start(fair_by) as server:
            server.crowd("crowd", 100, 50)
            waits[fair_by] = server.ask("lone", 50)[0]
    print(f"one behind 100: one request takes {alone:.2f} s; the one's first token comes after {waits['key']:.2f} s")
    print(f"  in turns ({waits['key'] / alone:.2f} requests), {waits['none']:.2f} s as they come")


def beside_a_batch(start):
    """An interactive stream beside a batch of 500."""
    firsts = {}
    for name, fair_by, batch in (("alone", "key", 0), ("beside", "key", 500), ("in order", "none", 500)):
        with start(fair_by) as server:
            server.ask("lone", 2)
            if batch:
                server.crowd("night", batch, 200)
            # Not in step with the batch. In the order of arrival the first one waits for all of it.
            samples = []
            for i in range(1 if name == "in order" else 15):
                time.sleep(0.137)
                samples.append(server.ask("lone", 2, f"Question {i}: how do I change the port? " * 8)[0])
            firsts[name] = statistics.median(samples)
    ratio = firsts["beside"] / firsts["alone"]
    print(f"stream beside a batch of 500: first token after {firsts['alone'] * 1e3:.0f} ms alone (median),")
    print(f"  {firsts['beside'] * 1e3:.0f} ms beside it ({ratio:.2f}x), {firsts['in order'] * 1e3:.0f} ms as they come")


def shares(start):
    """Four keys with weights 1:1:2:4, each with 16 requests open."""
    weights = {"one": 1, "also": 1, "two": 2, "four": 4}
    with start("key") as server:
        over = threading.Event()

        def keep_asking(key):
            while not over.is_set():
                server.ask(key, 50)

        for key in list(weights) * 16:
            threading.Thread(target=keep_asking, args=(key,), daemon=True).start()
        time.sleep(2)
        counts = lambda: {key["name"]: key["generated_tokens_total"] for key in json.loads(server.get("/keys"))["data"]["keys"]}
        before = counts()
        time.sleep(SECONDS)
        after = counts()
        over.set()
    got = {key: after[key] - before[key] for key in weights}
    for key, weight in weights.items():
        share = got[key] / sum(got.values())
        off = share / (weight / sum(weights.values())) - 1
        print(f"weight {weight}: {got[key]} tokens in {SECONDS:.0f} s, {share * 100:.1f} % ({off * 100:+.1f} % of its share)")


def main():
    program, flags = sys.argv[1], sys.argv[2:] or NULL
    start = lambda fair_by: FairServer(program, flags, fair_by)
    behind_a_crowd(start)
    beside_a_batch(start)
    shares(start)


if __name__ == "__main__":
    main()
