// What a block of few rows and one of many have in common. A row is a token's query of one head.
#pragma once

#include <cmath>

#include "blocks.h"

namespace cllm::attention {

// Some of a group's query heads: all of them, or a thread's share of a key head that several threads compute.
struct Queries {
    int64_t first, count;
};

// The results of a block's tokens for query heads `of` of key heads `head_from..head_to`, of at most FEW_ROWS rows for each. `scratch`
// has room for `Problem::scratch` numbers and begins at a cache line.
void few_rows(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, Queries of, float * scratch);
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

// The running softmax of one row: the largest score so far and the sum of the weights relative to it.
struct Running {
    float largest, sum;
};

// One row's result, of its sums.
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
        out[d] = sums[d * stride] * factor;
    }
}

}  // namespace cllm::attention
