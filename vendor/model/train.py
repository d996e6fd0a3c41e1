"""Trains the built-in model and writes cllm-tiny.gguf.

    python train.py --work WORKDIR            # tokenizer, training, export; resumes from WORKDIR
    python train.py --work WORKDIR --export   # export the latest checkpoint only

The text, the tokenizer, the first weights and the order of the batches follow from --seed. The state is saved
in WORKDIR every few minutes, so a run may be stopped and started again.
"""
import argparse
import itertools
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import generate
import net

HERE = Path(__file__).parent
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TIME = 256  # tokens of one training row
ROWS = 8  # rows of one batch
POOL = 32  # rows that are open for packing at a time
CHUNK = 400  # steps whose rows are packed at a time, each chunk from a seed of its own
EAGER_FROM = 800  # from this step on, more questions name a value: copying is learned last
STRANGE_FROM = 10000  # from this step on, more names are words that no list holds
CUT_SHARE = 0.5  # of the conversations end early:
CUT_ANSWER = 16  # after so many tokens of the last answer,
CUT_STORY = 60  # or of a story
# XLA takes and gives back its buffers at every step; with these, glibc keeps them, which saves a fifth of the CPU time.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "268435456",
          "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
RATES = ((0, 0.0), (40, 1.0), (5001, 1.0), (7465, 0.794667), (11344, 0.237754), (12344, 0.0))  # (step, share of the full learning rate)
PROMPT_WEIGHT = 0.03  # what predicting the user's words counts, against 1 for the answer's

# Qwen2's pre-tokenizer: contractions, words with one leading non-letter, single digits, marks, line ends, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (HERE / "template.jinja").read_text(encoding="utf-8").rstrip("\n")


def say(*words):
    print(*words, flush=True)


def plain_text(talk):
    return "\n".join("".join(part[1:]) for part in talk)


