// The kernels of sampling.hpp for the vectors of the file that includes this one.
#pragma once

#include "sampling.hpp"

namespace mlx_sidecar::cpu {
namespace {

inline void largest(const float *x, Index size, Index &index, float &value) {
    index = 0;
    value = x[0];
    for (Index i = 0; i < size; ++i) {
        if (x[i] != x[i]) {
            index = i;
            value = x[i];
            return;
        }
        if (x[i] > value) {
            index = i;
            value = x[i];
        }
    }
}

inline float log_sum_exp(const float *x, Index size) {
    float most, sums[8];
    Index index;
    largest(x, size, index, most);
    if (most - most != 0.0F) return most;  // NaN or an infinity
    Eight sum = Eight::zero();
    for (Index i = 0; i < size; i += 8) {
        const Index count = size - i < 8 ? size - i : 8;
        const Eight power = exp(Eight::load_some(x + i, count) - Eight::all(most));
        if (count == 8) {
            sum = sum + power;
        } else {
            power.store(sums);
            for (Index j = count; j < 8; ++j) sums[j] = 0.0F;
            sum = sum + Eight::load(sums);
        }
    }
    float total[8];
    log(Eight::all(sum.sum())).store(total);
    return most + total[0];
}

constexpr SamplingKernels kSamplingKernels{largest, log_sum_exp};

}  // namespace
}  // namespace mlx_sidecar::cpu
