// Stored weights to vectors, for AVX-512. A Wide holds the same 8 places of two rows: lanes 0 to 7 of the first.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 2;
constexpr int kWideRegisters = 32;

struct Packed {
    __m512i value;
};

inline Packed operator>>(Packed a, int bits) { return {_mm512_srli_epi32(a.value, static_cast<unsigned>(bits))}; }
inline Packed operator<<(Packed a, int bits) { return {_mm512_slli_epi32(a.value, static_cast<unsigned>(bits))}; }
inline Packed operator&(Packed a, std::uint32_t mask) {
    return {_mm512_and_si512(a.value, _mm512_set1_epi32(static_cast<int>(mask)))};
}
inline Wide bits_as_floats(Packed a) { return {_mm512_castsi512_ps(a.value)}; }
// Of signed words.
inline Wide to_floats(Packed a) { return {_mm512_cvtepi32_ps(a.value)}; }

// Lane i of a row: byte 4 v + i of the 32 bytes for i below 4, byte 12 + 4 v + i for the others.
inline Packed bytes_of(Packed a, int v) {
    const __m128i four = _mm_setr_epi32(4 * v - 0x7f7f8000, 4 * v - 0x7f7f7fff, 4 * v - 0x7f7f7ffe, 4 * v - 0x7f7f7ffd);
    return {_mm512_shuffle_epi8(a.value, _mm512_broadcast_i32x4(four))};
}

inline Wide join(__m256 first, __m256 second) {
    return {_mm512_insertf32x8(_mm512_castps256_ps512(first), second, 1)};
}

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return {_mm512_broadcast_f32x8(_mm256_loadu_ps(from))}; }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t stride) {
    return join(Eight::load(reinterpret_cast<const float *>(at)).value,
                Eight::load(reinterpret_cast<const float *>(at + stride)).value);
}
inline Wide rows_f16(const char *at, std::ptrdiff_t stride) {
    return join(Eight::load_f16(reinterpret_cast<const std::uint16_t *>(at)).value,
                Eight::load_f16(reinterpret_cast<const std::uint16_t *>(at + stride)).value);
}
inline Packed rows_packed(const char *at, std::ptrdiff_t stride) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at + stride));
    return {_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1)};
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t stride) {
    return {_mm512_mask_broadcastss_ps(_mm512_set1_ps(at[0]), 0xff00, _mm_load_ss(at + stride))};
}
inline Wide rows_halves(const float *at, std::ptrdiff_t stride) {
    const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m128 first = _mm_castsi128_ps(_mm_loadu_si64(at));
    const __m128 both = _mm_loadh_pi(first, reinterpret_cast<const __m64 *>(at + stride));
    return {_mm512_permutexvar_ps(quarters, _mm512_castps128_ps512(both))};
}
// The first `count` of 8 floats of each row, 0 for the rest.
inline Wide rows_some(const float *at, std::ptrdiff_t stride, std::ptrdiff_t count) {
    return join(Eight::load_some(at, count).value, Eight::load_some(at + stride, count).value);
}

// Weights of four bits: number 8 i + v of a row is lane i of vector v. A row has one scale and bias. There are 16 weights
// for each, and looking them up takes fewer instructions than computing them each time.
struct Nibbles {
    Packed even, odd;  // bytes: a number and, above it, the number of its row
    __m512 first, second;

    static Nibbles of(Packed words, const float *scales, const float *biases, std::ptrdiff_t stride) {
        const __m512i row = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi8(16), 1);
        const __m512i low = _mm512_set1_epi8(15);
        constexpr int kAndOr = 0xea;
        return {{_mm512_ternarylogic_epi32(words.value, low, row, kAndOr)},
                {_mm512_ternarylogic_epi32((words >> 4).value, low, row, kAndOr)},
                table(scales[0], biases[0]),
                table(scales[stride], biases[stride])};
    }
    Wide vector(int v) const {
        // Only the lowest five bits of a place count.
        const Packed places = (v % 2 == 0 ? even : odd) >> v / 2 * 8;
        return {_mm512_permutex2var_ps(first, places.value, second)};
    }
    static __m512 table(float scale, float bias) {
        const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        return _mm512_fmadd_ps(numbers, _mm512_set1_ps(scale), _mm512_set1_ps(bias));
    }
};

// 32 bytes, the same for each row.
inline Packed repeat_packed(const void *from) {
    return {_mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i *>(from)))};
}
// In each lane the sum of four products of unsigned a and signed x, and of b and y; a and b are below 16.
inline Packed dot_nibbles(Packed a, Packed x, Packed b, Packed y) {
#ifdef __AVX512VNNI__
    return {_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), a.value, x.value), b.value, y.value)};
#else
    const __m512i pairs = _mm512_add_epi16(_mm512_maddubs_epi16(a.value, x.value), _mm512_maddubs_epi16(b.value, y.value));
    return {_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))};
#endif
}
// In each lane the sum of four products of unsigned a and signed x from -127 on; x_sums128 is 128 times that of x.
inline Packed dot_bytes(Packed a, Packed x, Packed x_sums128) {
#ifdef __AVX512VNNI__
    (void)x_sums128;
    return {_mm512_dpbusd_epi32(_mm512_setzero_si512(), a.value, x.value)};
#else
    // Less 128 and without its sign, a makes pairs of products that fit 16 bits.
    const __m512i less = _mm512_xor_si512(a.value, _mm512_set1_epi8(-128));
    const __m512i negated = _mm512_mask_sub_epi8(x.value, _mm512_movepi8_mask(less), _mm512_setzero_si512(), x.value);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(less), negated);
    return {_mm512_add_epi32(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)), x_sums128.value)};
#endif
}

// out[kWideRows * i + r]: the sum of row r of vector i of four, as Eight::sum.
inline void sum_four(const Wide *vectors, float *out) {
    const __m512 a = vectors[0].value, b = vectors[1].value, c = vectors[2].value, d = vectors[3].value;
    // In each quarter one row: of a, a, b, b.
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
    const __m512d low2 = _mm512_castps_pd(low), high2 = _mm512_castps_pd(high);
    const __m512 two = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low2, high2)),
                                     _mm512_castpd_ps(_mm512_unpackhi_pd(low2, high2)));
    const __m512 one = _mm512_add_ps(two, _mm512_shuffle_ps(two, two, 0xb1));
    // Quarter q holds sum q of low and sum q of high.
    const __m512i order = _mm512_castsi256_si512(_mm256_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14));
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one)));
}

}  // namespace
}  // namespace mlx_sidecar::cpu
