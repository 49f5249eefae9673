// Vectors of 8 floats for processors with AVX2, FMA and F16C. All names here are in an unnamed namespace: a function
// shared between files could be the copy of the wrong instruction set.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

// The order of every sum over an axis: 8 lanes, lane i takes elements i, i + 8, ... in turn, and `sum` adds the lanes.
struct Eight {
    static constexpr int kLanes = 8;

    __m256 value;

    static Eight load(const float *from) { return {_mm256_loadu_ps(from)}; }
    // The first `count` of 8 floats, 0 for the rest, which are not read.
    static Eight load_some(const float *from, std::ptrdiff_t count) {
        return {_mm256_maskload_ps(from, first_lanes(count))};
    }
    static Eight load_f16(const std::uint16_t *from) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)))};
    }
    static Eight load_bf16(const std::uint16_t *from) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
        return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
    }
    static Eight all(float x) { return {_mm256_set1_ps(x)}; }
    static Eight zero() { return {_mm256_setzero_ps()}; }
    void store(float *to) const { _mm256_storeu_ps(to, value); }
    void store_some(float *to, std::ptrdiff_t count) const { _mm256_maskstore_ps(to, first_lanes(count), value); }
    // Rounded to the nearest, of two equally near ones to the even one; infinite where it is too large.
    void store_f16(std::uint16_t *to) const {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    }

    // Lanes added in a fixed order: ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)).
    float sum() const {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
    }

    // The largest lane, of numbers that are none of them NaN.
    float peak() const {
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
        const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
    }

    static __m256i first_lanes(std::ptrdiff_t count) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count < 8 ? count : 8)), lane);
    }
};

inline Eight operator+(Eight a, Eight b) { return {_mm256_add_ps(a.value, b.value)}; }
inline Eight operator-(Eight a, Eight b) { return {_mm256_sub_ps(a.value, b.value)}; }
inline Eight operator*(Eight a, Eight b) { return {_mm256_mul_ps(a.value, b.value)}; }
inline Eight operator/(Eight a, Eight b) { return {_mm256_div_ps(a.value, b.value)}; }
inline Eight fma(Eight a, Eight b, Eight c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
// The lane of `x` where a < b, else that of `y`.
inline Eight where_less(Eight a, Eight b, Eight x, Eight y) {
    return {_mm256_blendv_ps(y.value, x.value, _mm256_cmp_ps(a.value, b.value, _CMP_LT_OQ))};
}
// NaN where either is.
inline Eight maximum(Eight a, Eight b) {
    const __m256 greater = _mm256_max_ps(b.value, a.value);  // `a` where one is NaN
    return {_mm256_blendv_ps(greater, b.value, _mm256_cmp_ps(b.value, b.value, _CMP_UNORD_Q))};
}
inline Eight minimum(Eight a, Eight b) {
    const __m256 less = _mm256_min_ps(b.value, a.value);
    return {_mm256_blendv_ps(less, b.value, _mm256_cmp_ps(b.value, b.value, _CMP_UNORD_Q))};
}
// Where neither is NaN; cheaper than `maximum`.
inline Eight larger(Eight a, Eight b) { return {_mm256_max_ps(a.value, b.value)}; }
// 2^n for integers n from -126 to 127, given n + 1.5 * 2^23, whose lowest bits are n. Anything for other numbers.
inline Eight power_of_two(Eight shifted) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted.value), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(127 << 23)))};
}
// x = mantissa * 2^exponent, sqrt(1/2) <= mantissa < sqrt(2), for positive normal x.
inline void split(Eight x, Eight &mantissa, Eight &exponent) {
    const __m256i root = _mm256_set1_epi32(0x3f3504f3);  // sqrt(1/2)
    const __m256i above = _mm256_sub_epi32(_mm256_castps_si256(x.value), root);
    const __m256i n = _mm256_srai_epi32(above, 23);
    exponent = {_mm256_cvtepi32_ps(n)};
    mantissa = {_mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(x.value), _mm256_slli_epi32(n, 23)))};
}
inline float root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

// to[j * to_stride + i] = from[8 i + j] for i and j below 8.
inline void transpose(const float *from, float *to, std::ptrdiff_t to_stride) {
    __m256 pairs[8], quads[8];
    for (int i = 0; i < 8; i += 2) {
        const __m256 a = _mm256_loadu_ps(from + 8 * i), b = _mm256_loadu_ps(from + 8 * i + 8);
        pairs[i] = _mm256_unpacklo_ps(a, b);
        pairs[i + 1] = _mm256_unpackhi_ps(a, b);
    }
    for (int i = 0; i < 8; i += 4) {
        quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31));
    }
}

#ifndef MLX_SIDECAR_WIDE
using Wide = Eight;
#endif

}  // namespace
}  // namespace mlx_sidecar::cpu

#ifndef MLX_SIDECAR_WIDE
#include "weights_avx2.hpp"
#endif

#include "lanes_math.hpp"
