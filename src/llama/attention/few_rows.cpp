// Attention of few rows: a vector's lanes run along the numbers of a head.

#include <algorithm>
#include <cmath>
#include <type_traits>

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

// Some key heads of a block and the rows of each, one behind the other.
struct Group {
    const Problem & p;
    const Block &   block;
    int64_t         from;
    int             heads;
    Queries         of;

    int     rows() const { return block.count * (int) of.count; }
    int64_t token(int row) const { return block.first + row % rows() / of.count; }
    int64_t head(int row) const { return (from + row / rows()) * p.group + of.first + row % rows() % of.count; }
};

// Queries by row, scaled: [row][dk].
void scale_queries(const Group & group, float * queries) {
    const Problem & p = group.p;
    for (int row = 0; row < group.heads * group.rows(); row++) {
        const float * query = p.query(group.block.stream, group.head(row), group.token(row));
        for (int64_t d = 0; d < p.dk; d++) {
            queries[row * p.dk + d] = query[d] * p.scale;
        }
    }
}

// The sums of a section for each row, [row][dv].
void sum_section(const Group & group, int64_t section, const float * queries, float * sums, Running * running, float * scores) {
    const Problem & p     = group.p;
    const Block &   block = group.block;
    const int       rows = group.rows(), all_rows = group.heads * rows;
    float           kept[HEADS_AT_ONCE * FEW_ROWS];
    std::fill_n(running, all_rows, NOTHING_SEEN);
    std::fill_n(sums, all_rows * p.dv, 0.0f);
    // Calls `use` with up to four of a head's rows at a time: their number, and the first of them.
    const auto in_fours = [&](int h, const auto & use) {
        for (int r = 0; r < rows; r += 4) {
            const int at = h * rows + r;
            switch (std::min(4, rows - r)) {
                case 1: use(std::integral_constant<int, 1>{}, at); break;
                case 2: use(std::integral_constant<int, 2>{}, at); break;
                case 3: use(std::integral_constant<int, 3>{}, at); break;
                default: use(std::integral_constant<int, 4>{}, at); break;
            }
        }
    };
    for (int64_t tile = block.section_begins[section]; tile < block.section_begins[section + 1]; tile++) {
        const int32_t * cells = &block.cells[tile * TILE];
        load_lines(p, block, tile, group.from, group.heads);
        // First the scores of all heads, then their weights, then the sums: each row's weights wait for its largest score, and rows wait
        // together.
        const half *keys[TILE], *values[TILE];
        for (int h = 0; h < group.heads; h++) {
            for (int c = 0; c < TILE; c++) {
                keys[c] = p.key(block.stream, group.from + h, cells[c]);
            }
            in_fours(h, [&](auto some, int at) { score<some.value>(queries + at * p.dk, p.dk, keys, scores + at * TILE); });
        }
        for (int row = 0; row < all_rows; row++) {
            const uint32_t seen   = block.sees(row % rows / (int) group.of.count, tile);
            float *        scored = scores + row * TILE;
            if (seen == 0) {
                kept[row] = 1;
                std::fill_n(scored, TILE, 0.0f);
            } else {
                kept[row] = soften(p, seen, scored, running[row]);
            }
        }
        for (int h = 0; h < group.heads; h++) {
            for (int c = 0; c < TILE; c++) {
                values[c] = p.value(block.stream, group.from + h, cells[c]);
            }
            in_fours(h, [&](auto some, int at) { weigh<some.value>(sums + at * p.dv, p.dv, scores + at * TILE, kept + at, values); });
        }
    }
}

// As many key heads at a time as a group has.
template <class Use> void each_group(const Problem & p, const Block & block, Heads heads, const Use & use) {
    for (int64_t from = heads.from; from < heads.to; from += HEADS_AT_ONCE) {
        use(Group{p, block, from, (int) std::min<int64_t>(HEADS_AT_ONCE, heads.to - from), heads.of});
    }
}

}  // namespace

void few_rows(const Problem & p, const Block & block, Heads heads, float * scratch) {
    each_group(p, block, heads, [&](const Group & group) {
        const int rows    = group.heads * group.rows();
        float *   queries = scratch;
        float *   sums    = queries + rows * p.dk;
        float *   section = sums + rows * p.dv;
        float *   scores  = section + rows * p.dv;
        Running   running[HEADS_AT_ONCE * FEW_ROWS], of_section[HEADS_AT_ONCE * FEW_ROWS];
        scale_queries(group, queries);
        if (block.sections() == 1) {
            sum_section(group, 0, queries, sums, running, scores);
        } else {
            std::fill_n(running, rows, NOTHING_SEEN);
            std::fill_n(sums, rows * p.dv, 0.0f);
            for (int64_t i = 0; i < block.sections(); i++) {
                sum_section(group, i, queries, section, of_section, scores);
                for (int row = 0; row < rows; row++) {
                    add_section(running[row], sums + row * p.dv, of_section[row], section + row * p.dv, p.dv);
                }
            }
        }
        for (int row = 0; row < rows; row++) {
            finish(p, group.head(row), running[row], sums + row * p.dv, 1, p.out(block.stream, group.head(row), group.token(row)));
        }
    });
}

void few_rows(const Problem & p, const Block & block, int64_t from, int64_t to, Heads heads, const Partials & partials, float * scratch) {
    each_group(p, block, heads, [&](const Group & group) {
        const int rows    = group.heads * group.rows();
        float *   queries = scratch;
        float *   sums    = queries + rows * p.dk;
        float *   scores  = sums + rows * p.dv;
        Running   running[HEADS_AT_ONCE * FEW_ROWS];
        scale_queries(group, queries);
        for (int64_t section = from; section < to; section++) {
            sum_section(group, section, queries, sums, running, scores);
            for (int row = 0; row < rows; row++) {
                const int64_t at = Partials::at(p, block, section, group.head(row), group.token(row) - block.first);
                partials.running[at] = running[row];
                std::copy_n(sums + row * p.dv, p.dv, partials.sums + at * p.dv);
            }
        }
    });
}

void finish_partials(const Problem & p, const Block & block, const Partials & partials, int64_t ith, int64_t nth, float * scratch) {
    const int64_t rows = p.kv_heads * p.group * block.count;
    for (int64_t row = rows * ith / nth; row < rows * (ith + 1) / nth; row++) {
        const int64_t head = row / block.count, token = row % block.count;
        Running       running = NOTHING_SEEN;
        std::fill_n(scratch, p.dv, 0.0f);
        for (int64_t section = 0; section < block.sections(); section++) {
            const int64_t at = Partials::at(p, block, section, head, token);
            add_section(running, scratch, partials.running[at], partials.sums + at * p.dv, p.dv);
        }
        finish(p, head, running, scratch, 1, p.out(block.stream, head, block.first + token));
    }
}

}  // namespace cllm::attention
