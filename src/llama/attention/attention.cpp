// Attention over cached keys and values on an x86-64 CPU, in the place of ggml's own (GGML_OP_FLASH_ATTN_EXT).
//
// ggml has two ways: a tile of 64 tokens that see one text, and one token at a time. Between them lies all that a server
// does: a few tokens of each of several texts, and a short piece of a prompt beside them. There ggml's cost of a token is
// several times that of the tile, cells that a token may not see cost nearly as much as those it does, and heads that share
// a key read it once each. Here
//
// - a cell that no token of a block may see costs nothing: a list of those that some token sees is made first, once for all
//   heads and layers. So sequences can lie in one buffer, and their rows be decoded in one pass over the weights;
// - all heads of a group pass over a key together, and with them all tokens of the block;
// - sums are kept in 32 bits; ggml keeps them in 16 where it goes one by one;
// - a token's result has the same bits whatever tokens are computed with it, and wherever its cells lie: it sums over them in
//   the order of their positions (`blocks.h`). Both ways below, for few rows and for many, therefore add in the same order.
//
// The softmax is computed as the scores come (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax";
// Dao et al. 2022, "FlashAttention"). build.rs has the linker put this before ggml's function, and compiles it only for
// CPUs with AVX2, FMA, F16C and BMI2; `describe` says what it leaves to ggml.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "../kernels/ggml_inside.h"
#include "blocks.h"

extern "C" {

void __real_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void cllm_attention_leave_to_ggml(bool leave);
bool cllm_attention_is_inexact(void);
}

