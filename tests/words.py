#!/usr/bin/env python3
"""Prints 60 comments and 20 error messages of src/, chosen by a seed, so that a reader can judge whether each can be understood alone.

    python3 tests/words.py [SEED]

Without SEED it is 1. The choice depends only on the seed and on the texts: they are sorted by the SHA-256 of seed,
file, text and item, and the first ones are taken. So a changed line elsewhere leaves the sample as it is.

A comment is a block of neighbouring lines that begin with the same mark (`//`, `///` or `//!`), or the comment at the
end of a line of code. Behind it, in brackets, is the line of code that it belongs to. A message is a string literal of
at least three words in a statement that makes an error or logs a warning; most are shown behind the name of a field,
setting or file. Tests within src/ have no messages for users and are left out there.
"""

import hashlib
import re
import sys
from pathlib import Path

COMMENTS, MESSAGES = 60, 20
SRC = Path(__file__).resolve().parent.parent / "src"
MARK = re.compile(r"\s*(//[/!]?)(?!/)\s?(.*)")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
CHARACTER = re.compile(r"'(?:\\.|[^'\\])'")
# What stands in a statement that refuses something or complains of it.
ERRORS = re.compile(r"Err\(|RequestError|StartupError|Failure::|ok_or|map_err|\brefused?\(|\bunusable\(|\bfailed\(|bad_request|"
                    r"\breason\b|\bmessage\b|tracing::(?:warn|error)!")


def code_end(line):
    """The index at which a comment begins behind code, or the line's length."""
    at = 0
    while at < len(line):
        literal = LITERAL.match(line, at) or CHARACTER.match(line, at)
        if literal:
            at = literal.end()
        elif line.startswith("//", at):
            return at
        else:
            at += 1
    return at


def comments(lines):
    """Yields (line number from 1, text, line of code that it belongs to) of each comment."""
    at = 0
    while at < len(lines):
        first = MARK.match(lines[at])
        if not first:
            end = code_end(lines[at])
            if end < len(lines[at]):
                yield at + 1, lines[at][end:].lstrip("/! ").strip(), lines[at][:end].strip()
            at += 1
            continue
        begin, parts = at, []
        while at < len(lines) and (found := MARK.match(lines[at])) and found[1] == first[1]:
            parts.append(found[2].strip())
            at += 1
        code = (line.strip() for line in lines[at:])
        item = next((line for line in code if line and not line.startswith(("#[", "//"))), "")
        yield begin + 1, " ".join(part for part in parts if part), "" if first[1] == "//!" else item


def messages(lines):
    """Yields (line number from 1, text, nothing) of each message. A statement ends with a line that ends in `;`, `{`, `}` or `,`."""
    begin = 0
    for at, line in enumerate(lines):
        if line.rstrip().endswith((";", "{", "}", "},")) or line.rstrip().endswith(",") and "=>" in line:
            statement = "\n".join(lines[begin:at + 1])
            if ERRORS.search(statement):
                for literal in LITERAL.finditer(statement):
                    text = re.sub(r"\\\s*\n\s*", "", literal[1]).replace('\\"', '"')
                    words = re.sub(r"\{[^}]*\}", "", text).split()
                    if len(words) >= 3 and re.search(r"[a-z]{2,} ", text):
                        yield begin + 1 + statement.count("\n", 0, literal.start()), text, ""
            begin = at + 1


def main():
    seed = sys.argv[1] if len(sys.argv) > 1 else "1"
    found = {"comments": [], "messages": []}
    for path in sorted(SRC.rglob("*.rs")):
        name = path.relative_to(SRC.parent).as_posix()
        if name.endswith("_data.rs"):
            continue
        lines = path.read_text(encoding="utf-8").split("\n")
        found["comments"] += [(name, *entry) for entry in comments(lines)]
        code = [line if not MARK.match(line) else "" for line in lines]
        tests = next((at for at, line in enumerate(code) if line.startswith("#[cfg(test)]")), len(code))
        if not name.endswith("tests.rs"):
            found["messages"] += [(name, *entry) for entry in messages(code[:tests])]

    def place(entry):
        return hashlib.sha256(f"{seed}\n{entry[0]}\n{entry[2]}\n{entry[3]}".encode()).digest()

    for what, count in ("comments", COMMENTS), ("messages", MESSAGES):
        chosen = sorted(sorted(found[what], key=place)[:count])
        print(f"{count} of {len(found[what])} {what}, seed {seed}")
        for name, line, text, item in chosen:
            print(f"  {name}:{line}: {text}" + (f"    [{item}]" if item else ""))
        print()


if __name__ == "__main__":
    main()
