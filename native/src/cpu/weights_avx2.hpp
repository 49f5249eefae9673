// Stored weights to vectors, for AVX2. A Wide holds the same 8 places of kWideRows rows of weights, here of one.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 1;
constexpr int kWideRegisters = 16;

struct Words {
    __m256i value;
};

inline Words operator>>(Words a, int bits) { return {_mm256_srli_epi32(a.value, bits)}; }
inline Words operator<<(Words a, int bits) { return {_mm256_slli_epi32(a.value, bits)}; }
inline Words operator&(Words a, std::uint32_t mask) {
    return {_mm256_and_si256(a.value, _mm256_set1_epi32(static_cast<int>(mask)))};
}
inline Wide bits_as_floats(Words a) { return {_mm256_castsi256_ps(a.value)}; }
// Of words below 2^31.
inline Wide to_floats(Words a) { return {_mm256_cvtepi32_ps(a.value)}; }

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return Wide::load(from); }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t) { return Wide::load(reinterpret_cast<const float *>(at)); }
inline Wide rows_f16(const char *at, std::ptrdiff_t) {
    return Wide::load_f16(reinterpret_cast<const std::uint16_t *>(at));
}
inline Words rows_words(const char *at, std::ptrdiff_t) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at))};
}
inline Words rows_bytes(const char *at, std::ptrdiff_t) {
    return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(at)))};
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t) { return {_mm256_broadcast_ss(at)}; }
inline Wide rows_halves(const float *at, std::ptrdiff_t) {
    return {_mm256_set_m128(_mm_broadcast_ss(at + 1), _mm_broadcast_ss(at))};
}

// The weights that the low four bits of words stand for, under a scale and a bias for each row.
struct Nibbles {
    Wide scale, bias;

    static Nibbles of(const float *scales, const float *biases, std::ptrdiff_t stride) {
        return {rows_all(scales, stride), rows_all(biases, stride)};
    }
    Wide operator()(Words words) const { return fma(to_floats(words & 15), scale, bias); }
};

// out[kWideRows * i + r]: the sum of row r of vector i of four, as Eight::sum.
inline void sum_four(const Wide *vectors, float *out) {
    __m128 fours[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        fours[i] = _mm_add_ps(_mm256_castps256_ps128(vectors[i].value), _mm256_extractf128_ps(vectors[i].value, 1));
    }
    // Lanes of two vectors: 0 + 2 and 1 + 3 of the first, then of the second.
    const __m128 low = _mm_add_ps(_mm_movelh_ps(fours[0], fours[1]), _mm_movehl_ps(fours[1], fours[0]));
    const __m128 high = _mm_add_ps(_mm_movelh_ps(fours[2], fours[3]), _mm_movehl_ps(fours[3], fours[2]));
    _mm_storeu_ps(out, _mm_add_ps(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xdd)));
}

}  // namespace
}  // namespace mlx_sidecar::cpu
