// How the sums of a text's sections become those of the text.
//
// The sums of a section are computed as if it were the whole text; then they are added one after the other, in the order of positions.
// So several threads can compute sections of one text, and the order of all sums, and with it each bit, is the same for any number of
// threads (Dao et al. 2023, "Flash-Decoding for long-context inference", split a text likewise, but not always at the same places).
#pragma once

#include <algorithm>
#include <cmath>

#include "problem.h"

namespace cllm::attention {

// The running softmax of one row: the largest score so far and the sum of the weights relative to it.
struct Running {
    float largest, sum;
};

constexpr Running NOTHING_SEEN = {-INFINITY, 0};

// What sums so far (`before`) and those of a section are scaled by as they are added. few_rows.cpp has one row in all lanes, many_rows.cpp
// has a row in each.
struct Scales {
    floats before, section;
};

inline Scales scales(floats largest_before, floats largest_of_section) {
    // A row that has seen nothing yet has no largest score; then any will do, since all its sums are 0.
    const floats relative = larger(larger(largest_before, largest_of_section), all(-3e38f));
    return {exponential(largest_before - relative), exponential(largest_of_section - relative)};
}

inline floats added(floats before, floats section, const Scales & by) {
    return fma(before, by.before, section * by.section);
}

// Adds a section's sums of one row, `dv` numbers side by side, to those of the sections before.
inline void add_section(Running & running, float * sums, Running of_section, const float * section, int64_t dv) {
    const Scales by = scales(all(running.largest), all(of_section.largest));
    for (int64_t d = 0; d < dv; d += LANES) {
        store(sums + d, added(load(sums + d), load(section + d), by));
    }
    alignas(LINE) float sum[LANES];
    store(sum, added(all(running.sum), all(of_section.sum), by));
    running = {std::max(running.largest, of_section.largest), sum[0]};
}

}  // namespace cllm::attention
