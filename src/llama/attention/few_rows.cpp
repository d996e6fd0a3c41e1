// Attention of few rows: a vector's lanes run along the numbers of a head.

#include <algorithm>
#include <cmath>

#include "rows.h"

namespace cllm::attention {

namespace {

// Scores of G queries, `dk` apart, with a tile of keys: [G][TILE].
template <int G> void score(const float * q, int64_t dk, const half * const * keys, float * scores) {
    constexpr int CELLS = G <= 2 || LANES == 16 ? 4 : 2;
    for (int from = 0; from < TILE; from += LANES) {
        floats products[G][LANES];
        for (int c = 0; c < LANES; c += CELLS) {
            floats sums[G][CELLS];
            for (auto & row : sums) {
                std::fill_n(row, CELLS, all(0));
            }
            for (int64_t d = 0; d < dk; d += LANES) {
                floats key[CELLS];
                for (int i = 0; i < CELLS; i++) {
                    key[i] = of_halves(keys[from + c + i] + d);
                }
                for (int g = 0; g < G; g++) {
                    const floats query = load(q + g * dk + d);
                    for (int i = 0; i < CELLS; i++) {
                        sums[g][i] = fma(query, key[i], sums[g][i]);
                    }
                }
            }
            for (int g = 0; g < G; g++) {
                std::copy_n(sums[g], CELLS, products[g] + c);
            }
        }
        for (int g = 0; g < G; g++) {
            store(scores + g * TILE + from, sums_of(products[g]));
        }
    }
}

// Adds to N vectors of G results, `dv` apart, a tile of values by weight, after scaling what is there by `kept`.
template <int G, int N>
void weigh_some(float * out, int64_t dv, const float * weights, const float * kept, const half * const * values, int64_t d) {
    floats sums[G][N];
    for (int g = 0; g < G; g++) {
        for (int i = 0; i < N; i++) {
            sums[g][i] = load(out + g * dv + d + i * LANES) * all(kept[g]);
        }
    }
    for (int c = 0; c < TILE; c++) {
        floats value[N];
        for (int i = 0; i < N; i++) {
            value[i] = of_halves(values[c] + d + i * LANES);
        }
        for (int g = 0; g < G; g++) {
            const floats weight = all(weights[g * TILE + c]);
            for (int i = 0; i < N; i++) {
                sums[g][i] = fma(weight, value[i], sums[g][i]);
            }
        }
    }
    for (int g = 0; g < G; g++) {
        for (int i = 0; i < N; i++) {
            store(out + g * dv + d + i * LANES, sums[g][i]);
        }
    }
}

template <int G>
void weigh(float * out, int64_t dv, const float * weights, const float * kept, const half * const * values) {
    int64_t d = 0;
    for (; d + PANEL_MAX * LANES <= dv; d += PANEL_MAX * LANES) {
        weigh_some<G, PANEL_MAX>(out, dv, weights, kept, values, d);
    }
    for (; d < dv; d += LANES) {
        weigh_some<G, 1>(out, dv, weights, kept, values, d);
    }
}

// Scores become weights, of which those of cells the row doesn't see are 0. Returns what earlier results are to be scaled by.
float soften(const Problem & p, uint32_t seen, float * scores, Running & running) {
    static_assert(TILE % LANES == 0, "a tile is whole vectors");
    floats highest = all(-INFINITY);
    if (p.softcap != 0) {
        for (int c = 0; c < TILE; c++) {
            scores[c] = p.softcap * std::tanh(scores[c]);
        }
    }
    for (int c = 0; c < TILE; c += LANES) {
        const floats visible = only_bits(load(scores + c), seen >> c);
        store(scores + c, visible);
        highest = larger(highest, visible);
    }
    const float before = running.largest;
    const float now    = std::max(before, largest(highest));
    floats      total  = all(0);
    for (int c = 0; c < TILE; c += LANES) {
        const floats weights = exponential(load(scores + c) - all(now));
        store(scores + c, weights);
        total += weights;
    }
    // As `panel_tile` has it, to the bit.
    alignas(LINE) float kept_by[LANES];
    store(kept_by, exponential(all(before) - all(now)));
    const float kept = kept_by[0];
    running          = {now, std::fma(running.sum, kept, sum(total))};
    return kept;
}

}  // namespace

void few_rows(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, Queries of, float * scratch) {
    const int  rows  = block.count * (int) of.count;
    const auto token = [&](int row) { return block.first + row / of.count; };
    const auto query_head = [&](int64_t kv_head, int row) { return kv_head * p.group + of.first + row % of.count; };
    for (int64_t from = head_from; from < head_to; from += HEADS_AT_ONCE) {
        const int heads   = (int) std::min<int64_t>(HEADS_AT_ONCE, head_to - from);
        float *   queries = scratch;
        float *   outs    = queries + heads * rows * p.dk;
        float *   scores  = outs + heads * rows * p.dv;
        Running   running[HEADS_AT_ONCE * FEW_ROWS];
        std::fill_n(running, heads * rows, Running{-INFINITY, 0});
        std::fill_n(outs, heads * rows * p.dv, 0.0f);
        for (int i = 0; i < heads * rows; i++) {
            const float * query = p.query(block.stream, query_head(from + i / rows, i % rows), token(i % rows));
            for (int64_t d = 0; d < p.dk; d++) {
                queries[i * p.dk + d] = query[d] * p.scale;
            }
        }
        for (int64_t tile = 0; tile < block.tiles(); tile++) {
            const int32_t * cells = &block.cells[tile * TILE];
            load_lines(p, block, tile, from, heads);
            for (int h = 0; h < heads; h++) {
                const half *keys[TILE], *values[TILE];
                for (int c = 0; c < TILE; c++) {
                    keys[c]   = p.key(block.stream, from + h, cells[c]);
                    values[c] = p.value(block.stream, from + h, cells[c]);
                }
                for (int r = 0; r < rows; r += 4) {
                    const int     at    = h * rows + r;
                    const float * query = queries + at * p.dk;
                    float *       out   = outs + at * p.dv;
                    const int     some  = std::min(4, rows - r);
                    switch (some) {
                        case 1: score<1>(query, p.dk, keys, scores); break;
                        case 2: score<2>(query, p.dk, keys, scores); break;
                        case 3: score<3>(query, p.dk, keys, scores); break;
                        default: score<4>(query, p.dk, keys, scores); break;
                    }
                    float kept[4];
                    for (int i = 0; i < some; i++) {
                        const uint32_t seen   = block.sees((r + i) / (int) of.count, tile);
                        float *        scored = scores + i * TILE;
                        if (seen == 0) {
                            kept[i] = 1;
                            std::fill_n(scored, TILE, 0.0f);
                        } else {
                            kept[i] = soften(p, seen, scored, running[at + i]);
                        }
                    }
                    switch (some) {
                        case 1: weigh<1>(out, p.dv, scores, kept, values); break;
                        case 2: weigh<2>(out, p.dv, scores, kept, values); break;
                        case 3: weigh<3>(out, p.dv, scores, kept, values); break;
                        default: weigh<4>(out, p.dv, scores, kept, values); break;
                    }
                }
            }
        }
        for (int i = 0; i < heads * rows; i++) {
            const int64_t head = query_head(from + i / rows, i % rows);
            finish(p, head, running[i], outs + i * p.dv, 1, p.out(block.stream, head, token(i % rows)));
        }
    }
}

}  // namespace cllm::attention
