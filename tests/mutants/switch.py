#!/usr/bin/env python3
"""Compiles many mutants into one program, and runs the tests with each of them: `switch.py TREE ROOM SHARD OUTPUT [FEATURE]`.

cargo-mutants says where the mutants of `TREE/src/ROOM` are. A function with mutants gets a `match` with one arm for each of them, and the
variable `BROKEN` chooses the arm. So there is one build for all, where a build for each would take longer than its tests. (Untch, Offutt and
Harrold 1993, "Mutation analysis using mutant schemata".) Mutants that don't compile are left out: the compiler says which ones.

Writes a line for each mutant to OUTPUT, and prints those that no test notices.
"""

import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

# Seconds that tests may take before a mutant counts as one that hangs. They take up to 15.
HANGS_AFTER = 150
TESTS = ["simulation", "embedding_simulation"]
SWITCH = """
/// The mutant that runs; 0: none.
pub fn broken() -> u32 {
    static BROKEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *BROKEN.get_or_init(|| std::env::var("BROKEN").ok().and_then(|number| number.parse().ok()).unwrap_or(0))
}
"""


def listed(tree, room, shard, features):
    """The mutants of a shard as cargo-mutants lists them, each with a number from 1 on."""
    config = Path(__file__).with_name("mutants.toml")
    command = ["cargo", "mutants", "--dir", tree, "--config", config, "--list", "--json", "--no-shuffle", "--file", f"src/{room}/**"]
    command += ["--shard", shard, "--sharding", "round-robin", *features]
    mutants = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [dict(mutant, number=number) for number, mutant in enumerate(mutants, 1)]


def offset(lines, place):
    return sum(map(len, lines[: place["line"] - 1])) + place["column"] - 1


def body_of(source, begin, end):
    """Where a function's body begins and ends, inside its braces."""
    depth = 0
    for at in range(begin, end):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(source[at], 0)
        if source[at] == "{" and depth == 0:
            return at + 1, end - 1
    raise ValueError("a function without a body")


def switched(source, mutants):
    """The source with an arm for each mutant. A comment with the mutant's number begins each arm, to find the place of an error."""
    lines, functions = source.splitlines(keepends=True), collections.defaultdict(list)
    for mutant in mutants:
        functions[json.dumps(mutant["function"]["span"], sort_keys=True)].append(mutant)
    edits = []
    for span, own in functions.items():
        span = json.loads(span)
        begin, end = body_of(source, offset(lines, span["start"]), offset(lines, span["end"]))
        arms = "\nmatch crate::broken() {\n"
        for mutant in own:
            broken = mutant["replacement"]
            if mutant["genre"] != "FnValue":
                first, last = offset(lines, mutant["span"]["start"]), offset(lines, mutant["span"]["end"])
                broken = source[begin:first] + broken + source[last:end]
            arms += f"/*MUTANT {mutant['number']}*/ {mutant['number']} => {{ {broken} }}\n"
        edits.append((begin, end, arms + f"/*MUTANT 0*/ _ => {{{source[begin:end]}}}\n}}\n"))
    for begin, end, text in sorted(edits, reverse=True):
        source = source[:begin] + text + source[end:]
    return source


def mutant_at(source, line):
    """The number of the mutant whose arm has this line."""
    before = re.findall(r"/\*MUTANT (\d+)\*/", "\n".join(source.splitlines()[:line]))
    return int(before[-1]) if before else 0


def build(tree, mutants, features):
    """Compiles all mutants that can be compiled. Returns them and the test programs by name."""
    sources = {name: (tree / name).read_text() for name in {mutant["file"] for mutant in mutants}}
    root = tree / "src/lib.rs"
    root.write_text(root.read_text() + SWITCH)
    mutants = [mutant for mutant in mutants if mutant["function"]]
    while True:
        written = {name: switched(text, [m for m in mutants if m["file"] == name]) for name, text in sources.items()}
        for name, text in written.items():
            (tree / name).write_text(text)
        tests = [flag for name in TESTS for flag in ("--test", name)]
        command = ["cargo", "test", "--no-run", "--message-format", "short", "--lib", *tests, *features]
        done = subprocess.run(command, cwd=tree, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            programs = re.findall(r"Executable .*?\((.*?/deps/(\w+)-\w+)\)", done.stderr)
            return mutants, {name: program for program, name in programs}
        errors = re.findall(r"^(\S+?):(\d+):\d+: error", done.stderr, re.M)
        failing = {mutant_at(written[name], int(line)) for name, line in errors if name in written} - {0}
        if not failing:
            sys.exit(done.stderr)
        mutants = [mutant for mutant in mutants if mutant["number"] not in failing]


def outcome(tree, program, number, only=()):
    """What the tests of one program say of a mutant."""
    env = dict(os.environ, BROKEN=str(number), CARGO_MANIFEST_DIR=str(tree), RUST_BACKTRACE="0")
    try:
        done = subprocess.run([program, "-q", *only], cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=HANGS_AFTER)
    except subprocess.TimeoutExpired:
        return "hangs"
    return "caught" if done.returncode else "survives"


def main():
    tree, room, shard, output = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    features = ["--features", sys.argv[5]] if len(sys.argv) > 5 else []
    found = listed(tree, room, shard, features)
    mutants, programs = build(tree, found, features)
    runs = [(programs["cllm"], [room.replace("/", "::") + "::"]), (programs["cllm"], [])]
    runs += [(programs[name], []) for name in TESTS]
    for program, only in runs:
        said = outcome(tree, program, 0, only)
        if said != "survives":
            sys.exit(f"without a mutant: {said}: cd {tree}; BROKEN=0 CARGO_MANIFEST_DIR=$PWD {program} {' '.join(only)}")
    counts = collections.Counter({"don't compile": len(found) - len(mutants)})
    with output.open("w") as lines:
        for mutant in mutants:
            said = "survives"
            for program, only in runs:
                said = outcome(tree, program, mutant["number"], only)
                if said != "survives":
                    break
            counts[said] += 1
            print(said, mutant["name"], file=lines, flush=True)
            if said == "survives":
                print(mutant["name"], flush=True)
    print(f"{room} {shard}, {len(found)} mutants: " + ", ".join(f"{number} {said}" for said, number in sorted(counts.items())))


main()
