// How weights lie in memory for the matrix kernels. Sixteen columns of the result (rows of ggml's matrix) make a tile: first all
// blocks of its weights, words of 4 bytes of the sixteen columns side by side, then all blocks' 16-bit scales. A word of each of
// sixteen columns fills a vector, which is multiplied with one word of a row (llama.cpp's repack and ik_llama.cpp's interleaved
// quants lie similarly, 4 or 8 columns wide). A tile takes as many bytes as the columns did, and up to 63 to end at a cache line.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml.h"

namespace cllm {

// How a type's rows (the activations) are given to its kernel.
enum class RowFormat {
    Bytes256,  // `Row256`: 8 bits, a scale each 256
    Bytes32,   // `Row32`: 8 bits, a scale each 32
    Floats,    // as they are
};

// What is known of a type.
struct Layout {
    ggml_type type;
    RowFormat rows;
    int       values;      // of a column in a block
    int       words;       // of 4 bytes of a column in a block
    int       halves;      // 16-bit scales of a column in a block
    int       offset;      // what is taken from a weight without sign, where `Row32` carries it
    // Writes one column's block.
    void (*split)(const uint8_t * block, uint32_t * words, uint16_t * halves);

    size_t block_bytes() const { return (size_t) words * 64; }
    size_t tile_bytes(int64_t k) const {
        return ((size_t) (k / values) * (size_t) (words * 64 + halves * 32) + 63) / 64 * 64;
    }
    size_t bytes(int64_t k, int64_t columns) const { return (size_t) ((columns + 15) / 16) * tile_bytes(k); }
};

// The layout of a type that has kernels, else null.
const Layout * layout_of(ggml_type type);

// Lays out tiles `first..end` of a matrix of `columns` columns of `k` weights. Columns that a last tile lacks are zeros.
void lay_out(const Layout & layout, const uint8_t * from, uint8_t * to, int64_t k, int64_t columns, int64_t first, int64_t end);

}  // namespace cllm
