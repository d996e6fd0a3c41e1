// What the products share: fetching weights ahead, writing sums, and choosing among as many instances as there may be rows.
#pragma once

#include <algorithm>
#include <utility>

#include "lanes.h"
#include "product.h"

namespace cllm {

// Bytes between weights that are computed and those that are fetched. Between 12 and 100 KiB it made no difference.
constexpr int AHEAD = 6 * 35 * 64;

// Asks for lines of weights AHEAD of those at `at` of the tile, into the second cache: a line for the first one holds one of its few
// fill buffers until memory answers, which other loads then wait for. Behind the last tile this may name lines that are no weights,
// which is harmless.
template <int LINES> CLLM_INLINE void fetch_ahead(const Task & task, int64_t at) {
    if (task.is_first) {
#pragma GCC unroll 64
        for (int i = 0; i < LINES; i++) {
            __builtin_prefetch(task.tile + at + AHEAD + i * 64, 0, 2);
        }
    }
}

// Writes row `row`'s sums of the columns that begin at `from`.
CLLM_INLINE void store_row(const Task & task, int row, int from, floats sums) {
    float * to = task.out + (size_t) row * task.stride + from;
    if (task.columns >= from + LANES) {
        store(to, sums);
    } else if (task.columns > from) {
        float all[LANES];
        store(all, sums);
        std::copy_n(all, task.columns - from, to);
    }
}

// `Kernel<R>::run` for R = `rows`.
template <template <int> class Kernel, int... R> Product choose(int rows, std::integer_sequence<int, R...>) {
    constexpr Product all[] = {Kernel<R + 1>::run...};
    return all[rows - 1];
}

template <template <int> class Kernel, int MOST = ROWS_MAX> Product choose(int rows) {
    return choose<Kernel>(rows, std::make_integer_sequence<int, MOST>());
}

}  // namespace cllm