def build_tokenizer(seed, talks=40000):
    """Byte-level BPE over the training text: 256 bytes, merges, then the three special tokens."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=net.VOCAB - len(SPECIALS), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    texts = map(plain_text, itertools.islice(generate.samples(seed + 1000), talks))
    tok.train_from_iterator(texts, trainer)
    tok.add_special_tokens(list(SPECIALS))
    assert tok.get_vocab_size() == net.VOCAB, tok.get_vocab_size()
    return tok


def render(talk):
    """[(text, weight), ...] of one conversation; each text is tokenised on its own."""
    if talk[0][0] == "raw":
        _, prompt, rest = talk[0]
        return [(prompt, PROMPT_WEIGHT), (rest + "<|endoftext|>", 1.0)]
    pieces = []
    for role, text in talk:
        if role == "earlier":
            pieces += [("<|im_start|>assistant\n", 0.0), (text, 0.0), ("<|im_end|>\n", 0.0)]
        elif role == "assistant":
            pieces += [("<|im_start|>assistant\n", 0.0), (text + "<|im_end|>", 1.0), ("\n", PROMPT_WEIGHT)]
        else:
            pieces += [("<|im_start|>%s\n" % role, 0.0), (text, PROMPT_WEIGHT if role == "user" else 0.0), ("<|im_end|>\n", PROMPT_WEIGHT)]
    return pieces


def token_stream(tok, seed, eager, strange):
    """(tokens, weights) of one conversation after the other, tokenised in blocks.

    Most conversations stop early, soon after the last answer has decided what it is: the rest of an answer is
    easy and needs few examples, so the time goes into telling the questions apart.
    """
    source, rng = generate.samples(seed, eager, strange), random.Random(seed)
    while True:
        block = [render(talk) for talk in itertools.islice(source, 2000)]
        codes = iter(tok.encode_batch([text for pieces in block for text, _ in pieces]))
        for pieces in block:
            encoded = [(next(codes).ids, weight) for _, weight in pieces]
            last = max(i for i, (_, weight) in enumerate(encoded) if weight == 1.0)
            whole = any(text.startswith(("<tool_call>", "{")) for text, weight in pieces)
            if rng.random() < CUT_SHARE and not whole:
                piece = encoded[last][0]
                keep = CUT_STORY if len(piece) > CUT_STORY else CUT_ANSWER
                if keep < len(piece):
                    encoded[last:] = [(piece[:keep], 1.0)]
            ids, weights = [], []
            for piece, weight in encoded:
                ids += piece
                weights += [weight] * len(piece)
            yield ids, weights


def rows(tok, seed, count, eager, strange):
    """`count` packed rows: tokens, positions, segments int32 and weights float32, each (count, TIME)."""
    wanted, count = count, count + POOL  # the rows that are open at the end are left out
    tokens = np.zeros((count, TIME), np.int32)
    positions = np.zeros((count, TIME), np.int32)
    segments = np.full((count, TIME), -1, np.int32)
    weights = np.zeros((count, TIME), np.float32)
    used = np.zeros(count, np.int32)
    first = 0  # rows before it are closed
    for ids, weight in token_stream(tok, seed, eager, strange):
        n = len(ids)
        if n > TIME:
            continue
        window = used[first:first + POOL]
        fits = np.flatnonzero(window + n <= TIME)
        if len(fits) == 0:
            fullest = first + int(np.argmax(window))
            for a in (tokens, positions, segments, weights, used):
                a[[first, fullest]] = a[[fullest, first]]
            first += 1
            if first >= wanted:
                return tuple(a[:wanted] for a in (tokens, positions, segments, weights))
            fits = np.flatnonzero(used[first:first + POOL] + n <= TIME)
        row = first + int(fits[np.argmax(used[first:first + POOL][fits])])
        at = used[row]
        tokens[row, at:at + n] = ids
        positions[row, at:at + n] = np.arange(n)
        segments[row, at:at + n] = segments[row].max() + 1
        weights[row, at:at + n] = weight
        weights[row, at] = 0.0
        used[row] += n


def chunk(tok, seed, number):
    """The rows of `CHUNK` steps."""
    first = number * CHUNK
    return rows(tok, seed * 1000 + number, CHUNK * ROWS, first >= EAGER_FROM, first >= STRANGE_FROM)


def schedule(step):
    """Share of the full learning rate, straight between the points of RATES."""
    return float(np.interp(step + 1, *zip(*RATES)))


def save(path, tree):
    flat = {}
    for outer, inner in tree.items():
        for name, a in (inner.items() if isinstance(inner, dict) else [("", inner)]):
            flat[outer + "/" + name] = np.asarray(a)
    tmp = path.with_suffix(".tmp.npz")
    np.savez(tmp, **flat)
    os.replace(tmp, path)


def load(path):
    tree = {}
    with np.load(path) as z:
        for key in z.files:
            outer, name = key.split("/")
            if name:
                tree.setdefault(outer, {})[name] = z[key]
            else:
                tree[outer] = z[key]
    return tree


def train(work, seed, save_s):
    import jax

    tok_path, state_path = work / "tokenizer.json", work / "state.npz"
    if not tok_path.exists():
        build_tokenizer(seed).save(str(tok_path))
    tok = Tokenizer.from_file(str(tok_path))
    steps = RATES[-1][0]
    params, start = net.init(seed), 0
    opt = net.opt_init(params)
    if state_path.exists():
        tree = load(state_path)
        params, start = tree["params"], int(tree["done"])
        opt = {"m": tree["m"], "v": tree["v"], "step": tree["step"]}
        say("resumed at step", start)
    say("parameters: %.2f M; steps %d to %d" % (sum(np.size(a) for a in params.values()) / 1e6, start, steps))

    step_fn = jax.jit(net.train_step, donate_argnums=(0, 1))
    packer = ThreadPoolExecutor(1)
    ahead = packer.submit(chunk, tok, seed, start // CHUNK)
    began = saved = time.time()
    losses = []
    for step in range(start, steps):
        if step == start or step % CHUNK == 0:
            data = ahead.result()
            ahead = packer.submit(chunk, tok, seed, step // CHUNK + 1)
        at = step % CHUNK * ROWS
        batch = tuple(a[at:at + ROWS] for a in data)
        params, opt, loss = step_fn(params, opt, batch, np.float32(schedule(step)))
        losses.append(float(loss))
        if step % 50 == 49:
            rate = (step + 1 - start) * ROWS * TIME / (time.time() - began)
            say("step %5d  loss %.4f  %.0f tokens/s  %.0f s" % (step + 1, np.mean(losses[-200:]), rate, time.time() - began))
        if time.time() - saved > save_s or step + 1 == steps:
            save(state_path, {"params": params, "m": opt["m"], "v": opt["v"], "step": opt["step"], "done": np.int64(step + 1)})
            saved = time.time()
    packer.shutdown(cancel_futures=True)


def export(work, target):
    """The latest checkpoint as GGUF: matrices in Q8_0, norms in F32, llama.cpp's names for Qwen3."""
    import gguf

    params = load(work / "state.npz")["params"]
    tok = Tokenizer.from_file(str(work / "tokenizer.json"))
    w = gguf.GGUFWriter(str(target), "qwen3")
    w.add_name("cllm-tiny")
    w.add_description("A tiny model that knows how to use cllm and tells short stories.")
    w.add_license("MIT")
    w.add_author("the cllm authors")
    w.add_languages(["en"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(net.CONTEXT)
    w.add_embedding_length(net.WIDTH)
    w.add_block_count(net.LAYERS)
    w.add_feed_forward_length(net.FFN)
    w.add_head_count(net.HEADS)
    w.add_head_count_kv(net.KV_HEADS)
    w.add_key_length(net.HEAD_DIM)
    w.add_value_length(net.HEAD_DIM)
    w.add_rope_freq_base(net.ROPE_BASE)
    w.add_layer_norm_rms_eps(net.NORM_EPS)
    w.add_vocab_size(net.VOCAB)

    import json

    model = json.loads(tok.to_str())["model"]
    words = [None] * net.VOCAB
    for word, i in tok.get_vocab().items():
        words[i] = word
    kinds = [gguf.TokenType.CONTROL if word in SPECIALS else gguf.TokenType.NORMAL for word in words]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(words)
    w.add_token_types(kinds)
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    end, im_end = tok.token_to_id("<|endoftext|>"), tok.token_to_id("<|im_end|>")
    w.add_bos_token_id(end)
    w.add_eos_token_id(im_end)
    w.add_eot_token_id(end)
    w.add_pad_token_id(end)
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)

    def matrix(name, a):
        q8 = gguf.GGMLQuantizationType.Q8_0
        w.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(a, np.float32), q8), raw_dtype=q8)

    def norm(name, a):
        w.add_tensor(name, np.ascontiguousarray(a, np.float32))

    matrix("token_embd.weight", params["embed"])
    norm("output_norm.weight", params["out_norm"])
    for i in range(net.LAYERS):
        for ours, theirs in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output"),
                             ("gate", "ffn_gate"), ("up", "ffn_up"), ("down", "ffn_down")):
            matrix("blk.%d.%s.weight" % (i, theirs), params[ours][i].T)
        for ours, theirs in (("attn_norm", "attn_norm"), ("q_norm", "attn_q_norm"), ("k_norm", "attn_k_norm"), ("ffn_norm", "ffn_norm")):
            norm("blk.%d.%s.weight" % (i, theirs), params[ours][i])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    say("wrote %s, %.2f MiB" % (target.name, target.stat().st_size / 2**20))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and the checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-s", type=float, default=120.0, help="seconds between checkpoints")
    parser.add_argument("--out", type=Path, default=HERE / "cllm-tiny.gguf")
    parser.add_argument("--export", action="store_true", help="only export the latest checkpoint")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.export:
        train(args.work, args.seed, args.save_s)
    export(args.work, args.out)


if __name__ == "__main__":
    sys.exit(main())
