// Writing a product's sums, and choosing among as many instances as there may be rows.
#pragma once

#include <algorithm>
#include <utility>

#include "lanes.h"
#include "product.h"

namespace cllm {

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
