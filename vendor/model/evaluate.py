"""Asks the held-out questions and counts right answers.

    python evaluate.py --local cllm-tiny.gguf        # our own float32 forward pass over the GGUF's weights
    python evaluate.py --url http://127.0.0.1:8080   # a running server
    python evaluate.py --questions heldout_tools.jsonl --local cllm-tiny.gguf

An answer is right if it contains every literal in `must` and no other kind's mark (facts.py), unless the
expected answer contains that mark too. The cases of heldout_tools.jsonl name the tools that the request brings and
expect a call (same name, same arguments), an exact sentence, or JSON of equal value. Over HTTP they go to
/v1/chat/completions, the others to /generate. `--local` also reports by how much the top token leads.
"""
import argparse
import json
import re
import sys
import urllib.request
from pathlib import Path

import facts
from tools import call_text

HERE = Path(__file__).parent
MAX_TOKENS = 160


def literal(mark):
    """A kind's mark up to its first value."""
    return re.split(r"<\w+>", mark)[0]


MARKS = {k.name: literal(k.marks[0]) for k in facts.KINDS}
MARKS["unknown"] = "I don't know that"
MARKS["story"] = "Once upon a time there was"


CALL = re.compile(r"\s*<tool_call>\n(.*)\n</tool_call>\s*", re.DOTALL)


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def equal(value, wanted):
    """Equal as JSON: 1 is not true, and an object's order doesn't count."""
    return json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def faults(case, answer):
    """Why the answer is wrong; empty if it is right. `answer` is the text, with a call as the model writes it."""
    if "must" in case:
        found = ["lacks %r" % m for m in case["must"] if m not in answer]
        for kind, mark in MARKS.items():
            if kind != case["kind"] and mark in answer and mark not in case["answer"]:
                found.append("sounds like " + kind)
        return found
    if "call" in case:
        call = CALL.fullmatch(answer)
        return [] if call and equal(parsed(call[1]), case["call"]) else ["not the call %s" % json.dumps(case["call"])]
    if "json" in case:
        return [] if equal(parsed(answer), case["json"]) else ["not %s" % json.dumps(case["json"])]
    return [] if answer == case["answer"] else ["not %r" % case["answer"]]


def wanted_text(case):
    """The answer word for word."""
    if "call" in case:
        return call_text(case["call"]["name"], case["call"]["arguments"])
    return json.dumps(case["json"]) if "json" in case else case["answer"]


def tools_of(case):
    """The `tools` of an OpenAI request from the short form {"get_weather": ["city: string", "unit?: string"]}."""
    found = []
    for name, params in case.get("tools", {}).items():
        split = [(param.split(": ")[0].rstrip("?"), param.split(": ")[1], "?" not in param) for param in params]
        schema = {"type": "object", "properties": {n: {"type": kind} for n, kind, _ in split}, "required": [n for n, _, needed in split if needed]}
        found.append({"type": "function", "function": {"name": name, "parameters": schema}})
    return found