namespace cllm::attention {

namespace {

// ORDERING: Relaxed. Benches write it between runs.
std::atomic<bool> left_to_ggml{false};
// ORDERING: Relaxed. Set by compute threads before a decode ends, read after it.
std::atomic<bool> inexact{false};

// Whether this is done here. ggml does: anything but 32-bit queries over 16-bit keys and values, head sizes that fill no
// vectors, positions that weigh on scores (ALiBi: its masks hold more than 0 and minus infinity), masks of single heads, and
// groups of more heads than a block has rows.
bool describe(const ggml_compute_params * params, ggml_tensor * dst, Problem & p) {
    p.q     = dst->src[0];
    p.k     = dst->src[1];
    p.v     = dst->src[2];
    p.mask  = dst->src[3];
    p.sinks = dst->src[4];
    p.dst   = dst;
    if (params->use_ref || p.mask == nullptr || left_to_ggml.load(std::memory_order_relaxed)) {
        return false;
    }
    float max_bias;
    memcpy(&p.scale, (const float *) dst->op_params + 0, sizeof(float));
    memcpy(&max_bias, (const float *) dst->op_params + 1, sizeof(float));
    memcpy(&p.softcap, (const float *) dst->op_params + 2, sizeof(float));
    if (p.softcap != 0) {
        p.scale /= p.softcap;
    }
    p.dk       = p.k->ne[0];
    p.dv       = p.v->ne[0];
    p.tokens   = p.q->ne[1];
    p.heads    = p.q->ne[2];
    p.streams  = p.q->ne[3];
    p.cells    = p.k->ne[1];
    p.kv_heads = p.k->ne[2];
    p.group    = p.heads / p.kv_heads;
    p.parts    = 1;

    const bool types   = p.q->type == GGML_TYPE_F32 && p.k->type == GGML_TYPE_F16 && p.v->type == GGML_TYPE_F16 &&
                       p.mask->type == GGML_TYPE_F16 && dst->type == GGML_TYPE_F32;
    const bool strides = p.q->nb[0] == sizeof(float) && p.k->nb[0] == sizeof(half) && p.v->nb[0] == sizeof(half) &&
                         p.mask->nb[0] == sizeof(half) && dst->nb[0] == sizeof(float);
    const bool shapes  = p.dk % 16 == 0 && p.dv % 16 == 0 && p.v->ne[2] == p.kv_heads && p.heads % p.kv_heads == 0 &&
                        p.k->ne[3] == p.streams && p.v->ne[3] == p.streams && p.mask->ne[2] == 1 && p.group <= ROWS_MAX;
    if (!types || !strides || !shapes || max_bias != 0 || params->wsize < p.scratch() * sizeof(float) * params->nth + LINE) {
        return false;
    }
    while (p.parts < p.group && (p.group % p.parts != 0 || p.streams * p.tokens * p.kv_heads * p.parts < params->nth)) {
        p.parts++;
    }
    p.kv_heads *= p.parts;
    p.group /= p.parts;
    return true;
}

// Loads each cache line of a tile's keys and values of some heads, before they are computed with. Without it a step waits for most
// lines one after the other, because a CPU looks only some hundred instructions ahead; these loads wait together. Prefetch
// instructions in their place change nothing on Zen 4. (4 texts of 450 cells, 1 token each, SmolLM2-135M's heads: twice as fast.)
inline void load_lines(const Problem & p, const Block & block, int64_t tile, int64_t head_from, int heads) {
    constexpr int64_t NUMBERS = LINE / sizeof(half);
    const int32_t *   cells   = &block.cells[tile * TILE];
    // A cell's heads lie side by side.
    const auto load = [](const half * from, const half * to) {
        for (; from < to; from += NUMBERS) {
            (void) *(const volatile half *) from;
        }
    };
    const int64_t last = head_from + heads - 1;
    for (int c = 0; c < TILE; c++) {
        load(p.key(block.stream, head_from, cells[c]), p.key(block.stream, last, cells[c]) + p.dk);
    }
    for (int c = 0; c < TILE; c++) {
        load(p.value(block.stream, head_from, cells[c]), p.value(block.stream, last, cells[c]) + p.dv);
    }
}

// The running softmax of one row: the largest score so far and the sum of the weights relative to it.
struct Running {
    float largest, sum;
};

// ---- Few rows: lanes run along the numbers of a head. ----

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

// One row's result, of its sums.
void finish(const Problem & p, int64_t head, Running running, const float * sums, int64_t stride, float * out) {
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

// Some of a group's query heads: all of them, or a thread's share of a key head that several threads compute.
struct Queries {
    int64_t first, count;
};

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

// ---- Many rows: lanes run along the rows, P vectors of them side by side, a panel. ----

// scores[cell][row] of a tile of keys; `queries` is [d][row]. Adds as `score` does: over each lane's numbers, then the lanes, in
// the order of `by_halves`, where partial sums are carried like the bits of a binary counter.
//
// With AVX-512 two lanes are summed together, so that fewer sums pass through
// memory; AVX2 has too few registers for that.
template <int P> __attribute__((noinline)) void score_panel(float * scores, const float * keys, const float * queries, int64_t dk) {
    constexpr int TOGETHER = LANES == 16 ? 2 : 1;
    constexpr int CELLS    = P == 1 || TOGETHER == 1 ? 4 : 2;
    constexpr int WIDTH    = P * LANES;
    constexpr int SUMS     = CELLS * P;
    for (int c = 0; c < TILE; c += CELLS) {
        const auto add = [&](int64_t d, floats (&to)[SUMS]) {
            floats query[P];
            for (int j = 0; j < P; j++) {
                query[j] = load(queries + d * WIDTH + j * LANES);
            }
            for (int i = 0; i < CELLS; i++) {
                const floats key = all(keys[(c + i) * dk + d]);
                for (int j = 0; j < P; j++) {
                    to[i * P + j] = fma(query[j], key, to[i * P + j]);
                }
            }
        };
        floats carried[4][SUMS];
        for (int n = 0; n < LANES; n += TOGETHER) {
            floats sums[SUMS], others[SUMS];
            std::fill_n(sums, SUMS, all(0));
            std::fill_n(others, SUMS, all(0));
            for (int64_t d = by_halves(n); d < dk; d += LANES) {
                add(d, sums);
                if constexpr (TOGETHER == 2) {
                    add(d + LANES / 2, others);
                }
            }
            for (int i = 0; TOGETHER == 2 && i < SUMS; i++) {
                sums[i] += others[i];
            }
            int level = 0;
            for (int bits = n / TOGETHER; bits & 1; bits >>= 1, level++) {
                for (int i = 0; i < SUMS; i++) {
                    sums[i] += carried[level][i];
                }
            }
            if (n + TOGETHER < LANES) {
                std::copy_n(sums, SUMS, carried[level]);
            } else {
                for (int i = 0; i < SUMS; i++) {
                    store(scores + c * WIDTH + i * LANES, sums[i]);
                }
            }
        }
    }
}

// to[d][row] += values[cell][d] * weights[cell][row], over the cells of a tile in order.
template <int P> __attribute__((noinline)) void weigh_panel(float * to, const float * values, const float * weights, int64_t dv) {
    // Sums of 8 or 4 numbers by one vector or two: with four vectors side by side gcc would load a weight for each sum anew.
    constexpr int TOGETHER = P % 2 == 0 ? 2 : 1;
    constexpr int NUMBERS  = LANES == 16 || TOGETHER == 1 ? 8 : 4;
    constexpr int WIDTH    = P * LANES;
    for (int64_t d = 0; d < dv; d += NUMBERS) {
        for (int row = 0; row < WIDTH; row += TOGETHER * LANES) {
            floats sums[NUMBERS][TOGETHER];
            for (int i = 0; i < NUMBERS; i++) {
                for (int j = 0; j < TOGETHER; j++) {
                    sums[i][j] = load(to + (d + i) * WIDTH + row + j * LANES);
                }
            }
            for (int c = 0; c < TILE; c++) {
                floats weight[TOGETHER];
                for (int j = 0; j < TOGETHER; j++) {
                    weight[j] = load(weights + c * WIDTH + row + j * LANES);
                }
                for (int i = 0; i < NUMBERS; i++) {
                    const floats value = all(values[c * dv + d + i]);
                    for (int j = 0; j < TOGETHER; j++) {
                        sums[i][j] = fma(weight[j], value, sums[i][j]);
                    }
                }
            }
            for (int i = 0; i < NUMBERS; i++) {
                for (int j = 0; j < TOGETHER; j++) {
                    store(to + (d + i) * WIDTH + row + j * LANES, sums[i][j]);
                }
            }
        }
    }
}

// One panel's state: queries and sums transposed, [number][row], and each row's running softmax.
struct Panel {
    float *queries, *sums, *largest, *total;
};

template <int P>
void panel_tile(const Problem & p, const Panel & panel, const float * keys, const float * values, const uint32_t * seen,
                bool all_seen, float * scores) {
    constexpr int WIDTH = P * LANES;
    score_panel<P>(scores, keys, panel.queries, p.dk);
    bool rescale = false;
    alignas(LINE) float kept[WIDTH];
    for (int j = 0; j < WIDTH; j += LANES) {
        const floats before  = load(panel.largest + j);
        floats       highest = before;
        for (int c = 0; c < TILE; c++) {
            float * scored = scores + c * WIDTH + j;
            if (p.softcap != 0) {
                for (int i = 0; i < LANES; i++) {
                    scored[i] = p.softcap * std::tanh(scored[i]);
                }
            }
            if (!all_seen) {
                store(scored, only(load(scored), seen + j, c));
            }
            highest = larger(highest, load(scored));
        }
        // A row that has seen nothing yet has no largest score; then any will do, since all weights are 0.
        const floats relative = larger(highest, all(-3e38f));
        for (int c = 0; c < TILE; c++) {
            store(scores + c * WIDTH + j, exponential(load(scores + c * WIDTH + j) - relative));
        }
        // As `soften` adds them: each lane's, then the lanes.
        floats total[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            total[lane] = load(scores + lane * WIDTH + j);
            for (int c = lane + LANES; c < TILE; c += LANES) {
                total[lane] += load(scores + c * WIDTH + j);
            }
        }
        for (int half = LANES / 2; half > 0; half /= 2) {
            for (int lane = 0; lane < half; lane++) {
                total[lane] += total[lane + half];
            }
        }
        const floats factor = exponential(before - relative);
        store(kept + j, factor);
        store(panel.largest + j, highest);
        store(panel.total + j, fma(load(panel.total + j), factor, total[0]));
        rescale |= differ(before, highest);
    }
    if (rescale) {
        floats factor[P];
        for (int j = 0; j < P; j++) {
            factor[j] = load(kept + j * LANES);
        }
        for (int64_t d = 0; d < p.dv; d++) {
            for (int j = 0; j < P; j++) {
                float * at = panel.sums + d * WIDTH + j * LANES;
                store(at, load(at) * factor[j]);
            }
        }
    }
    weigh_panel<P>(panel.sums, values, scores, p.dv);
}

void many_rows(const Problem & p, const Block & block, int64_t kv_head, Queries of, float * scratch) {
    constexpr int WIDTH_MAX = PANEL_MAX * LANES;
    static_assert(ROWS_MAX % WIDTH_MAX == 0, "panels fill a block");
    const int rows   = block.count * (int) of.count;
    const int panels = (rows + WIDTH_MAX - 1) / WIDTH_MAX;
    float *   keys   = scratch;
    float *   values = keys + TILE * p.dk;
    float *   scores = values + TILE * p.dv;
    float *   rest   = scores + TILE * WIDTH_MAX;

    Panel panel[ROWS_MAX / WIDTH_MAX];
    int   vectors[ROWS_MAX / WIDTH_MAX];
    for (int i = 0; i < panels; i++) {
        vectors[i]      = std::min(PANEL_MAX, (rows - i * WIDTH_MAX + LANES - 1) / LANES);
        const int width = vectors[i] * LANES;
        panel[i]        = {rest, rest + width * p.dk, rest + width * (p.dk + p.dv), rest + width * (p.dk + p.dv + 1)};
        rest += width * (p.dk + p.dv + 2);
        std::fill_n(panel[i].sums, width * p.dv, 0.0f);
        std::fill_n(panel[i].largest, width, -INFINITY);
        std::fill_n(panel[i].total, width, 0.0f);
        for (int r = 0; r < width; r++) {
            const int row = i * WIDTH_MAX + r;
            // Rows that only fill the last vector repeat the last one.
            const int     real  = std::min(row, rows - 1);
            const float * query = p.query(block.stream, kv_head * p.group + of.first + real % of.count, block.first + real / of.count);
            for (int64_t d = 0; d < p.dk; d++) {
                panel[i].queries[d * width + r] = query[d] * p.scale;
            }
        }
    }
    for (int64_t tile = 0; tile < block.tiles(); tile++) {
        const int32_t * cells = &block.cells[tile * TILE];
        load_lines(p, block, tile, kv_head, 1);
        for (int c = 0; c < TILE; c++) {
            const half * key   = p.key(block.stream, kv_head, cells[c]);
            const half * value = p.value(block.stream, kv_head, cells[c]);
            for (int64_t d = 0; d < p.dk; d += LANES) {
                store(keys + c * p.dk + d, of_halves(key + d));
            }
            for (int64_t d = 0; d < p.dv; d += LANES) {
                store(values + c * p.dv + d, of_halves(value + d));
            }
        }
        alignas(LINE) uint32_t seen[ROWS_MAX];
        for (int i = 0; i < panels; i++) {
            uint32_t by_all = ~0u, by_any = 0;
            for (int r = 0; r < vectors[i] * LANES; r++) {
                const int real = std::min(i * WIDTH_MAX + r, rows - 1);
                seen[r]        = block.sees(real / (int) of.count, tile);
                by_all &= seen[r];
                by_any |= seen[r];
            }
            if (by_any == 0) {
                continue;
            }
            const bool all_seen = by_all == ~0u;
            switch (vectors[i]) {
                case 1: panel_tile<1>(p, panel[i], keys, values, seen, all_seen, scores); break;
                case 2: panel_tile<2>(p, panel[i], keys, values, seen, all_seen, scores); break;
#if defined(__AVX512F__)
                case 3: panel_tile<3>(p, panel[i], keys, values, seen, all_seen, scores); break;
                default: panel_tile<4>(p, panel[i], keys, values, seen, all_seen, scores); break;
#endif
            }
        }
    }
    for (int row = 0; row < rows; row++) {
        const Panel & at    = panel[row / WIDTH_MAX];
        const int     width = vectors[row / WIDTH_MAX] * LANES;
        const int     r     = row % WIDTH_MAX;
        const int64_t head  = kv_head * p.group + of.first + row % of.count;
        const auto    out   = p.out(block.stream, head, block.first + row / of.count);
        finish(p, head, {at.largest[r], at.total[r]}, at.sums + r, width, out);
    }
}

void attend(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, Queries of, float * scratch) {
    if (block.count * of.count <= FEW_ROWS) {
        few_rows(p, block, head_from, head_to, of, scratch);
    } else {
        for (int64_t head = head_from; head < head_to; head++) {
            many_rows(p, block, head, of, scratch);
        }
    }
}

void compute(const ggml_compute_params & params, const Problem & p) {
    // Each compute thread makes the lists for itself: that is cheaper than waiting for each other.
    static thread_local Blocks blocks;
    const auto    work    = ((uintptr_t) params.wdata + LINE - 1) / LINE * LINE;
    float *       scratch = (float *) work + params.ith * p.scratch();
    const int64_t ith = params.ith, nth = params.nth;
    const auto &  all = blocks.of(p);
    const Queries group{0, p.group};
    if (p.kv_heads % nth == 0) {
        // Heads cost the same: each thread has its share of every block.
        for (const Block & block : all) {
            attend(p, block, p.kv_heads * ith / nth, p.kv_heads * (ith + 1) / nth, group, scratch);
        }
    } else {
        // Key heads in turn; those that are left over at the end are shared by their query heads.
        const int64_t heads = (int64_t) all.size() * p.kv_heads, whole = heads - heads % nth;
        const int64_t rest = (heads - whole) * p.group, begin = rest * ith / nth, end = rest * (ith + 1) / nth;
        for (int64_t turn = 0; turn < heads; turn++) {
            const Block & block = all[(size_t) (turn / p.kv_heads)];
            const int64_t head  = turn % p.kv_heads;
            if (turn < whole) {
                if (turn % nth == ith) {
                    attend(p, block, head, head + 1, group, scratch);
                }
                continue;
            }
            const int64_t before = (turn - whole) * p.group;
            const int64_t first = std::max<int64_t>(begin - before, 0), last = std::min(end - before, p.group);
            if (first < last) {
                attend(p, block, head, head + 1, {first, last - first}, scratch);
            }
        }
    }
    if (blocks.lacked_positions()) {
        inexact.store(true, std::memory_order_relaxed);
    }
}

}  // namespace

}  // namespace cllm::attention

void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    using namespace cllm::attention;
    Problem p;
    if (describe(params, dst, p)) {
        compute(*params, p);
    } else {
        inexact.store(true, std::memory_order_relaxed);
        __real_ggml_compute_forward_flash_attn_ext(params, dst);
    }
}

void cllm_attention_leave_to_ggml(bool leave) {
    cllm::attention::left_to_ggml.store(leave, std::memory_order_relaxed);
}

bool cllm_attention_is_inexact(void) {
    return cllm::attention::inexact.load(std::memory_order_relaxed);
}
