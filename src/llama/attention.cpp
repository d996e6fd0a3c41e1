// Attention over cached keys and values on an x86-64 CPU, in the place of ggml's own (GGML_OP_FLASH_ATTN_EXT).
//
// ggml has two ways: a tile of 64 tokens that see one text, and one token at a time. Between them lies all that a server
// does: a few tokens of each of several texts, and a short piece of a prompt beside them. There ggml's cost of a token is
// several times that of the tile, cells that a token may not see cost nearly as much as those it does, and heads that share
// a key read it once each. Here
//
// - a cell that nobody of a block of tokens may see costs nothing: a list of those that somebody sees is made first, once
//   for all heads. So sequences can lie in one buffer, and their rows be decoded in one pass over the weights;
// - all heads of a group pass over a key together, and with them all tokens of the block;
// - sums are kept in 32 bits; ggml keeps them in 16 where it goes one by one;
// - a token's result has the same bits whoever is computed with it, as long as the cells it sees come first among those that
//   somebody in its block sees, which is so where each sequence has a buffer of its own. Both ways below, for few rows and
//   for many, therefore add in the same order.
//
// The softmax is computed as the scores come (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax";
// Dao et al. 2022, "FlashAttention"). build.rs has the linker put this before ggml's function, and compiles it only for
// CPUs with AVX2, FMA, F16C and BMI2; `describe` says what it leaves to ggml.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "ggml.h"

extern "C" {

// As ggml-cpu hands it to each operation; it is in none of the headers that ggml installs.
struct ggml_compute_params {
    int                      ith, nth;
    size_t                   wsize;
    void *                   wdata;
    struct ggml_threadpool * threadpool;
    bool                     use_ref;
};

void __real_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void cllm_attention_leave_to_ggml(bool leave);
}

namespace {

std::atomic<bool> left_to_ggml{false};

using half = uint16_t;

#if defined(__AVX512F__)
using floats            = __m512;
constexpr int LANES     = 16;
constexpr int PANEL_MAX = 4;  // vectors of rows that stay in registers: 4 x 4 sums of 32 registers

inline floats load(const float * from) { return _mm512_loadu_ps(from); }
inline void   store(float * to, floats x) { _mm512_storeu_ps(to, x); }
inline floats all(float x) { return _mm512_set1_ps(x); }
inline floats of_halves(const half * from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }
inline floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
inline floats fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
inline __m256 folded(floats x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
}
inline float  largest(floats x) { return _mm512_reduce_max_ps(x); }
inline bool   differ(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) != 0; }
// Lanes of `x` whose word of `bits` has bit `at`, minus infinity in the others.
inline floats only(floats x, const uint32_t * bits, int at) {
    const __mmask16 seen = _mm512_test_epi32_mask(_mm512_loadu_si512(bits), _mm512_set1_epi32((int) (1u << at)));
    return _mm512_mask_blend_ps(seen, all(-INFINITY), x);
}
// 2 to the power of whole numbers from -126 to 127.
inline floats power_of_two(floats n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline floats rounded(floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline floats where_at_least(floats x, float limit, floats then) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, all(limit), _CMP_GE_OQ), then);
}
#else
using floats            = __m256;
constexpr int LANES     = 8;
constexpr int PANEL_MAX = 2;  // 4 x 2 sums of 16 registers

