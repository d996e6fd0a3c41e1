"""Asks the questions of heldout.jsonl and counts right answers.

    python evaluate.py --local cllm-tiny.gguf        # our own float32 forward pass over the GGUF's weights
    python evaluate.py --url http://127.0.0.1:8080   # a running server

An answer is right if it contains every literal in `must` and no other kind's mark (facts.py), unless the
expected answer contains that mark too. `--local` also reports by how much the top token leads.
"""
import argparse
import json
import re
import sys
import urllib.request
from pathlib import Path

import facts

HERE = Path(__file__).parent
MAX_TOKENS = 160


def literal(mark):
    """A kind's mark up to its first value."""
    return re.split(r"<\w+>", mark)[0]


MARKS = {k.name: literal(k.marks[0]) for k in facts.KINDS}
MARKS["unknown"] = "I don't know that"
MARKS["story"] = "Once upon a time there was"


def faults(case, answer):
    """Why the answer is wrong; empty if it is right."""
    found = ["lacks %r" % m for m in case["must"] if m not in answer]
    for kind, mark in MARKS.items():
        if kind != case["kind"] and mark in answer and mark not in case["answer"]:
            found.append("sounds like " + kind)
    return found


class Server:
    """Greedy chat over HTTP."""

    def __init__(self, url):
        self.url = url.rstrip("/") + "/generate"

    def ask(self, question):
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": MAX_TOKENS}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            data = json.load(reply)["data"]
        return data["text"], data["finish_reason"] == "stop", []


class Local:
    """Greedy chat with a plain numpy forward pass over a GGUF file; the weights are dequantised to float32."""

    def __init__(self, path):
        import gguf
        import numpy as np
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, Regex
        from train import SPECIALS, SPLIT

        self.np = np
        reader = gguf.GGUFReader(str(path))
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

    def ask(self, question):
        return self.complete("<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n" % question)


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
        answer, ended, leads = model.ask(case["question"])
        wrong = faults(case, answer.strip()) + ([] if ended else ["does not end"])
        right += not wrong
        exact += answer.strip() == case["answer"]
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
