// Vectors of 8 and of 16 floats for processors with AVX-512 F, VL, BW and DQ.
#pragma once

#define MLX_SIDECAR_WIDE
#include "lanes_avx2.hpp"

namespace mlx_sidecar::cpu {
namespace {

// 16 floats: where lanes are independent of each other, or two rows of Eight in sums.
struct Wide {
    static constexpr int kLanes = 16;

    __m512 value;

    static Wide load(const float *from) { return {_mm512_loadu_ps(from)}; }
    static Wide load_some(const float *from, std::ptrdiff_t count) {
        return {_mm512_maskz_loadu_ps(first_lanes(count), from)};
    }
    static Wide load_f16(const std::uint16_t *from) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)))};
    }
    static Wide load_bf16(const std::uint16_t *from) {
        const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
    }
    static Wide all(float x) { return {_mm512_set1_ps(x)}; }
    static Wide zero() { return {_mm512_setzero_ps()}; }
    void store(float *to) const { _mm512_storeu_ps(to, value); }
    void store_some(float *to, std::ptrdiff_t count) const { _mm512_mask_storeu_ps(to, first_lanes(count), value); }

    float peak() const {
        const __m256 high = _mm512_extractf32x8_ps(value, 1);
        return Eight{_mm256_max_ps(_mm512_castps512_ps256(value), high)}.peak();
    }

    static __mmask16 first_lanes(std::ptrdiff_t count) {
        return static_cast<__mmask16>(count < 16 ? (1U << count) - 1 : 0xffffU);
    }
};

inline Wide operator+(Wide a, Wide b) { return {_mm512_add_ps(a.value, b.value)}; }
inline Wide operator-(Wide a, Wide b) { return {_mm512_sub_ps(a.value, b.value)}; }
inline Wide operator*(Wide a, Wide b) { return {_mm512_mul_ps(a.value, b.value)}; }
inline Wide operator/(Wide a, Wide b) { return {_mm512_div_ps(a.value, b.value)}; }
inline Wide fma(Wide a, Wide b, Wide c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }
inline Wide where_less(Wide a, Wide b, Wide x, Wide y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ), y.value, x.value)};
}
inline Wide maximum(Wide a, Wide b) {
    const __m512 greater = _mm512_max_ps(b.value, a.value);
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(b.value, b.value, _CMP_UNORD_Q), greater, b.value)};
}
inline Wide minimum(Wide a, Wide b) {
    const __m512 less = _mm512_min_ps(b.value, a.value);
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(b.value, b.value, _CMP_UNORD_Q), less, b.value)};
}
inline Wide larger(Wide a, Wide b) { return {_mm512_max_ps(a.value, b.value)}; }
inline Wide power_of_two(Wide shifted) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted.value), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23)))};
}
inline void split(Wide x, Wide &mantissa, Wide &exponent) {
    const __m512i above = _mm512_sub_epi32(_mm512_castps_si512(x.value), _mm512_set1_epi32(0x3f3504f3));
    const __m512i n = _mm512_srai_epi32(above, 23);
    exponent = {_mm512_cvtepi32_ps(n)};
    mantissa = {_mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(x.value), _mm512_slli_epi32(n, 23)))};
}

}  // namespace
}  // namespace mlx_sidecar::cpu

#include "weights_avx512.hpp"