inline floats load(const float * from) { return _mm256_loadu_ps(from); }
inline void   store(float * to, floats x) { _mm256_storeu_ps(to, x); }
inline floats all(float x) { return _mm256_set1_ps(x); }
inline floats of_halves(const half * from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from)); }
inline floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
inline floats fma(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256 folded(floats x) { return x; }
inline float largest(floats x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four        = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
inline bool   differ(floats a, floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0; }
inline floats only(floats x, const uint32_t * bits, int at) {
    const __m256i bit  = _mm256_set1_epi32((int) (1u << at));
    const __m256i seen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_loadu_si256((const __m256i *) bits), bit), bit);
    return _mm256_blendv_ps(all(-INFINITY), x, _mm256_castsi256_ps(seen));
}
inline floats power_of_two(floats n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline floats rounded(floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline floats where_at_least(floats x, float limit, floats then) {
    return _mm256_and_ps(_mm256_cmp_ps(x, all(limit), _CMP_GE_OQ), then);
}
#endif

// Lanes are added by halves: 0 and 8, 1 and 9 ..., then 0 and 4 ..., 0 and 2, 0 and 1. `Halves` does so one by one.
inline float sum(floats x) {
    const __m256 eight = folded(x);
    __m128       four  = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four               = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// The lane that is number n when lanes are taken so that each can be added to those before it: 0, 8, 4, 12, 2 ...
constexpr int by_halves(int n) {
    int lane = 0;
    for (int bit = 1; bit < LANES; bit *= 2) {
        lane = lane * 2 + (n & bit ? 1 : 0);
    }
    return lane;
}

// Adds in the order of `sum` what comes in the order of `by_halves`, N vectors each: carries like a binary counter.
template <int N> class Halves {
  public:
    void add(int n, floats (&sums)[N]) {
        int level = 0;
        for (; n >> level & 1; level++) {
            for (int i = 0; i < N; i++) {
                sums[i] += carried[level][i];
            }
        }
        for (int i = 0; i < N; i++) {
            carried[level][i] = sums[i];
        }
    }
    floats total(int i) const { return carried[LEVELS][i]; }

  private:
    static constexpr int LEVELS = LANES == 16 ? 4 : 3;
    floats               carried[LEVELS + 1][N];
};

// Cells that are looked at together: a word of `Block::seen`, and keys and values of one head that fit into the first cache.
constexpr int TILE = 32;
// Most rows of a block; a row is a token's query of one head.
constexpr int ROWS_MAX = 64;
// Up to so many rows, lanes run along a head's numbers; with more, along the rows.
constexpr int FEW_ROWS = 8;
// Heads that few rows pass over a tile with, one behind the other: a cell's keys of several heads lie side by side.
constexpr int HEADS_AT_ONCE = 8;

// e to the power of x, for x of at most 0; 0 where a normal number can't hold it. The coefficients are Taylor's, whose
// next one adds less than 2e-7 of the value between -ln 2 / 2 and ln 2 / 2.
inline floats exponential(floats x) {
    constexpr float LEAST = -87.0f;
    const floats    y     = larger(x, all(LEAST));
    const floats    n     = rounded(y * all(1.44269504f));
    const floats    r     = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), y));
    floats          p     = all(1.0f / 720);
    for (float next : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
        p = fma(p, r, all(next));
    }
    return where_at_least(x, LEAST, p * power_of_two(n));
}

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
    // Numbers that one thread needs room for.
    size_t scratch() const {
        return (size_t) (ROWS_MAX + TILE) * (dk + dv) + TILE * ROWS_MAX + 3 * ROWS_MAX;
    }
};

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
    if (!types || !strides || !shapes || max_bias != 0 || params->wsize < p.scratch() * sizeof(float) * params->nth) {
        return false;
    }
    while (p.parts < p.group && (p.group % p.parts != 0 || p.streams * p.tokens * p.kv_heads * p.parts < params->nth)) {
        p.parts++;
    }
    p.kv_heads *= p.parts;
    p.group /= p.parts;
    return true;
}

// Tokens that see nearly the same cells, and which.
struct Block {
    int64_t stream = 0, first = 0;
    int     count = 0;
    // Cells that any of them sees, in order; as many as fill tiles, the last one again and again, seen by nobody.
    std::vector<int32_t> cells;
    // For each token a bit for each of `cells`: words of a tile, 64 bits' worth of room apart.
    std::vector<uint64_t> seen;
    size_t                words = 0;

    int64_t tiles() const { return (int64_t) cells.size() / TILE; }

    uint32_t sees(int token, int64_t tile) const {
        return (uint32_t) (seen[token * words + tile / 2] >> (tile % 2 * 32));
    }
};

// Forms blocks. What it needs room for is kept for the next time.
class Blocks {
  public:
    // Begins anew with all tokens of `stream`.
    void begin(const Problem & p, int64_t of_stream) {
        problem      = &p;
        block.stream = of_stream;
        next         = 0;
        words        = (size_t) (p.cells + 63) / 64;
        most         = (int) std::max<int64_t>(1, ROWS_MAX / p.group);
        bits.resize((most + 1) * words);
        any.resize(words);
        read_ahead = false;
    }

