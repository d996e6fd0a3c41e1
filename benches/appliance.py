#!/usr/bin/env python3
"""The first token on a fresh machine: `benches/appliance.py target/release/cllm -m FILE [-n TOKENS] [-q TOKENS] [--rounds N]`.

Bundles two appliances of the model: one with a system prompt of TOKENS tokens (2000) in it (`cllm bundle --warm`), one without. Each round (7)
starts both, in turns which is first, and sends each its first request: with the system prompt to the one, without it to the other, and the
same question of TOKENS tokens (-q, 32). Prints the time to first token of both by the client's clock, their ratio, and what each took to be
ready; and the time to first token of one that carries no prompt and reads it, whose greedy text must be the same.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from support.server import Server

GENERATED = 8
WORDS = "the server loads a model while an old fox met seventeen lamps by river mill and every port asks who reads".split()


class TimedServer(Server):
    """A server that asks and counts. `ready`: the seconds that its start took."""

    def __init__(self, command):
        began = time.monotonic()
        super().__init__(command)
        self.ready = time.monotonic() - began

    def length(self, text):
        connection = self.connect(1200)
        connection.request("POST", "/encode", json.dumps({"text": text}))
        return json.loads(connection.getresponse().read())["data"]["length"]

    def ask(self, messages):
        """Seconds to the first token, the text, tokens of the prompt and those of them that were not read."""
        body = {"messages": messages, "temperature": 0, "max_tokens": GENERATED, "ignore_eos": True, "stream": True}
        connection = self.connect(1200)
        began, first, text = time.monotonic(), None, ""
        connection.request("POST", "/generate", json.dumps(body))
        for line in connection.getresponse():
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line[5:])
            first = first or time.monotonic() - began
            text += event.get("token", "")
            if event.get("done"):
                return first, text, event["prompt_tokens"], event["timings"]["cached_prompt_tokens"]
        sys.exit("the answer broke off")


def text_of(server, tokens, salt):
    """Words of about as many tokens."""
    piece = lambda n: " ".join(f"{WORDS[(i * i + salt) % len(WORDS)]} {i + salt}" for i in range(n))
    n = tokens
    while n > 1 and server.length(piece(n)) > tokens:
        n = min(n - 1, n * 19 // 20)
    return piece(n)


def taken(name, values):
    return f"{name:<44} {statistics.median(values):8.3f} s  ({min(values):.3f} to {max(values):.3f})"


def main():
    flags, given = sys.argv[2:], {"-n": 2000, "-q": 32, "--rounds": 7}
    for name in given:
        if name in flags:
            at = flags.index(name)
            given[name] = int(flags[at + 1])
            del flags[at : at + 2]
    program, rounds = sys.argv[1], given["--rounds"]
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        with TimedServer([program, "serve", "-np", "1", "-c", "512", *flags]) as server:
            system = {"role": "system", "content": text_of(server, given["-n"], 0)}
            question = {"role": "user", "content": text_of(server, given["-q"], 7)}
            print(f"a system prompt of {server.length(system['content'])} tokens, a question of {server.length(question['content'])}")
        with open(path("warm.json"), "w", encoding="utf-8") as file:
            json.dump({"messages": [system]}, file)
        for name, more in (("plain", []), ("warm", ["--warm", path("warm.json")])):
            subprocess.run([program, "bundle", *flags, *more, "-o", path(name)], check=True)
        behind, without, ready_behind, ready_without, cold = [], [], [], [], []
        texts = set()

        def warm_one():
            with TimedServer([path("warm")]) as server:
                first, text, tokens, cached = server.ask([system, question])
                behind.append(first)
                ready_behind.append(server.ready)
                texts.add(text)
                if len(behind) == 1:
                    print(f"with it: {tokens} tokens, of which {tokens - cached} are read")

        def plain_one():
            with TimedServer([path("plain")]) as server:
                first, _, tokens, cached = server.ask([question])
                without.append(first)
                ready_without.append(server.ready)
                if len(without) == 1:
                    print(f"without: {tokens} tokens, of which {tokens - cached} are read")

        for number in range(rounds):
            for one in (warm_one, plain_one) if number % 2 else (plain_one, warm_one):
                one()
        with TimedServer([path("plain")]) as server:
            first, text, _, _ = server.ask([system, question])
            cold.append(first)
            texts.add(text)
        print(taken("first token behind the warm system prompt", behind))
        print(taken("first token without a system prompt", without))
        print(taken("first token where the system prompt is read", cold))
        print(taken("start, warm", ready_behind))
        print(taken("start, without", ready_without))
        print(f"ratio {statistics.median(behind) / statistics.median(without):.2f}")
        if len(texts) > 1:
            sys.exit(f"texts differ: {texts}")


if __name__ == "__main__":
    main()
