// Products of activations with weights as they are stored. Element [t, r] of the result is a sum over the columns in
// one order (8 lanes, then `Eight::sum`), whatever other tokens, rows, tiles or threads there are.
#pragma once

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

// exact: each weight is rounded to float32 and then multiplied: the bits of the dequantised model.
// fast: up to 2 tokens, scales of q4 and q8 are applied to sums of a group. int8: up to 4 tokens, activations are rounded
// to 8 bits for q4 and q8. With more tokens, and for other formats, both are exact: within either range the bits do not
// depend on the number of tokens.
enum class Arithmetic : std::uint8_t { exact, fast, int8 };

// The activations of one product, prepared once for all threads. `scratch` has `arranged_floats` floats, aligned to 64.
struct Activations {
    const float *data;  // [tokens, columns], rows `stride` floats apart
    Index tokens, columns, stride;
};

struct LinearKernels {
    // Floats that `arrange` writes for this many tokens.
    Index (*arranged_floats)(const Matrix &, Arithmetic, Index tokens);
    // Writes `activations` to `arranged` in the order in which the kernel for this format reads them.
    void (*arrange)(const Matrix &, Arithmetic, const Activations &activations, float *arranged);
    // Floats of scratch that each thread needs for `multiply`.
    Index (*scratch_floats)(const Matrix &, Arithmetic, Index tokens);
    // out[t * out_stride + r] = activations[t] . matrix[r] for all tokens and first_row <= r < last_row.
    void (*multiply)(const Matrix &, Arithmetic, const float *arranged, Index tokens, Index first_row, Index last_row,
                     float *out, Index out_stride, float *scratch);
    // Row `row` as float32: out[columns]. Of quantised weights number * scale + bias in one rounding.
    void (*expand_row)(const Matrix &, Index row, float *out);
    // Rows that a share of work for one thread should be a multiple of.
    Index row_step;
};

}  // namespace mlx_sidecar::cpu
