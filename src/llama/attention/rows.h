// What a block of few rows and one of many have in common. A row is a token's query of one head.
#pragma once

#include <algorithm>
#include <cmath>

#include "blocks.h"
#include "sections.h"

namespace cllm::attention {

// Some of a group's query heads: all of them, or a thread's share of a key head that several threads compute.
struct Queries {
    int64_t first, count;
};

// Key heads `from..to`, and some query heads of each.
struct Heads {
    int64_t from, to;
    Queries of;
};

// Room for the sums of a block's sections, each row's on its own, where several threads compute them.
struct Partials {
    float *   sums;     // [section][query head][token][dv]
    Running * running;  // [section][query head][token]

    // The number of a row.
    static int64_t at(const Problem & p, const Block & block, int64_t section, int64_t head, int64_t token) {
        return (section * p.kv_heads * p.group + head) * block.count + token;
    }
};

// The results of a block's tokens for some heads, at most FEW_ROWS rows for each key head. `scratch` has room for `Problem::scratch`
// numbers and begins at a cache line.
void few_rows(const Problem & p, const Block & block, Heads heads, float * scratch);
// The sums of sections `from..to` only. `finish_partials` then has the results.
void few_rows(const Problem & p, const Block & block, int64_t from, int64_t to, Heads heads, const Partials & partials, float * scratch);
// Adds a block's sections for thread `ith`'s share of its rows, and writes the results.
void finish_partials(const Problem & p, const Block & block, const Partials & partials, int64_t ith, int64_t nth, float * scratch);
// Those of one key head, of at most ROWS_MAX rows. Sums go in the order of `few_rows`, so a row has the same bits by either.
void many_rows(const Problem & p, const Block & block, int64_t kv_head, Queries of, float * scratch);

// Loads each cache line of a tile's keys and values of some heads, before they are computed with. Without it a step waits for most
// lines one after the other, because a CPU looks only some hundred instructions ahead; these loads wait together. Prefetch
// instructions in their place change nothing on Zen 4. (4 texts of 450 cells, 1 token each, SmolLM2-135M's heads: twice as fast.)
inline void load_lines(const Problem & p, const Block & block, int64_t tile, int64_t head_from, int heads) {
    constexpr int64_t NUMBERS = LINE / sizeof(half);
    const int32_t *   cells   = &block.cells[tile * TILE];
    // A cell's heads lie side by side.
    const auto load_span = [](const half * from, const half * to) {
        for (; from < to; from += NUMBERS) {
            (void) *(const volatile half *) from;
        }
    };
    const int64_t last = head_from + heads - 1;
    for (int c = 0; c < TILE; c++) {
        load_span(p.key(block.stream, head_from, cells[c]), p.key(block.stream, last, cells[c]) + p.dk);
    }
    for (int c = 0; c < TILE; c++) {
        load_span(p.value(block.stream, head_from, cells[c]), p.value(block.stream, last, cells[c]) + p.dv);
    }
}

// One row's result, of its sums. Adding 0 makes a zero positive: the sign of a sum of nothing depends on what the block loads.
inline void finish(const Problem & p, int64_t head, Running running, const float * sums, int64_t stride, float * out) {
    float kept = 1;
    if (p.sinks != nullptr) {
        const float sink = ((const float *) p.sinks->data)[head];
        const float now  = std::max(running.largest, sink);
        kept             = std::exp(running.largest - now);
        running.sum      = running.sum * kept + std::exp(sink - now);
    }
    const float factor = running.sum == 0 ? 0 : kept / running.sum;
    for (int64_t d = 0; d < p.dv; d++) {
        out[d] = sums[d * stride] * factor + 0.0f;
    }
}

}  // namespace cllm::attention
