// Compiled for processors with AVX-512 F, VL, BW and DQ.
#include "lanes_avx512.hpp"

#include "attention_kernel.hpp"
#include "kernels.hpp"
#include "linear_kernel.hpp"
#include "rows_kernel.hpp"
#include "sampling_kernel.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Where units are half as wide as vectors, two rows in one save the products of `fast` nothing, and have to be put together
// (decode on Zen 4: 1.3 times the speed with a row in each). The order of sums is the same.
void multiply_narrow(const Matrix &m, Arithmetic arithmetic, const float *arranged, Index tokens, Index first,
                     Index last, float *out, Index out_stride, float *scratch) {
    const bool narrow = arithmetic_of(m, arithmetic, tokens) == Arithmetic::fast && has_narrow_units();
    const LinearKernels &own = narrow ? kAvx2Kernels.linear : kLinearKernels;
    own.multiply(m, arithmetic, arranged, tokens, first, last, out, out_stride, scratch);
}

constexpr LinearKernels linear_kernels() {
    LinearKernels kernels = kLinearKernels;
    kernels.multiply = multiply_narrow;
    return kernels;
}

}  // namespace

const Kernels kAvx512Kernels{"avx512", linear_kernels(), kAttentionKernels, kRowsKernels, sampling::kSamplingKernels};

}  // namespace mlx_sidecar::cpu
