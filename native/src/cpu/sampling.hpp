// Choosing a token from a row of logits.
#pragma once

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

struct SamplingKernels {
    // The index of the first of the largest numbers, and that number; NaN if any is NaN.
    void (*largest)(const float *x, Index size, Index &index, float &value);
    // log of the sum of e^x
    float (*log_sum_exp)(const float *x, Index size);
};

}  // namespace mlx_sidecar::cpu
