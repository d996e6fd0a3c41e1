#include "layout.h"

#include <algorithm>
#include <cstring>

namespace cllm {

namespace {

uint16_t half_at(const uint8_t * from) {
    uint16_t x;
    memcpy(&x, from, sizeof(x));
    return x;
}

// d, m, 12 bytes of scales, 128 of nibbles.
void split_q4_k(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    halves[1] = half_at(block + 2);
    memcpy(words, block + 16, 128);
    memcpy(words + 32, block + 4, 12);
}

// d, m, 12 bytes of scales, 32 of fifth bits, 128 of nibbles.
void split_q5_k(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    halves[1] = half_at(block + 2);
    memcpy(words, block + 48, 128);
    memcpy(words + 32, block + 16, 32);
    memcpy(words + 40, block + 4, 12);
}

// 128 bytes of nibbles, 64 of upper bits, 16 scales, d.
void split_q6_k(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    memcpy(words, block, 208);
    halves[0] = half_at(block + 208);
}

// d, 16 bytes of nibbles: the first 16 values, the last 16.
void split_q4_0(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    memcpy(words, block + 2, 16);
}

// d, m, 16 bytes of nibbles.
void split_q4_1(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    halves[1] = half_at(block + 2);
    memcpy(words, block + 4, 16);
}

// A bit for each of 32 values, so that bit g of byte i is value 4 g + i's.
uint32_t fifth_bits(const uint8_t * from) {
    uint32_t bits, sorted = 0;
    memcpy(&bits, from, sizeof(bits));
    for (int value = 0; value < 32; value++) {
        sorted |= (bits >> value & 1) << (value % 4 * 8 + value / 4);
    }
    return sorted;
}

// d, 32 fifth bits, 16 bytes of nibbles.
void split_q5_0(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    memcpy(words, block + 6, 16);
    words[4] = fifth_bits(block + 2);
}

// d, m, 32 fifth bits, 16 bytes of nibbles.
void split_q5_1(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    halves[1] = half_at(block + 2);
    memcpy(words, block + 8, 16);
    words[4] = fifth_bits(block + 4);
}

// d, 32 bytes, which get 128 added.
void split_q8_0(const uint8_t * block, uint32_t * words, uint16_t * halves) {
    halves[0] = half_at(block);
    memcpy(words, block + 2, 32);
    for (int i = 0; i < 8; i++) {
        words[i] ^= 0x80808080;
    }
}

// A 16-bit float.
void split_16(const uint8_t * block, uint32_t *, uint16_t * halves) {
    halves[0] = half_at(block);
}

constexpr Layout LAYOUTS[] = {
    {GGML_TYPE_Q4_K, RowFormat::Bytes256, 256, 35, 2, 0, split_q4_k},
    {GGML_TYPE_Q5_K, RowFormat::Bytes256, 256, 43, 2, 0, split_q5_k},
    {GGML_TYPE_Q6_K, RowFormat::Bytes256, 256, 52, 1, 0, split_q6_k},
    {GGML_TYPE_Q4_0, RowFormat::Bytes32, 32, 4, 1, 8, split_q4_0},
    {GGML_TYPE_Q4_1, RowFormat::Bytes32, 32, 4, 2, 0, split_q4_1},
    {GGML_TYPE_Q5_0, RowFormat::Bytes32, 32, 5, 1, 16, split_q5_0},
    {GGML_TYPE_Q5_1, RowFormat::Bytes32, 32, 5, 2, 0, split_q5_1},
    {GGML_TYPE_Q8_0, RowFormat::Bytes32, 32, 8, 1, 128, split_q8_0},
    {GGML_TYPE_F16, RowFormat::Floats, 1, 0, 1, 0, split_16},
    {GGML_TYPE_BF16, RowFormat::Floats, 1, 0, 1, 0, split_16},
};

}  // namespace

const Layout * layout_of(ggml_type type) {
    constexpr size_t COUNT = sizeof(LAYOUTS) / sizeof(LAYOUTS[0]);
    const auto * found = std::find_if(LAYOUTS, LAYOUTS + COUNT, [&](const Layout & one) { return one.type == type; });
    return found == LAYOUTS + COUNT ? nullptr : found;
}

void lay_out(const Layout & layout, const uint8_t * from, uint8_t * to, int64_t k, int64_t columns, int64_t first, int64_t end) {
    const int64_t blocks       = k / layout.values;
    const size_t  column_bytes = ggml_row_size(layout.type, k);
    const size_t  source_bytes = ggml_type_size(layout.type);
    for (int64_t tile = first; tile < end; tile++) {
        uint8_t *  tile_at = to + (size_t) tile * layout.tile_bytes(k);
        uint32_t * words   = (uint32_t *) tile_at;
        uint16_t * halves  = (uint16_t *) (tile_at + (size_t) blocks * layout.block_bytes());
        if (tile * 16 + 16 > columns) {
            memset(tile_at, 0, layout.tile_bytes(k));
        }
        for (int64_t block = 0; block < blocks; block++) {
            for (int column = 0; column < 16 && tile * 16 + column < columns; column++) {
                uint32_t own_words[52];
                uint16_t own_halves[2];
                layout.split(from + (size_t) (tile * 16 + column) * column_bytes + (size_t) block * source_bytes, own_words, own_halves);
                for (int i = 0; i < layout.words; i++) {
                    words[(block * layout.words + i) * 16 + column] = own_words[i];
                }
                for (int i = 0; i < layout.halves; i++) {
                    halves[(block * layout.halves + i) * 16 + column] = own_halves[i];
                }
            }
        }
    }
}

}  // namespace cllm
