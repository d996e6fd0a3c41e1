// Rows (activations) as the matrix kernels read them: 8 bits, with a scale for as many values as a block of weights has.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.h"

namespace cllm {

// 256 values of a row: `scale` x `values`.
struct Row256 {
    int8_t  values[256];
    int32_t less_32[16];  // -32 x the sum of 16 values each, for weights that have 32 added
    int16_t sums[8];      // of 32 values each
    float   scale;
    int32_t unused[3];
};

// 32 values of a row.
struct Row32 {
    int8_t  values[32];
    float   scale;
    int32_t less_offset;  // -(what a weight has added) x the sum of the values
    float   sum;          // of the values, with the scale
    int32_t unused;
};

// Bytes that `count` rows of `k` values take. Blocks of all rows lie together: [block][row].
size_t rows_bytes(const Layout & layout, int64_t k, int64_t count);

// Writes row `row` of `count` into `to`.
void write_row(const Layout & layout, const float * from, uint8_t * to, int64_t k, int64_t row, int64_t count);

}  // namespace cllm
