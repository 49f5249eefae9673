// What a decoder does to each token by itself.
#pragma once

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

enum class Activation : std::uint8_t { silu, gelu, gelu_tanh };

struct RowsKernels {
    // out = x / sqrt(mean(x^2) + epsilon) * weight, for one row of `size`; `weight` may be null, `out` may be x.
    void (*rms_norm)(const float *x, const float *weight, float epsilon, Index size, float *out);
    // Rotates the first 2 * pairs of `size` numbers of each head: (x, y) to (x cos - y sin, x sin + y cos). The pair i is
    // (2 i, 2 i + 1) where `traditional`, else (i, i + pairs).
    void (*rotate)(float *x, Index heads, Index size, Index pairs, const float *cosines, const float *sines,
                   bool traditional);
    // out = activation(gate) * up
    void (*gated)(Activation, const float *gate, const float *up, Index size, float *out);
    // x += y * scale
    void (*add_scaled)(float *x, const float *y, float scale, Index size);
    // x = cap * tanh(x / cap)
    void (*cap)(float *x, float cap, Index size);
};

}  // namespace mlx_sidecar::cpu
