// Stored weights to vectors, for AVX2. A Wide holds the same 8 places of kWideRows rows of weights, here of one.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 1;
constexpr int kWideRegisters = 16;

struct Packed {
    __m256i value;
};

inline Packed operator>>(Packed a, int bits) { return {_mm256_srli_epi32(a.value, bits)}; }
inline Packed operator<<(Packed a, int bits) { return {_mm256_slli_epi32(a.value, bits)}; }
inline Packed operator&(Packed a, std::uint32_t mask) {
    return {_mm256_and_si256(a.value, _mm256_set1_epi32(static_cast<int>(mask)))};
}
inline Wide bits_as_floats(Packed a) { return {_mm256_castsi256_ps(a.value)}; }
// Of signed words.
inline Wide to_floats(Packed a) { return {_mm256_cvtepi32_ps(a.value)}; }

// Lane i of a row: byte 4 v + i of the 32 bytes for i below 4, byte 12 + 4 v + i for the others.
inline Packed bytes_of(Packed a, int v) {
    const __m128i four = _mm_setr_epi32(4 * v - 0x7f7f8000, 4 * v - 0x7f7f7fff, 4 * v - 0x7f7f7ffe, 4 * v - 0x7f7f7ffd);
    return {_mm256_shuffle_epi8(a.value, _mm256_set_m128i(four, four))};
}

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return Wide::load(from); }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t) { return Wide::load(reinterpret_cast<const float *>(at)); }
inline Wide rows_f16(const char *at, std::ptrdiff_t) {
    return Wide::load_f16(reinterpret_cast<const std::uint16_t *>(at));
}
inline Packed rows_packed(const char *at, std::ptrdiff_t) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at))};
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t) { return {_mm256_broadcast_ss(at)}; }
inline Wide rows_halves(const float *at, std::ptrdiff_t) {
    const __m256d both = _mm256_broadcast_sd(reinterpret_cast<const double *>(at));
    return {_mm256_permutevar_ps(_mm256_castpd_ps(both), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1))};
}
// The first `count` of 8 floats of each row, 0 for the rest.
inline Wide rows_some(const float *at, std::ptrdiff_t, std::ptrdiff_t count) { return Eight::load_some(at, count); }

// Weights of four bits: number 8 i + v of a row is lane i of vector v. A row has one scale and bias.
struct Nibbles {
    Packed words;
    Wide scale, bias;

    static Nibbles of(Packed words, const float *scales, const float *biases, std::ptrdiff_t stride) {
        return {words, rows_all(scales, stride), rows_all(biases, stride)};
    }
    Wide vector(int v) const { return fma(to_floats((words >> 4 * v) & 15), scale, bias); }
};

// 32 bytes, the same for each row.
inline Packed repeat_packed(const void *from) {
    return {_mm256_loadu_si256(static_cast<const __m256i *>(from))};
}
// In each lane the sum of four products of unsigned a and signed x, and of b and y; a and b are below 16.
inline Packed dot_nibbles(Packed a, Packed x, Packed b, Packed y) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a.value, x.value), _mm256_maddubs_epi16(b.value, y.value));
    return {_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
}
// In each lane the sum of four products of unsigned a and signed x from -127 on; x_sums128 is 128 times that of x.
// Less 128 and without its sign, a makes pairs of products that fit 16 bits.
inline Packed dot_bytes(Packed a, Packed x, Packed x_sums128) {
    const __m256i less = _mm256_xor_si256(a.value, _mm256_set1_epi8(-128));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(less), _mm256_sign_epi8(x.value, less));
    return {_mm256_add_epi32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)), x_sums128.value)};
}

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
