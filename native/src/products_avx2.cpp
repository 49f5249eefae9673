// Compiled for processors with AVX2 and FMA.
#include <immintrin.h>

#include "products_kernel.hpp"
#include "products_sets.hpp"

namespace mlx_sidecar {
namespace {

struct Floats8 {
    static constexpr int kWidth = 8, kRows = 6;

    __m256 value;

    static Floats8 load(const float *from) { return {_mm256_loadu_ps(from)}; }
    void store(float *to) const { _mm256_storeu_ps(to, value); }
    static Floats8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
    static Floats8 fma(Floats8 a, Floats8 b, Floats8 c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }

    // out[i][j] = from[j * ld + i]
    static void transpose(const float *from, Index ld, Floats8 *out) {
        __m256 quads[8];
        transpose_quads(from, ld, quads);
        transpose_quads(from + 4 * ld, ld, quads + 4);
#pragma GCC unroll 16
        for (int i = 0; i < 4; ++i) {
            out[i].value = _mm256_permute2f128_ps(quads[i], quads[4 + i], 0x20);
            out[4 + i].value = _mm256_permute2f128_ps(quads[i], quads[4 + i], 0x31);
        }
    }

    static void transpose_quads(const float *from, Index ld, __m256 *quads) {
        const __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + ld);
        const __m256 c = _mm256_loadu_ps(from + 2 * ld), d = _mm256_loadu_ps(from + 3 * ld);
        const __m256d ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
        const __m256d ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
        const __m256d cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
        const __m256d cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
        quads[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low));
        quads[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low));
        quads[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high));
        quads[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high));
    }
};

}  // namespace

void multiply_avx2(const Product &product) { Kernels<Floats8>::multiply(product); }

}  // namespace mlx_sidecar
