"""The commands of docs/clients.md, each by its recipe alone, against `cllm serve` with its built-in model.

`recipes.py CLLM BIN [NAME...]`: CLLM is the program, BIN the folder with their commands. A recipe's files are written into a
fresh home, its last block is run by `sh` in a fresh folder; both are taken from the document as they stand there, but for the
port. It passes if it ends well and has said something that the server counts as a finished answer.

Started alone in a network of its own (`unshare -n`), it sees to it that loopback is up.
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

NAMES = ["Codex", "Claude Code", "opencode", "qwen-code", "llm"]
# For a model out of its depth: see "With the built-in model" in the document.
FLAGS = "-c 131072 -np 2 --temp 2 --top-k 0 --top-p 1 --min-p 0 --seed 1".split()
SECONDS = 240


def loopback_up():
    """Sets the flags UP and RUNNING of `lo`, where this is allowed."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)
        try:
            fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS
        except PermissionError:
            pass  # It is up where we are not in a network of our own.


def recipes(document):
    """Name -> (files: path -> text, commands). A file is a block behind a line "`~/PATH`:", the commands are the last block of no
    language in the program's section."""
    found, name, path, block = {}, None, None, None
    for line in document.splitlines():
        if block is not None:
            if line != "```":
                block.append(line + "\n")
                continue
            if path:
                found[name][0][path] = "".join(block)
            elif language == "":
                found[name] = (found[name][0], "".join(block))
            path, block = None, None
        elif line.startswith("### "):
            name = line[4:]
            found[name] = ({}, "")
        elif line.startswith("```"):
            language, block = line[3:], []
        elif line.strip():
            of_file = re.fullmatch(r"`~/(.+)`:", line)
            path = of_file and of_file[1]
    return found


def start(cllm, folder):
    """The server and its port, once it listens."""
    log = open(folder / "log", "w+")
    command = [cllm, "serve", "--port", "0", "--log-format", "json", *FLAGS]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    while True:
        found = re.search(r"listening on http://[0-9.]+:([0-9]+)", (folder / "log").read_text())
        if found:
            return server, found[1]
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.1)


def lines(log):
    """The log's lines about requests that generate."""
    said = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in said if line["message"] == "request" and "outcome" in line]


def run(name, recipe, port, binaries, folder):
    files, commands = recipe
    assert commands, f"{name}: the document has no recipe"
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    subprocess.run(["git", "init", "-q"], cwd=work, check=True)
    clean = {"HOME": str(home), "PATH": f"{binaries}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    shell = ["sh", "-ec", commands.replace("127.0.0.1:8080", f"127.0.0.1:{port}")]
    return subprocess.run(shell, cwd=work, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)


def main():
    cllm, binaries, *names = sys.argv[1:]
    known = recipes(pathlib.Path("docs/clients.md").read_text())
    loopback_up()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        server, port = start(os.path.abspath(cllm), folder)
        try:
            for number, name in enumerate(names or NAMES):
                own = folder / str(number)
                own.mkdir()
                before, started = len(lines(folder / "log")), time.monotonic()
                done = run(name, known[name], port, os.path.abspath(binaries), own)
                requests = lines(folder / "log")[before:]
                finished = [line for line in requests if line["outcome"] in ("eos", "stop")]
                told = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{requests}"
                assert done.returncode == 0 and done.stdout.strip() and finished, f"{name} failed:\n{told}"
                shutil.rmtree(own)
                print(f"{name}: {len(finished)} of {len(requests)} answers finished in {time.monotonic() - started:.0f} s", flush=True)
        finally:
            server.terminate()
            server.wait()


main()
