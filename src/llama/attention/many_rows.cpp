// Attention of many rows: a vector's lanes run along the rows. P vectors of rows side by side are a panel.

#include <algorithm>
#include <cmath>
#include <utility>

#include "rows.h"

namespace cllm::attention {

namespace {

// scores[cell][row] of a tile of keys; `queries` is [d][row]. Adds as `score` of `few_rows.cpp` does: over each lane's numbers, then
// the lanes, in the order of `by_halves`, where partial sums are carried like the bits of a binary counter. With AVX-512 two lanes
// are summed at once, so that fewer sums pass through memory; AVX2 has too few registers for that. Not inlined: gcc 12 then keeps
// sums in memory.
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
        floats carried[3][SUMS];
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

// Sums of a panel's rows, [number][row], and each row's running softmax.
struct PanelSums {
    float *numbers, *largest, *total;

    void clear(int width, int64_t dv) const {
        std::fill_n(numbers, width * dv, 0.0f);
        std::fill_n(largest, width, NOTHING_SEEN.largest);
        std::fill_n(total, width, NOTHING_SEEN.sum);
    }
    // Adds a section's sums, as `add_section` of sections.h has it for one row.
    void add(const PanelSums & section, int width, int64_t dv) const {
        for (int j = 0; j < width; j += LANES) {
            const Scales by = scales(load(largest + j), load(section.largest + j));
            store(total + j, added(load(total + j), load(section.total + j), by));
            store(largest + j, larger(load(largest + j), load(section.largest + j)));
            for (int64_t d = 0; d < dv; d++) {
                float * at = numbers + d * width + j;
                store(at, added(load(at), load(section.numbers + d * width + j), by));
            }
        }
    }
};

// One panel's state: queries transposed, [number][row], the sums of all sections so far, and those of the present one.
struct Panel {
    float *   queries;
    int       vectors;
    PanelSums sums, section;

    int width() const { return vectors * LANES; }
};

template <int P>
void panel_tile(const Problem & p, const Panel & panel, const float * keys, const float * values, const uint32_t * seen,
                bool all_seen, float * scores) {
    constexpr int WIDTH = P * LANES;
    score_panel<P>(scores, keys, panel.queries, p.dk);
    bool rescale = false;
    alignas(LINE) float kept[WIDTH];
    for (int j = 0; j < WIDTH; j += LANES) {
        const floats before  = load(panel.section.largest + j);
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
        store(panel.section.largest + j, highest);
        store(panel.section.total + j, fma(load(panel.section.total + j), factor, total[0]));
        rescale |= differ(before, highest);
    }
    if (rescale) {
        floats factor[P];
        for (int j = 0; j < P; j++) {
            factor[j] = load(kept + j * LANES);
        }
        for (int64_t d = 0; d < p.dv; d++) {
            for (int j = 0; j < P; j++) {
                float * at = panel.section.numbers + d * WIDTH + j * LANES;
                store(at, load(at) * factor[j]);
            }
        }
    }
    weigh_panel<P>(panel.section.numbers, values, scores, p.dv);
}

// The rows of a block's tokens and some query heads of one key head, in panels.
struct Rows {
    static constexpr int WIDTH_MAX = PANEL_MAX * LANES;
    static_assert(ROWS_MAX % WIDTH_MAX == 0, "panels fill a block");

    const Problem & p;
    const Block &   block;
    int64_t         kv_head;
    Queries         of;
    float *         scratch;
    Panel           panels[ROWS_MAX / WIDTH_MAX];

    int     count() const { return block.count * (int) of.count; }
    int     panel_count() const { return (count() + WIDTH_MAX - 1) / WIDTH_MAX; }
    int64_t head(int row) const { return kv_head * p.group + of.first + row % of.count; }
    int64_t token(int row) const { return block.first + row / of.count; }