    // The next block, or null when there is none.
    const Block * get() {
        if (next == problem->tokens) {
            return nullptr;
        }
        block.first = next;
        block.count = 0;
        int64_t seen_by_any = 0;
        while (next < problem->tokens && block.count < most) {
            uint64_t * row = &bits[block.count * words];
            if (read_ahead) {
                std::copy_n(&bits[read_ahead_at * words], words, row);
                read_ahead = false;
            } else {
                read(problem->seen_by(block.stream, next), row);
            }
            int64_t alone = 0, together = 0;
            for (size_t w = 0; w < words; w++) {
                alone += __builtin_popcountll(row[w]);
                together += __builtin_popcountll(block.count == 0 ? row[w] : row[w] | any[w]);
            }
            const int64_t more = std::max(alone, seen_by_any);
            if (block.count > 0 && together - more > more / 8) {
                // It sees others: the first of the next block.
                read_ahead    = true;
                read_ahead_at = block.count;
                break;
            }
            for (size_t w = 0; w < words; w++) {
                any[w] = block.count == 0 ? row[w] : row[w] | any[w];
            }
            seen_by_any = together;
            block.count++;
            next++;
        }
        list(seen_by_any);
        return &block;
    }

  private:
    // A bit for each cell that isn't at minus infinity.
    void read(const half * mask, uint64_t * row) const {
        const __m128i hidden = _mm_set1_epi16((short) 0xFC00);
        for (size_t w = 0; w < words; w++) {
            const int64_t from = (int64_t) w * 64;
            uint64_t      word = 0;
            if (from + 64 <= problem->cells) {
                for (int at = 0; at < 64; at += 16) {
                    const __m128i low  = _mm_loadu_si128((const __m128i *) (mask + from + at));
                    const __m128i high = _mm_loadu_si128((const __m128i *) (mask + from + at + 8));
                    const __m128i both = _mm_packs_epi16(_mm_cmpeq_epi16(low, hidden), _mm_cmpeq_epi16(high, hidden));
                    word |= (uint64_t) (uint16_t) ~_mm_movemask_epi8(both) << at;
                }
            } else {
                for (int64_t cell = from; cell < problem->cells; cell++) {
                    word |= (uint64_t) (mask[cell] != 0xFC00) << (cell - from);
                }
            }
            row[w] = word;
        }
    }

    // Of `any` and `bits`: `cells` and `seen`.
    void list(int64_t count) {
        const size_t filled = (size_t) (count + TILE - 1) / TILE * TILE;
        block.cells.resize(filled);
        block.words = (filled + 63) / 64 + 1;
        block.seen.assign(block.count * block.words, 0);
        size_t at = 0;
        for (size_t w = 0; w < words; w++) {
            const uint64_t listed = any[w];
            if (listed == 0) {
                continue;
            }
            for (int token = 0; token < block.count; token++) {
                const uint64_t packed = _pext_u64(bits[token * words + w], listed);
                uint64_t *     to     = &block.seen[token * block.words + at / 64];
                to[0] |= packed << (at % 64);
                if (at % 64 != 0) {
                    to[1] |= packed >> (64 - at % 64);
                }
            }
            for (uint64_t left = listed; left != 0; left &= left - 1) {
                block.cells[at++] = (int32_t) (w * 64 + __builtin_ctzll(left));
            }
        }
        std::fill(block.cells.begin() + at, block.cells.end(), at == 0 ? 0 : block.cells[at - 1]);
    }

    const Problem *       problem = nullptr;
    int64_t               next    = 0;
    size_t                words   = 0;
    int                   most    = 0;
    std::vector<uint64_t> bits, any;
    bool                  read_ahead    = false;
    int                   read_ahead_at = 0;
    Block                 block;
};

// The running softmax of one row: the largest score so far and the sum of the weights relative to it.
struct Running {
    float largest, sum;
};

// ---- Few rows: lanes run along the numbers of a head. ----

