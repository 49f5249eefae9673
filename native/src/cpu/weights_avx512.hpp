// Stored weights to vectors, for AVX-512. A Wide holds the same 8 places of two rows: lanes 0 to 7 of the first.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 2;
constexpr int kWideRegisters = 32;

struct Words {
    __m512i value;
};

inline Words operator>>(Words a, int bits) { return {_mm512_srli_epi32(a.value, static_cast<unsigned>(bits))}; }
inline Words operator<<(Words a, int bits) { return {_mm512_slli_epi32(a.value, static_cast<unsigned>(bits))}; }
inline Words operator&(Words a, std::uint32_t mask) {
    return {_mm512_and_si512(a.value, _mm512_set1_epi32(static_cast<int>(mask)))};
}
inline Wide bits_as_floats(Words a) { return {_mm512_castsi512_ps(a.value)}; }
// Of words below 2^31.
inline Wide to_floats(Words a) { return {_mm512_cvtepi32_ps(a.value)}; }

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
inline Words rows_words(const char *at, std::ptrdiff_t stride) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at + stride));
    return {_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1)};
}
inline Words rows_bytes(const char *at, std::ptrdiff_t stride) {
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(at));
    const __m128i second = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(at + stride));
    return {_mm512_cvtepu8_epi32(_mm_unpacklo_epi64(first, second))};
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t stride) {
    return join(_mm256_broadcast_ss(at), _mm256_broadcast_ss(at + stride));
}
inline Wide rows_halves(const float *at, std::ptrdiff_t stride) {
    return join(_mm256_set_m128(_mm_broadcast_ss(at + 1), _mm_broadcast_ss(at)),
                _mm256_set_m128(_mm_broadcast_ss(at + stride + 1), _mm_broadcast_ss(at + stride)));
}

// The weights that the low four bits of words stand for, under a scale and a bias for each row. Looking up one of the
// 16 that there are takes fewer instructions than computing it.
struct Nibbles {
    __m512 first, second;

    static Nibbles of(const float *scales, const float *biases, std::ptrdiff_t stride) {
        return {table(scales[0], biases[0]), table(scales[stride], biases[stride])};
    }
    Wide operator()(Words words) const {
        const __m512i nibble = _mm512_set1_epi32(15);
        const __m512i row = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(16), 1);
        const __m512i places = _mm512_ternarylogic_epi32(words.value, nibble, row, 0xea);  // words & nibble | row
        return {_mm512_permutex2var_ps(first, places, second)};
    }
    static __m512 table(float scale, float bias) {
        const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        return _mm512_fmadd_ps(numbers, _mm512_set1_ps(scale), _mm512_set1_ps(bias));
    }
};

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
