"""What the built-in model knows about cllm: one `Kind` per question, its one answer, and how people ask it.

A pattern is a question in lower case without its final mark. `[a|b|]` picks one branch (they nest), `{NAME}`
picks from MACROS, and `<port>` is a value that the answer repeats; where a pattern names no value the answer
takes the kind's default. The patterns are for training; the questions in heldout.jsonl are kept out of it.
"""
from . import about, calling, commands, configuring, requests, serving, starting, talk
from .kind import MACROS, Kind
from .unknown import UNKNOWN_ANSWER, UNKNOWN_MACROS, UNKNOWN_PATTERNS

KINDS = sum((room.KINDS for room in (starting, requests, calling, serving, configuring, commands, about, talk)), ())
