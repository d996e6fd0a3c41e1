"""The network: Qwen3 as llama.cpp understands it, in JAX, small enough to read in one sitting.

RMSNorm, grouped-query attention with a norm on each query and key head, NeoX-style RoPE, SwiGLU, and an
embedding that also serves as the output matrix. The layers are stacked: every weight has a leading axis
of `LAYERS`. Matrices are stored as (in, out) here; the export transposes them.
"""
import jax
import jax.numpy as jnp
import numpy as np

VOCAB = 2048
LAYERS = 4
WIDTH = 128
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 32
FFN = 384
CONTEXT = 2048
ROPE_BASE = 10000.0
NORM_EPS = 1e-6

# Weights that the Muon step updates; the rest (embedding, norms) go through Adam.
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def init(seed):
    """Random weights: dict of name -> float32 array."""
    keys = iter(jax.random.split(jax.random.PRNGKey(seed), 16))

    def matrix(rows, cols, scale=1.0):
        return jax.random.normal(next(keys), (LAYERS, rows, cols), jnp.float32) * scale / rows**0.5

    shrink = (2 * LAYERS) ** -0.5
    return {
        "embed": jax.random.normal(next(keys), (VOCAB, WIDTH), jnp.float32) * 0.04,
        "attn_norm": jnp.ones((LAYERS, WIDTH)),
        "q": matrix(WIDTH, HEADS * HEAD_DIM),
        "k": matrix(WIDTH, KV_HEADS * HEAD_DIM),
        "v": matrix(WIDTH, KV_HEADS * HEAD_DIM),
        "q_norm": jnp.ones((LAYERS, HEAD_DIM)),
        "k_norm": jnp.ones((LAYERS, HEAD_DIM)),
        "o": matrix(HEADS * HEAD_DIM, WIDTH, shrink),
        "ffn_norm": jnp.ones((LAYERS, WIDTH)),
        "gate": matrix(WIDTH, FFN),
        "up": matrix(WIDTH, FFN),
        "down": matrix(FFN, WIDTH, shrink),
        "out_norm": jnp.ones((WIDTH,)),
    }


def rms(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * weight


def rotate(x, cos, sin):
    """RoPE on halves. x: (tokens, heads, HEAD_DIM); cos, sin: (tokens, 1, HEAD_DIM)."""
    a, b = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-b, a], axis=-1) * sin


def forward(p, tokens, positions, segments):
    """Logits for every position.

    tokens, positions, segments: int32 (batch, time). A token sees earlier tokens of its own segment only,
    so several conversations share one row. Returns float32 (batch * time, VOCAB). All but the attention works on
    that flat axis: XLA's CPU products of three-dimensional arrays take twice as long.
    """
    batch, time = tokens.shape
    n = batch * time
    angle = np.arange(CONTEXT)[:, None] * ROPE_BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angle = np.concatenate([angle, angle], axis=-1)
    cos = jnp.asarray(np.cos(angle), jnp.float32)[positions.reshape(n)][:, None, :]
    sin = jnp.asarray(np.sin(angle), jnp.float32)[positions.reshape(n)][:, None, :]
    causal = jnp.tril(jnp.ones((time, time), bool))
    visible = causal[None] & (segments[:, :, None] == segments[:, None, :])
    bias = jnp.where(visible, 0.0, -1e30)[:, None]

    def heads_first(x):
        x = x.reshape(batch, time, -1, HEAD_DIM).transpose(0, 2, 1, 3)
        return jnp.repeat(x, HEADS // x.shape[1], axis=1)

    x = p["embed"][tokens.reshape(n)]
    for i in range(LAYERS):
        h = rms(x, p["attn_norm"][i])
        q = (h @ p["q"][i]).reshape(n, HEADS, HEAD_DIM)
        k = (h @ p["k"][i]).reshape(n, KV_HEADS, HEAD_DIM)
        q = heads_first(rotate(rms(q, p["q_norm"][i] * HEAD_DIM**-0.5), cos, sin))
        k = heads_first(rotate(rms(k, p["k_norm"][i]), cos, sin))
        v = heads_first(h @ p["v"][i])
        score = jnp.matmul(q, k.swapaxes(-1, -2)) + bias
        score = jnp.exp(score - jax.lax.stop_gradient(score.max(axis=-1, keepdims=True)))
        mixed = jnp.matmul(score, v) / jnp.sum(score, axis=-1, keepdims=True)
        x = x + mixed.transpose(0, 2, 1, 3).reshape(n, HEADS * HEAD_DIM) @ p["o"][i]
        h = rms(x, p["ffn_norm"][i])
        x = x + (jax.nn.silu(h @ p["gate"][i]) * (h @ p["up"][i])) @ p["down"][i]
    return rms(x, p["out_norm"]) @ p["embed"].T


def loss(p, tokens, positions, segments, weights):
    """Weighted mean cross-entropy of the next token; weights[b, t] belongs to the prediction OF tokens[b, t]."""
    logits = forward(p, tokens, positions, segments)
    target, weight = jnp.roll(tokens, -1, axis=1).reshape(-1), jnp.roll(weights.at[:, 0].set(0.0), -1, axis=1).reshape(-1)
    picked = jnp.sum(jnp.where(target[:, None] == jnp.arange(VOCAB), logits, 0.0), axis=-1)
    nll = jax.nn.logsumexp(logits, axis=-1) - picked
    return jnp.sum(nll * weight) / (jnp.sum(weight) + 1e-6)


def orthogonal(g, steps=5):
    """Newton-Schulz iteration: pushes the singular values of each matrix of the stack towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else jnp.swapaxes(g, -1, -2)
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(steps):
        s = x @ jnp.swapaxes(x, -1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x if wide else jnp.swapaxes(x, -1, -2)


def opt_init(p):
    zeros = {k: jnp.zeros_like(v) for k, v in p.items()}
    second = {k: jnp.zeros_like(v) for k, v in p.items() if k not in MATRICES}
    return {"m": zeros, "v": second, "step": jnp.zeros((), jnp.int32)}


def train_step(p, opt, batch, lr, matrix_lr=0.02, other_lr=0.003):
    """One update. `lr` scales both rates (0 to 1). Returns weights, optimiser state and the loss before it."""
    value, grads = jax.value_and_grad(loss)(p, *batch)
    step = opt["step"] + 1
    new_p, m, v = {}, {}, {}
    for name, g in grads.items():
        if name in MATRICES:
            m[name] = 0.95 * opt["m"][name] + g
            rows, cols = g.shape[-2:]
            update = orthogonal(g + 0.95 * m[name]) * max(1.0, cols / rows) ** 0.5
            new_p[name] = p[name] - lr * matrix_lr * update
        else:
            m[name] = 0.9 * opt["m"][name] + 0.1 * g
            v[name] = 0.98 * opt["v"][name] + 0.02 * g * g
            m_hat = m[name] / (1 - 0.9**step)
            v_hat = v[name] / (1 - 0.98**step)
            new_p[name] = p[name] - lr * other_lr * m_hat / (jnp.sqrt(v_hat) + 1e-8)
    return new_p, {"m": m, "v": v, "step": step}, value
