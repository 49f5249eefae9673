// Compiled for processors with AVX-512F.
#include <immintrin.h>

#include "products_kernel.hpp"
#include "products_sets.hpp"

namespace mlx_sidecar {
namespace {

struct Floats16 {
    static constexpr int kWidth = 16, kRows = 12;

    __m512 value;

    static Floats16 load(const float *from) { return {_mm512_loadu_ps(from)}; }
    void store(float *to) const { _mm512_storeu_ps(to, value); }
    static Floats16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
    static Floats16 fma(Floats16 a, Floats16 b, Floats16 c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }

    // out[i][j] = from[j * ld + i]
    static void transpose(const float *from, Index ld, Floats16 *out) {
        __m512 quads[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i += 4) transpose_quads(from + i * ld, ld, quads + i);
        // quads[4 r + i] holds, in its part p of 4 floats, column 4 p + i of the stored rows 4 r to 4 r + 3.
#pragma GCC unroll 16
        for (int i = 0; i < 4; ++i) {
            const __m512 upper_even = _mm512_shuffle_f32x4(quads[i], quads[4 + i], 0x88);
            const __m512 upper_odd = _mm512_shuffle_f32x4(quads[i], quads[4 + i], 0xdd);
            const __m512 lower_even = _mm512_shuffle_f32x4(quads[8 + i], quads[12 + i], 0x88);
            const __m512 lower_odd = _mm512_shuffle_f32x4(quads[8 + i], quads[12 + i], 0xdd);
            out[i].value = _mm512_shuffle_f32x4(upper_even, lower_even, 0x88);
            out[4 + i].value = _mm512_shuffle_f32x4(upper_odd, lower_odd, 0x88);
            out[8 + i].value = _mm512_shuffle_f32x4(upper_even, lower_even, 0xdd);
            out[12 + i].value = _mm512_shuffle_f32x4(upper_odd, lower_odd, 0xdd);
        }
    }

    static void transpose_quads(const float *from, Index ld, __m512 *quads) {
        const __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + ld);
        const __m512 c = _mm512_loadu_ps(from + 2 * ld), d = _mm512_loadu_ps(from + 3 * ld);
        const __m512d ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        const __m512d ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        const __m512d cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
        const __m512d cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        quads[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
        quads[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
        quads[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
        quads[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
    }
};

}  // namespace

void multiply_avx512(const Product &product) { Kernels<Floats16>::multiply(product); }

}  // namespace mlx_sidecar
