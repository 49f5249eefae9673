// Compiled for what every processor of an architecture has: NEON with FMA on aarch64, SSE2 on x86-64.
#ifdef __aarch64__
#include <arm_neon.h>
#endif

#include "products_kernel.hpp"
#include "products_sets.hpp"

namespace mlx_sidecar {
namespace {

struct Floats4 {
    static constexpr int kWidth = 4;
#ifdef __aarch64__
    static constexpr int kRows = 12;
#else
    static constexpr int kRows = 6;
#endif
    using Value = float __attribute__((vector_size(16)));
    // In memory a vector of floats may lie at any float.
    using Stored = float __attribute__((vector_size(16), aligned(4), may_alias));

    Value value;

    static Floats4 load(const float *from) { return {*reinterpret_cast<const Stored *>(from)}; }
    void store(float *to) const { *reinterpret_cast<Stored *>(to) = value; }
    static Floats4 broadcast(float x) { return {Value{x, x, x, x}}; }
    static Floats4 fma(Floats4 a, Floats4 b, Floats4 c) {
#ifdef __aarch64__
        return {vfmaq_f32(c.value, a.value, b.value)};
#else
        return {a.value * b.value + c.value};
#endif
    }

    // out[i][j] = from[j * ld + i]
    static void transpose(const float *from, Index ld, Floats4 *out) {
        const Value a = load(from).value, b = load(from + ld).value;
        const Value c = load(from + 2 * ld).value, d = load(from + 3 * ld).value;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) out[i].value = Value{a[i], b[i], c[i], d[i]};
    }
};

}  // namespace

void multiply_baseline(const Product &product) { Kernels<Floats4>::multiply(product); }

}  // namespace mlx_sidecar