// Scores of G queries, `dk` apart, with a tile of keys: [G][TILE].
template <int G> void score(const float * q, int64_t dk, const half * const * keys, float * scores) {
    constexpr int CELLS = G <= 2 ? 4 : 2;
    for (int c = 0; c < TILE; c += CELLS) {
        floats sums[G][CELLS];
        for (auto & row : sums) {
            std::fill_n(row, CELLS, all(0));
        }
        for (int64_t d = 0; d < dk; d += LANES) {
            floats key[CELLS];
            for (int i = 0; i < CELLS; i++) {
                key[i] = of_halves(keys[c + i] + d);
            }
            for (int g = 0; g < G; g++) {
                const floats query = load(q + g * dk + d);
                for (int i = 0; i < CELLS; i++) {
                    sums[g][i] = fma(query, key[i], sums[g][i]);
                }
            }
        }
        for (int g = 0; g < G; g++) {
            for (int i = 0; i < CELLS; i++) {
                scores[g * TILE + c + i] = sum(sums[g][i]);
            }
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
    for (int c = 0; c < TILE; c++) {
        if (p.softcap != 0) {
            scores[c] = p.softcap * std::tanh(scores[c]);
        }
        if (~seen >> c & 1) {
            scores[c] = -INFINITY;
        }
    }
    for (int c = 0; c < TILE; c += LANES) {
        highest = larger(highest, load(scores + c));
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
    alignas(64) float kept_by[LANES];
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

void few_rows(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, float * scratch) {
    const int rows = block.count * (int) p.group;
    for (int64_t from = head_from; from < head_to; from += HEADS_AT_ONCE) {
        const int heads   = (int) std::min<int64_t>(HEADS_AT_ONCE, head_to - from);
        float *   queries = scratch;
        float *   outs    = queries + heads * rows * p.dk;
        float *   scores  = outs + heads * rows * p.dv;
        Running   running[HEADS_AT_ONCE * FEW_ROWS];
        std::fill_n(running, heads * rows, Running{-INFINITY, 0});
        std::fill_n(outs, heads * rows * p.dv, 0.0f);
        for (int i = 0; i < heads * rows; i++) {
            const int64_t head  = (from + i / rows) * p.group + i % rows % p.group;
            const float * query = p.query(block.stream, head, block.first + i % rows / p.group);
            for (int64_t d = 0; d < p.dk; d++) {
                queries[i * p.dk + d] = query[d] * p.scale;
            }
        }
        for (int64_t tile = 0; tile < block.tiles(); tile++) {
            const int32_t * cells = &block.cells[tile * TILE];
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
                        const uint32_t seen   = block.sees((r + i) / (int) p.group, tile);
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
            const int64_t head = (from + i / rows) * p.group + i % rows % p.group;
            finish(p, head, running[i], outs + i * p.dv, 1, p.out(block.stream, head, block.first + i % rows / p.group));
        }
    }
}

// ---- Many rows: lanes run along the rows, P vectors of them side by side, a panel. ----

// scores[cell][row] of a tile of keys; `queries` is [d][row]. Adds as `score` does: over each lane's numbers, then the lanes.
template <int P> void score_panel(float * scores, const float * keys, const float * queries, int64_t dk) {
    constexpr int CELLS = 4;
    constexpr int WIDTH = P * LANES;
    for (int c = 0; c < TILE; c += CELLS) {
        Halves<CELLS * P> halves;
        for (int n = 0; n < LANES; n++) {
            const int lane = by_halves(n);
            floats    sums[CELLS * P];
            std::fill_n(sums, CELLS * P, all(0));
            for (int64_t d = lane; d < dk; d += LANES) {
                floats query[P];
                for (int j = 0; j < P; j++) {
                    query[j] = load(queries + d * WIDTH + j * LANES);
                }
                for (int i = 0; i < CELLS; i++) {
                    const floats key = all(keys[(c + i) * dk + d]);
                    for (int j = 0; j < P; j++) {
                        sums[i * P + j] = fma(query[j], key, sums[i * P + j]);
                    }
                }
            }
            halves.add(n, sums);
        }
        for (int i = 0; i < CELLS * P; i++) {
            store(scores + c * WIDTH + i * LANES, halves.total(i));
        }
    }
}

// to[d][row] += values[cell][d] * weights[cell][row], over the cells of a tile in order.
template <int P> void weigh_panel(float * to, const float * values, const float * weights, int64_t dv) {
    constexpr int NUMBERS = 4;
    constexpr int WIDTH   = P * LANES;
    for (int64_t d = 0; d < dv; d += NUMBERS) {
        floats sums[NUMBERS][P];
        for (int i = 0; i < NUMBERS; i++) {
            for (int j = 0; j < P; j++) {
                sums[i][j] = load(to + (d + i) * WIDTH + j * LANES);
            }
        }
        for (int c = 0; c < TILE; c++) {
            floats weight[P];
            for (int j = 0; j < P; j++) {
                weight[j] = load(weights + c * WIDTH + j * LANES);
            }
            for (int i = 0; i < NUMBERS; i++) {
                const floats value = all(values[c * dv + d + i]);
                for (int j = 0; j < P; j++) {
                    sums[i][j] = fma(weight[j], value, sums[i][j]);
                }
            }
        }
        for (int i = 0; i < NUMBERS; i++) {
            for (int j = 0; j < P; j++) {
                store(to + (d + i) * WIDTH + j * LANES, sums[i][j]);
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
    float kept[WIDTH];
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
        Halves<1> total;
        for (int n = 0; n < LANES; n++) {
            floats one[1] = {all(0)};
            for (int c = by_halves(n); c < TILE; c += LANES) {
                one[0] += load(scores + c * WIDTH + j);
            }
            total.add(n, one);
        }
        const floats factor = exponential(before - relative);
        store(kept + j, factor);
        store(panel.largest + j, highest);
        store(panel.total + j, fma(load(panel.total + j), factor, total.total(0)));
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

void many_rows(const Problem & p, const Block & block, int64_t kv_head, float * scratch) {
    constexpr int WIDTH_MAX = PANEL_MAX * LANES;
    static_assert(ROWS_MAX % WIDTH_MAX == 0, "panels fill a block");
    const int rows   = block.count * (int) p.group;
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
            const float * query = p.query(block.stream, kv_head * p.group + real % p.group, block.first + real / p.group);
            for (int64_t d = 0; d < p.dk; d++) {
                panel[i].queries[d * width + r] = query[d] * p.scale;
            }
        }
    }
    for (int64_t tile = 0; tile < block.tiles(); tile++) {
        const int32_t * cells = &block.cells[tile * TILE];
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
        uint32_t seen[ROWS_MAX];
        for (int i = 0; i < panels; i++) {
            uint32_t by_all = ~0u, by_any = 0;
            for (int r = 0; r < vectors[i] * LANES; r++) {
                const int real = std::min(i * WIDTH_MAX + r, rows - 1);
                seen[r]        = block.sees(real / (int) p.group, tile);
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
        const Panel & of    = panel[row / WIDTH_MAX];
        const int     width = vectors[row / WIDTH_MAX] * LANES;
        const int     r     = row % WIDTH_MAX;
        const int64_t head  = kv_head * p.group + row % p.group;
        finish(p, head, {of.largest[r], of.total[r]}, of.sums + r, width, p.out(block.stream, head, block.first + row / p.group));
    }
}

void attend(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, float * scratch) {
    if (block.count * p.group <= FEW_ROWS) {
        few_rows(p, block, head_from, head_to, scratch);
    } else {
        for (int64_t head = head_from; head < head_to; head++) {
            many_rows(p, block, head, scratch);
        }
    }
}

}  // namespace

void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    Problem p;
    if (!describe(params, dst, p)) {
        __real_ggml_compute_forward_flash_attn_ext(params, dst);
        return;
    }
    // Each compute thread makes the lists for itself: that is cheaper than waiting for each other.
    static thread_local Blocks blocks;
    float *       scratch = (float *) params->wdata + params->ith * p.scratch();
    const int64_t ith = params->ith, nth = params->nth;
    int64_t       turn = 0;
    for (int64_t stream = 0; stream < p.streams; stream++) {
        blocks.begin(p, stream);
        while (const Block * block = blocks.get()) {
            if (p.kv_heads % nth == 0) {
                // Heads cost the same: each thread has its share of every block.
                attend(p, *block, p.kv_heads * ith / nth, p.kv_heads * (ith + 1) / nth, scratch);
            } else {
                for (int64_t head = 0; head < p.kv_heads; head++, turn++) {
                    if (turn % nth == ith) {
                        attend(p, *block, head, head + 1, scratch);
                    }
                }
            }
        }
    }
}

void cllm_attention_leave_to_ggml(bool leave) {
    left_to_ggml.store(leave, std::memory_order_relaxed);
}
