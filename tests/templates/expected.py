#!/usr/bin/env python3
"""Renders each template with each case in Python's Jinja, set up as transformers does, and writes expected.json.

Run in this folder with jinja2 installed. The Rust tests compare what cllm renders with it.
"""

import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}` only marks what is trained on."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception

here = Path(__file__).parent
cases = json.loads((here / "cases.json").read_text())
expected = {}
for path in sorted(here.glob("*.jinja")):
    template = environment.from_string(path.read_text())
    texts = expected.setdefault(path.stem, {})
    for name, case in cases.items():
        if case.get("tools") and "tools" not in path.read_text():
            continue
        try:
            texts[name] = template.render(
                messages=case["messages"],
                tools=case.get("tools"),
                documents=None,
                add_generation_prompt=True,
                bos_token="<s>",
                eos_token="</s>",
                **case.get("kwargs", {}),
            )
        except TemplateError as error:
            texts[name] = {"raises": str(error)}
(here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
