// Products of a tile of weights with some rows. Every number of rows computes a row with the same operations in the same order,
// so a row's result has the same bits whatever other rows there are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.h"

namespace cllm {

// Rows that one pass over a tile takes at most: their sums and the weights of 32 values stay in registers.
#if defined(__AVX512VNNI__)
constexpr int ROWS_MAX = 16;
#else
constexpr int ROWS_MAX = 4;
#endif
constexpr int ROWS_MAX_FLOATS = ROWS_MAX == 16 ? 8 : 4;

// Most rows of one pass for weights of this layout: 16-bit weights need two sums for each row, so half as many rows fit.
inline int rows_max(const Layout & layout) {
    return layout.rows == RowFormat::Floats ? ROWS_MAX_FLOATS : ROWS_MAX;
}

// What a product reads and writes.
struct Task {
    const uint8_t * tile;    // as `lay_out` wrote it
    const uint8_t * rows;    // as `write_row` wrote them, the first of those meant
    int64_t         count;   // rows that lie there in all
    int64_t         k;       // values of a row
    float *         out;     // the first column of the first row
    size_t          stride;  // floats from one row to the next
    int             columns; // of the tile that there are, 1..=16
    bool            is_first; // of the groups of rows that pass over the tile: the weights come from memory
};

using Product = void (*)(const Task & task);

// The product for 1..=rows_max rows of a type that has a layout.
Product product_of(ggml_type type, int rows);

// The parts of `product_of`, each with its file; null for other types.
Product product_k(ggml_type type, int rows);
Product product_32(ggml_type type, int rows);
Product product_16(ggml_type type, int rows);

}  // namespace cllm
