// What one call of attention is asked for.
#pragma once

#include <cstdint>

#include "ggml.h"
#include "vectors.h"

namespace cllm::attention {

// Cells that are looked at together: a word of `Block::seen`, and keys and values of one head that fit into the first cache.
constexpr int TILE = 32;
// Tiles of a section: the sums of each section of a text are computed on their own, then added in order (`sections.h`). 512 cells.
constexpr int SECTION = 16;
// Most rows of a block; a row is a token's query of one head.
constexpr int ROWS_MAX = 64;
// Up to so many rows, lanes run along a head's numbers; with more, along the rows.
constexpr int FEW_ROWS = 8;
// Heads that few rows pass over a tile with, one behind the other: a cell's keys of several heads lie side by side.
constexpr int HEADS_AT_ONCE = 8;

// Bytes of a cache line. A vector that lies across two lines takes two loads.
constexpr int LINE = 64;

// What is asked for. Tokens, heads, cells and streams as ggml counts them; a stream is a buffer with tokens of its own. Where
// there are fewer key heads than threads, each is taken for `parts` heads with a part of its group.
struct Problem {
    const ggml_tensor *q, *k, *v, *mask, *sinks;
    ggml_tensor *      dst;
    int64_t            dk, dv, tokens, heads, kv_heads, group, parts, streams, cells;
    float              scale, softcap;

    const float * query(int64_t stream, int64_t head, int64_t token) const {
        return (const float *) ((const char *) q->data + token * q->nb[1] + head * q->nb[2] + stream * q->nb[3]);
    }
    const half * key(int64_t stream, int64_t kv_head, int64_t cell) const {
        return (const half *) ((const char *) k->data + cell * k->nb[1] + kv_head / parts * k->nb[2] + stream * k->nb[3]);
    }
    const half * value(int64_t stream, int64_t kv_head, int64_t cell) const {
        return (const half *) ((const char *) v->data + cell * v->nb[1] + kv_head / parts * v->nb[2] + stream * v->nb[3]);
    }
    const half * seen_by(int64_t stream, int64_t token) const {
        return (const half *) ((const char *) mask->data + token * mask->nb[1] + (stream % mask->ne[3]) * mask->nb[3]);
    }
    float * out(int64_t stream, int64_t head, int64_t token) const {
        return (float *) ((char *) dst->data + ((stream * tokens + token) * heads + head) * dst->nb[1]);
    }
    // Numbers that one thread needs room for: whole cache lines.
    size_t scratch() const {
        return (size_t) (ROWS_MAX + TILE) * (dk + dv) + ROWS_MAX * dv + TILE * ROWS_MAX + 5 * ROWS_MAX;
    }
};

}  // namespace cllm::attention