def messages_of(case):
    talk = [{"role": "user", "content": case["question"]}]
    if "earlier" in case:
        function = {"name": case["earlier"]["name"], "arguments": json.dumps(case["earlier"]["arguments"])}
        talk.append({"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]})
        talk.append({"role": "tool", "tool_call_id": "call_1", "content": case["result"]})
    return talk


class Server:
    """Greedy chat over HTTP."""

    def __init__(self, url):
        self.url = url.rstrip("/")

    def post(self, route, body):
        body.update(temperature=0, max_tokens=MAX_TOKENS)
        request = urllib.request.Request(self.url + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)

    def ask(self, case):
        if "must" in case:
            data = self.post("/generate", {"messages": messages_of(case)})["data"]
            return data["text"], data["finish_reason"] == "stop", []
        body = {"model": "cllm-tiny", "messages": messages_of(case)}
        if "tools" in case:
            body["tools"] = tools_of(case)
        choice = self.post("/v1/chat/completions", body)["choices"][0]
        calls = choice["message"].get("tool_calls") or []
        text = choice["message"].get("content") or ""
        for call in calls:
            text += call_text(call["function"]["name"], json.loads(call["function"]["arguments"]))
        return text, choice["finish_reason"] == ("tool_calls" if calls else "stop"), []


class Local:
    """Greedy chat with a plain numpy forward pass over a GGUF file; the weights are dequantised to float32."""

    def __init__(self, path):
        import gguf
        import jinja2
        import numpy as np
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, Regex
        from train import SPECIALS, SPLIT

        self.np = np
        reader = gguf.GGUFReader(str(path))
        self.template = jinja2.Environment().from_string(reader.get_field("tokenizer.chat_template").contents())
        words = reader.get_field("tokenizer.ggml.tokens").contents()
        merges = [tuple(m.split(" ")) for m in reader.get_field("tokenizer.ggml.merges").contents()]
        self.tok = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
        self.tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        self.tok.decoder = decoders.ByteLevel()
        self.tok.add_special_tokens(list(SPECIALS))
        self.ends = {self.tok.token_to_id("<|endoftext|>"), self.tok.token_to_id("<|im_end|>")}
        self.w = {t.name: np.array(gguf.dequantize(t.data, t.tensor_type), np.float32) for t in reader.tensors}

        def meta(key):
            return reader.get_field("qwen3." + key).contents()

        self.layers, self.heads, self.kv_heads = meta("block_count"), meta("attention.head_count"), meta("attention.head_count_kv")
        self.dim, self.eps = meta("attention.key_length"), meta("attention.layer_norm_rms_epsilon")
        self.freq = meta("rope.freq_base") ** (-np.arange(0, self.dim, 2) / self.dim)

    def rms(self, x, name):
        return x / self.np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def forward(self, ids, cache):
        """Logits after the last of `ids`; `cache` holds (k, v) of each layer and grows."""
        np, w = self.np, self.w
        start = cache[0][0].shape[0] if cache else 0
        n = len(ids)
        angle = (np.arange(start, start + n)[:, None] * self.freq)[:, None, :]
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

        def rope(x):
            a, b = np.split(x, 2, axis=-1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        hidden = np.tril(np.ones((n, start + n), bool), start)
        x = w["token_embd.weight"][ids]
        for i in range(self.layers):
            b = "blk.%d." % i
            h = self.rms(x, b + "attn_norm.weight")
            q = (h @ w[b + "attn_q.weight"].T).reshape(n, self.heads, self.dim)
            k = (h @ w[b + "attn_k.weight"].T).reshape(n, self.kv_heads, self.dim)
            v = (h @ w[b + "attn_v.weight"].T).reshape(n, self.kv_heads, self.dim)
            q, k = rope(self.rms(q, b + "attn_q_norm.weight")), rope(self.rms(k, b + "attn_k_norm.weight"))
            if start:
                k, v = np.concatenate([cache[i][0], k]), np.concatenate([cache[i][1], v])
                cache[i] = (k, v)
            else:
                cache.append((k, v))
            group = self.heads // self.kv_heads
            score = np.einsum("thd,shd->hts", q, np.repeat(k, group, 1)) * self.dim**-0.5
            score = np.where(hidden, score, -np.inf)
            p = np.exp(score - score.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            x = x + np.einsum("hts,shd->thd", p, np.repeat(v, group, 1)).reshape(n, -1) @ w[b + "attn_output.weight"].T
            h = self.rms(x, b + "ffn_norm.weight")
            gate = h @ w[b + "ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[b + "ffn_up.weight"].T)) @ w[b + "ffn_down.weight"].T
        return self.rms(x[-1], "output_norm.weight") @ w["token_embd.weight"].T

    def complete(self, prompt):
        """(text, ended by itself, [lead of the top token at each step])."""
        ids, cache, out, leads = self.tok.encode(prompt).ids, [], [], []
        for _ in range(MAX_TOKENS):
            logits = self.forward(ids, cache)
            second, first = self.np.argsort(logits)[-2:]
            leads.append(float(logits[first] - logits[second]))
            if first in self.ends:
                return self.tok.decode(out), True, leads
            out.append(int(first))
            ids = [int(first)]
        return self.tok.decode(out), False, leads

    def ask(self, case):
        return self.complete(self.template.render(messages=messages_of(case), tools=tools_of(case), add_generation_prompt=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", type=Path, metavar="GGUF")
    where.add_argument("--url")
    parser.add_argument("--questions", type=Path, default=HERE / "heldout.jsonl")
    parser.add_argument("--least", type=int, default=0, help="exit 1 when fewer are right")
    parser.add_argument("--raw", metavar="PROMPT", help="only complete this prompt, without a chat (needs --local)")
    args = parser.parse_args()
    model = Server(args.url) if args.url else Local(args.local)
    if args.raw is not None:
        text, ended, leads = model.complete(args.raw)
        print(text, "\n[%s, least lead %.2f]" % ("ended" if ended else "cut", min(leads)))
        return 0
    cases = [json.loads(line) for line in args.questions.open(encoding="utf-8")]
    right = exact = 0
    all_leads, weakest = [], []
    for case in cases:
        answer, ended, leads = model.ask(case)
        wrong = faults(case, answer.strip()) + ([] if ended else ["does not end"])
        right += not wrong
        exact += answer.strip() == wanted_text(case)
        all_leads += leads
        if leads:
            weakest.append((min(leads), case["question"]))
        if wrong:
            print("WRONG %s: %s\n  -> %s\n  %s" % (case["kind"], case["question"], answer.strip(), "; ".join(wrong)))
    print("%d of %d right, %d word for word" % (right, len(cases), exact))
    if all_leads:
        all_leads.sort()
        print("lead of the top token in logits, over %d tokens: least %.2f, 0.1 %% %.2f, 1 %% %.2f, 5 %% %.2f, median %.2f" % (
            len(all_leads), all_leads[0], *(all_leads[int(len(all_leads) * s)] for s in (0.001, 0.01, 0.05, 0.5))))
        print("smallest leads:", *("%.2f %s" % pair for pair in sorted(weakest)[:5]), sep="\n  ")
    return 0 if right >= args.least else 1


if __name__ == "__main__":
    sys.exit(main())
