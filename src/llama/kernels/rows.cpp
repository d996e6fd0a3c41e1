#include "rows.h"

#include <immintrin.h>

#include <cstring>

namespace cllm {

namespace {

// Smaller values are taken as zeros: 127 divided by them isn't finite.
constexpr float LEAST = 1e-36f;

// The largest absolute value of N.
template <int N> float largest(const float * from) {
    const __m256 positive = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    __m256       most     = _mm256_setzero_ps();
    for (int i = 0; i < N; i += 8) {
        most = _mm256_max_ps(most, _mm256_and_ps(_mm256_loadu_ps(from + i), positive));
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    four        = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

int32_t total(__m256i x) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    four         = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

// Rounds 16 values times `by` to 8 bits and returns their sum.
int32_t round_16(const float * from, float by, int8_t * to) {
    const __m256  scale = _mm256_set1_ps(by);
    const __m256i a     = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from), scale));
    const __m256i b     = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from + 8), scale));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *) to, bytes);
    return total(_mm256_add_epi32(a, b));
}

void write_256(const float * from, Row256 & to) {
    const float most = largest<256>(from);
    const float by   = most > LEAST ? 127 / most : 0;
    to.scale         = most / 127;
    for (int i = 0; i < 16; i += 2) {
        const int32_t first  = round_16(from + 16 * i, by, to.values + 16 * i);
        const int32_t second = round_16(from + 16 * i + 16, by, to.values + 16 * i + 16);
        to.less_32[i]        = -32 * first;
        to.less_32[i + 1]    = -32 * second;
        to.sums[i / 2]       = (int16_t) (first + second);
    }
}

void write_32(const float * from, Row32 & to, int offset) {
    const float most = largest<32>(from);
    const float by   = most > LEAST ? 127 / most : 0;
    to.scale         = most / 127;
    int32_t sum      = round_16(from, by, to.values);
    sum += round_16(from + 16, by, to.values + 16);
    to.less_offset = -offset * sum;
    to.sum         = (float) sum * to.scale;
}

}  // namespace

size_t rows_bytes(const Layout & layout, int64_t k, int64_t count) {
    switch (layout.rows) {
        case RowFormat::Bytes256: return (size_t) (k / 256 * count) * sizeof(Row256);
        case RowFormat::Bytes32:  return (size_t) (k / 32 * count) * sizeof(Row32);
        case RowFormat::Floats:   break;
    }
    return (size_t) (k * count) * sizeof(float);
}

void write_row(const Layout & layout, const float * from, uint8_t * to, int64_t k, int64_t row, int64_t count) {
    switch (layout.rows) {
        case RowFormat::Bytes256:
            for (int64_t block = 0; block < k / 256; block++) {
                write_256(from + 256 * block, ((Row256 *) to)[block * count + row]);
            }
            return;
        case RowFormat::Bytes32:
            for (int64_t block = 0; block < k / 32; block++) {
                write_32(from + 32 * block, ((Row32 *) to)[block * count + row], layout.offset);
            }
            return;
        case RowFormat::Floats:
            memcpy(to + (size_t) (row * k) * sizeof(float), from, (size_t) k * sizeof(float));
    }
}

}  // namespace cllm
