#!/usr/bin/env python3
"""What a prompt costs by where its beginning is: `benches/prompts.py target/release/cllm -m FILE [-n TOKENS] [flags of cllm serve]`.

Starts a server with RAM and disk tiers and measures the time to first token of one prompt of TOKENS tokens (8000): read cold; from RAM,
once other requests have taken its KV cells; from the disk after a restart, the files out of the system's page cache; and from RAM again.
Then four streams decode, and the prompt comes from RAM beside them: the longest gap between two of their tokens, beside the usual one.
Greedy texts are compared. At most half of the wanted ratios' time is the machine's to vary: run it alone. Takes two minutes over reading
the prompt twice.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time

from support.server import Server

SLOTS = 5
GENERATED = 16
WORDS = "the server loads a model while an old fox met seventeen lamps by river mill and every port asks who reads".split()


class TieredServer(Server):
    """A server with RAM and disk tiers."""

    def __init__(self, program, flags, cells, folder):
        command = [program, "serve", "-np", str(SLOTS), "-c", str(cells), "--kv-unified"]
        super().__init__([*command, "--prompt-ram", "4G", "--prompt-disk", f"{folder}:8G", *flags])

    def post(self, path, body):
        connection = self.connect(1200)
        connection.request("POST", path, json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer["data"]

    def length(self, text):
        return self.post("/encode", {"text": text})["length"]

    def generate(self, prompt, tokens):
        return self.post("/generate", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True})

    def stream(self, prompt, tokens, times):
        """Adds the time of each token to `times`."""
        connection = self.connect(1200)
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        connection.request("POST", "/generate", json.dumps(body))
        for line in connection.getresponse():
            if line.startswith(b"data:"):
                times.append(time.monotonic())
        connection.close()

    def metric(self, name):
        text = self.get("/metrics")
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))

    def take_all_cells(self, round_number):
        """Other prompts use each sequence once. Returns when all is saved that was to be saved."""
        asks = [threading.Thread(target=self.generate, args=(f"{round_number} {i} others", 8)) for i in range(SLOTS)]
        for ask in asks:
            ask.start()
        for ask in asks:
            ask.join()

    def wait_until_saved(self):
        """Until no more blocks are saved and the disk has what RAM has."""
        before = -1
        while before != (now := (self.metric("cllm_prompt_saved_blocks_total"), self.metric("cllm_prompt_disk_written_bytes_total"))):
            before = now
            time.sleep(1)


def text_of(server, tokens):
    """Words of about as many tokens."""
    piece = lambda n: " ".join(f"{WORDS[i * i % len(WORDS)]} {i}" for i in range(n))
    n = tokens
    while server.length(piece(n)) > tokens:
        n = n * 9 // 10
    return piece(n)


def first_token(server, prompt):
    """The server's own time to first token in seconds, the text, and tokens from the cells and from outside."""
    data = server.generate(prompt, GENERATED)
    timings = data["timings"]
    restored = timings.get("restored_prompt_tokens", 0)
    return timings["queue_s"] + timings["prefill_s"], data["text"], timings["cached_prompt_tokens"] - restored, restored


def drop_page_cache(folder):
    for name in os.listdir(folder):
        if name.endswith(".kv"):
            file = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def gaps(streams, since, until):
    """Seconds between two tokens of each stream, within these times."""
    within = [[t for t in times if since <= t <= until] for times in streams]
    return [b - a for times in within for a, b in zip(times, times[1:])]


def beside_streams(server, prompt):
    """Four streams decode; the prompt comes from outside the cells meanwhile."""
    server.take_all_cells("beside")
    streams = [[] for _ in range(4)]
    threads = [threading.Thread(target=server.stream, args=(f"stream {i}", 400, times)) for i, times in enumerate(streams)]
    for thread in threads:
        thread.start()
    while any(len(times) < 40 for times in streams):
        time.sleep(0.01)
    usual_from = max(times[20] for times in streams)
    while any(len(times) < 80 for times in streams):
        time.sleep(0.01)
    # The fifth sequence, in which the prompt may still lie.
    server.generate("one more that is new", 2)
    asked = time.monotonic()
    seconds, _, in_cells, restored = first_token(server, prompt)
    # Without the tokens that it generates beside them.
    usual, beside = gaps(streams, usual_from, asked), gaps(streams, asked, asked + seconds)
    for thread in threads:
        thread.join()
    return usual, beside, seconds, in_cells, restored


def main():
    program, flags, tokens = sys.argv[1], sys.argv[2:], 8000
    if "-n" in flags:
        at = flags.index("-n")
        tokens = int(flags[at + 1])
        del flags[at : at + 2]
    with tempfile.TemporaryDirectory() as folder:
        cells = tokens + 4096
        rows = []
        with TieredServer(program, flags, cells, folder) as server:
            server.generate("warm up", 8)
            prompt = text_of(server, tokens)
            print(f"{server.length(prompt)} tokens, {SLOTS} slots, {cells} cells")
            rows.append(("read cold", *first_token(server, prompt)))
            server.wait_until_saved()
            for name in ("from RAM", "from RAM, second"):
                server.take_all_cells(name)
                rows.append((name, *first_token(server, prompt)))
            usual, beside, seconds, in_cells, restored = beside_streams(server, prompt)
            server.wait_until_saved()
        drop_page_cache(folder)
        size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
        with TieredServer(program, flags, cells, folder) as server:
            server.generate("warm up", 8)
            rows.append(("from disk, restarted", *first_token(server, prompt)))
            server.take_all_cells("last")
            rows.append(("from RAM, restarted", *first_token(server, prompt)))
        cold = rows[0]
        print(f"{size / 1e6:.0f} MB on disk")
        for name, took, text, cells_, outside in rows:
            same = "the same text" if text == cold[2] else "ANOTHER TEXT"
            print(f"{name:<22} {took:9.3f} s to the first token, 1/{cold[1] / took:<6.1f} {cells_:>6} tokens from cells, {outside:>6} from outside, {same}")
        longest, middle = max(beside), statistics.median(usual)
        print(f"beside 4 streams       {seconds:9.3f} s, {in_cells} from cells, {restored} from outside")
        print(f"  gap between two tokens: usual {middle * 1e3:.1f} ms, longest beside the restore {longest * 1e3:.1f} ms, {longest / middle:.2f}x (longest without {max(usual) / middle:.2f}x)")
        if any(text != cold[2] for _, _, text, _, _ in rows):
            sys.exit("texts differ")


if __name__ == "__main__":
    main()
