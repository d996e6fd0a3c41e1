"""Writes the inputs that fuzzing starts from: FOLDER/gguf, FOLDER/template and FOLDER/body, and a dictionary of words for each.

    python3 tests/fuzzing/seeds.py FOLDER

Everything comes from this file and from the inputs of other tests: tests/templates and tests/peer/cases.json.
"""

import json
import pathlib
import re
import struct
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARRAY, U64, I64, F64 = range(13)
FORMS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def packed(kind, value):
    if kind == STR:
        text = value.encode()
        return struct.pack("<Q", len(text)) + text
    return struct.pack("<" + FORMS[kind], value)


def gguf(keys, tensors=(), version=3):
    """A model file without tensor data. `keys`: name -> (type, value), or (type, list) for an array."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, (kind, value) in keys.items():
        out += packed(STR, name)
        if isinstance(value, list):
            out += struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(packed(kind, entry) for entry in value)
        else:
            out += struct.pack("<I", kind) + packed(kind, value)
    for name, dims, kind, offset in tensors:
        out += packed(STR, name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return out


def vocabulary(model, tokens, **more):
    keys = {"general.architecture": (STR, "llama"), "tokenizer.ggml.model": (STR, model)}
    keys["tokenizer.ggml.tokens"] = (STR, tokens)
    for name, value in more.items():
        keys[f"tokenizer.ggml.{name}"] = value
    return gguf(keys)


def models():
    numbers = {f"n.{kind}": (kind, 1) for kind in FORMS}
    lists = {f"l.{kind}": (kind, [0, 1]) for kind in FORMS}
    yield "numbers", gguf(numbers | lists | {"s": (STR, "text"), "ss": (STR, ["a", "", "bc"])})
    tensors = [("a", [32, 2], 0, 0), ("b", [256], 12, 256), ("c", [1, 2, 3, 4], 99, 512)]
    yield "tensors", gguf({"general.alignment": (U32, 64)}, tensors)
    yield "version-2", gguf({"general.name": (STR, "old")}, version=2)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["\u2581", "\u2581Hello", "Hel", "lo", "H", "e", "l", "o", ",", "w", "r", "d", "\u2581world", "\u00e4"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *words]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    scores = [-float(n) for n in range(len(tokens))]
    ends = {"bos_token_id": (U32, 1), "eos_token_id": (U32, 2), "unknown_token_id": (U32, 0)}
    more = {"token_type": (I32, kinds), "scores": (F32, scores), "add_bos_token": (BOOL, True)}
    yield "spm", vocabulary("llama", tokens, **more, **ends)
    printable = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    merged = ["He", "ll", "llo", "Hello", "\u0120w", "or", "<|im_end|>", "<|im_start|>"]
    merges = ["H e", "l l", "ll o", "He llo", "\u0120 w", "o r"]
    kinds = [*[1] * (len(printable) + 6), 3, 3]
    for pre in ["gpt-2", "qwen2", "llama-bpe", "deepseek-llm"]:
        more = {"pre": (STR, pre), "merges": (STR, merges), "token_type": (I32, kinds), "eos_token_id": (U32, 262)}
        yield f"bpe-{pre}", vocabulary("gpt2", [*printable, *merged], **more)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581hello", "\u2581", "llo", "\u2581world", "\u2581,", "s", "\u2581end"]
    more = {"cls_token_id": (U32, 2), "seperator_token_id": (U32, 3), "unknown_token_id": (U32, 1), "token_type_count": (U32, 2)}
    yield "wordpiece", vocabulary("bert", pieces, **more)
    yield "unigram", vocabulary("t5", tokens, scores=(F32, scores))


# Behind the templates of `tests/templates`, answers in the forms of calls and thoughts that are published.
ANSWERS = [
    "Hello!",
    "<think>Hm</think>So.",
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>',
    '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "B"}}]',
    '<|python_tag|>{"name": "weather", "parameters": {"city": "B", "days": 1}}; {"name": "weather", "parameters": {}}',
    "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.weather<|message|>{}",
    '<function=weather>{"city": "B"}</function>',
    "<function=weather>\n<parameter=city>\nBern\n</parameter>\n</function>",
    '[weather(city="Bern", days=2)]',
    "<weather><city>Bern</city><days>2</days></weather>",
]

# Expressions and statements that templates use and those of `tests/templates` don't.
JINJA = """\
{%- macro m(x, y=1) -%}{{ x }}{{ y }}{%- endmacro -%}{{ m(messages[0].content, y=2) }}
{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index0 %}{% endfor %}{{ ns.n }}
{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ tools | tojson(indent=2) }}{{ messages[1:][::-1] | length }}{{ (messages | last).content | trim | upper }}
{{ strftime_now('%d %b %Y %H:%M') }}{% if not tools is defined %}{{ raise_exception('no') }}{% endif %}
{{ 'a %s' % 'b' }}{{ '{} {}'.format(1, 'x') }}{{ 2 ** 10 // 3 % 7 }}{{ 'x' * 3 ~ 1.5 }}{{ ['a', 'b'][-1] }}
{% for k, v in {'a': 1, 'b': [2, 3]}.items() %}{{ k }}{{ v }}{% if loop.last %}{% break %}{% endif %}{% endfor %}
{{ 'a,b'.split(',')[0].replace('a', 'c').strip() }}{{ content is string and content is not none }}{{ 'x' in 'xyz' }}
{% generation %}{{ messages[-1]['content'] | default('', true) }}{% endgeneration %}{# a remark #}{{ range(3) | list }}
{% filter upper %}a{% endfilter %}{% call(x) m() %}{{ x }}{% endcall %}{% with a = 1 %}{{ a }}{% endwith %}{% do x %}
{{ messages | groupby('role') }}{{ [3, 1] | sort | first }}{{ {'b': 1} | dictsort }}{{ 'a' | e | safe | indent(4) | title }}
"""

BODIES = {
    "/generate": {"prompt": "Hi", "max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
                  "presence_penalty": 0.1, "frequency_penalty": 0.1, "seed": 1, "stop": ["a"], "ignore_eos": True, "min_tokens": 1,
                  "stop_token_ids": [3], "priority": 1, "deadline_ms": 1000, "prediction": "Hi there"},
    "/generate_stream": {"prompt": "Hi", "max_tokens": 3},
    "/encode": {"text": "Hi"},
    "/decode": {"tokens": [1, 2]},
    "/v1/chat/completions": {
        "model": "m", "max_tokens": 4, "n": 2, "logprobs": True, "top_logprobs": 2, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                     {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                     {"role": "tool", "tool_call_id": "c", "content": "1"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}],
        "tool_choice": "auto", "parallel_tool_calls": False, "logit_bias": {"5": -100}, "reasoning_effort": "low", "user": "u"},
    "/v1/chat/completions/render": {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"enable_thinking": False}},
    "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 2, "echo": True, "logprobs": 1, "suffix": None, "n": 2, "best_of": 2},
    "/v1/completions/render": {"prompt": [[1, 2], [3]]},
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], "instructions": "Be brief.", "max_output_tokens": 3,
                      "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}}, "reasoning": {"effort": "low"},
                      "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}], "stream": True},
    "/v1/messages": {"model": "m", "max_tokens": 3, "system": [{"type": "text", "text": "s"}], "stop_sequences": ["x"], "thinking": {"type": "enabled", "budget_tokens": 1024},
                     "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                                  {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
                                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]}],
                     "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/embeddings": {"input": ["a"], "encoding_format": "base64"},
    "/rerank": {"query": "a", "documents": ["b"], "top_n": 1},
    "/infill": {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "f", "text": "t"}], "prompt": ""},
    "/api/chat": {"messages": [{"role": "user", "content": "Hi", "images": []}], "options": {"num_predict": 3, "temperature": 0}, "format": "json",
                  "think": True, "stream": False, "keep_alive": "5m"},
    "/api/generate": {"prompt": "Hi", "system": "s", "template": "t", "raw": True, "options": {"num_predict": 2, "stop": ["a"]}, "format": {"type": "object"}},
    "/api/embed": {"input": "a"},
    "/api/show": {"model": "m"},
}

SCHEMA = {"type": "object", "required": ["a"], "additionalProperties": False, "$defs": {"d": {"type": "string", "maxLength": 5}},
          "properties": {"a": {"enum": ["x", 1, None]}, "b": {"type": "array", "items": {"$ref": "#/$defs/d"}, "minItems": 1},
                         "c": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^a+$"}]}, "d": {"const": True}}}
GRAMMARS = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
    {"response_format": {"type": "json_object"}},
    {"guided_regex": "[a-c]+x{2,3}"},
    {"guided_choice": ["yes", "no"]},
    {"grammar": 'root ::= a | "b" [c-d]*\na ::= "x" (a)? # end'},
    {"structured_outputs": {"regex": "a|b"}},
    {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": SCHEMA}}], "tool_choice": "required"},
]


def bodies():
    for path, body in BODIES.items():
        yield path, body
    for case in json.loads((TESTS / "peer/cases.json").read_text()):
        if "body" in case:
            yield case["path"], case["body"]
    for grammar in GRAMMARS:
        yield "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, **grammar}


def dictionary(texts, pattern):
    """Words of `texts`, one a line, as libFuzzer reads them."""
    words = sorted({word for text in texts for word in re.findall(pattern, text) if 1 < len(word) <= 40 and word.isascii()})
    escaped = [word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\x0A") for word in words]
    return "".join(f'"{word}"\n' for word in escaped)


def main(folder):
    templates = [path.read_text() for path in sorted((TESTS / "templates").rglob("*.jinja"))]
    shapes = [f"{template}\0{ANSWERS[i % len(ANSWERS)]}" for i, template in enumerate(templates)]
    lines = [f"{line}\0{ANSWERS[i % len(ANSWERS)]}" for i, line in enumerate(JINJA.splitlines())]
    asked = [f"{path}\n{json.dumps(body)}" for path, body in bodies()]
    sets = {
        "gguf": [content for _, content in models()],
        "template": [text.encode() for text in [*shapes, *lines]],
        "body": [text.encode() for text in asked],
    }
    words = {
        "gguf": dictionary([content.decode("latin-1") for content in sets["gguf"]], r"[a-z0-9_]+(?:\.[a-z0-9_]+)+|[a-z0-9-]{4,}"),
        "template": dictionary([*shapes, *lines], r"\{%-? *\w+|-?%\}|\{\{-?|-?\}\}|\| *\w+|\.\w+\(|<[^<> \n]+>|\[\w+\]|\w{3,}"),
        "body": dictionary(asked, r'"[^"\n]{1,30}"|/[a-z0-9/_-]+\n|[\[\]{},:]+'),
    }
    for name, contents in sets.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        for i, content in enumerate(contents):
            (place / f"{i:03}").write_bytes(content)
        (folder / f"{name}.dict").write_text(words[name])


main(pathlib.Path(sys.argv[1]))