    void begin() {
        float * rest = scratch + TILE * (p.dk + p.dv + WIDTH_MAX);
        const auto take = [&](int64_t numbers) { return std::exchange(rest, rest + numbers); };
        for (int i = 0; i < panel_count(); i++) {
            Panel & panel   = panels[i];
            panel.vectors   = std::min(PANEL_MAX, (count() - i * WIDTH_MAX + LANES - 1) / LANES);
            const int width = panel.width();
            panel.queries   = take(width * p.dk);
            for (PanelSums * sums : {&panel.sums, &panel.section}) {
                sums->numbers = take(width * p.dv);
                sums->largest = take(width);
                sums->total   = take(width);
            }
            panel.sums.clear(width, p.dv);
            for (int r = 0; r < width; r++) {
                // Rows that only fill the last vector repeat the last one.
                const int     row   = std::min(i * WIDTH_MAX + r, count() - 1);
                const float * query = p.query(block.stream, head(row), token(row));
                for (int64_t d = 0; d < p.dk; d++) {
                    panel.queries[d * width + r] = query[d] * p.scale;
                }
            }
        }
    }

    void add_tile(int64_t tile) {
        float * keys   = scratch;
        float * values = keys + TILE * p.dk;
        float * scores = values + TILE * p.dv;
        load_lines(p, block, tile, kv_head, 1);
        for (int c = 0; c < TILE; c++) {
            const int32_t cell  = block.cells[tile * TILE + c];
            const half *  key   = p.key(block.stream, kv_head, cell);
            const half *  value = p.value(block.stream, kv_head, cell);
            for (int64_t d = 0; d < p.dk; d += LANES) {
                store(keys + c * p.dk + d, of_halves(key + d));
            }
            for (int64_t d = 0; d < p.dv; d += LANES) {
                store(values + c * p.dv + d, of_halves(value + d));
            }
        }
        alignas(LINE) uint32_t seen[ROWS_MAX];
        for (int i = 0; i < panel_count(); i++) {
            uint32_t by_all = ~0u, by_any = 0;
            for (int r = 0; r < panels[i].width(); r++) {
                const int real = std::min(i * WIDTH_MAX + r, count() - 1);
                seen[r]        = block.sees(real / (int) of.count, tile);
                by_all &= seen[r];
                by_any |= seen[r];
            }
            if (by_any == 0) {
                continue;
            }
            const bool all_seen = by_all == ~0u;
            switch (panels[i].vectors) {
                case 1: panel_tile<1>(p, panels[i], keys, values, seen, all_seen, scores); break;
                case 2: panel_tile<2>(p, panels[i], keys, values, seen, all_seen, scores); break;
#if defined(__AVX512F__)
                case 3: panel_tile<3>(p, panels[i], keys, values, seen, all_seen, scores); break;
                default: panel_tile<4>(p, panels[i], keys, values, seen, all_seen, scores); break;
#endif
            }
        }
    }

    void add_sections() {
        for (int64_t section = 0; section < block.sections(); section++) {
            for (int i = 0; i < panel_count(); i++) {
                panels[i].section.clear(panels[i].width(), p.dv);
            }
            for (int64_t tile = block.section_begins[section]; tile < block.section_begins[section + 1]; tile++) {
                add_tile(tile);
            }
            for (int i = 0; i < panel_count() && block.sections() > 1; i++) {
                panels[i].sums.add(panels[i].section, panels[i].width(), p.dv);
            }
        }
    }

    void finish_all() {
        for (int row = 0; row < count(); row++) {
            const Panel &     at   = panels[row / WIDTH_MAX];
            const int         r    = row % WIDTH_MAX;
            const PanelSums & sums = block.sections() == 1 ? at.section : at.sums;
            finish(p, head(row), {sums.largest[r], sums.total[r]}, sums.numbers + r, at.width(), p.out(block.stream, head(row), token(row)));
        }
    }
};

}  // namespace

void many_rows(const Problem & p, const Block & block, int64_t kv_head, Queries of, float * scratch) {
    Rows rows{p, block, kv_head, of, scratch, {}};
    rows.begin();
    rows.add_sections();
    rows.finish_all();
}

}  // namespace cllm::attention
