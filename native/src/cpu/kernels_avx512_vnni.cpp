// Compiled for processors that have VNNI besides the rest of AVX-512: its products of bytes.
#include "lanes_avx512.hpp"

#include "kernels.hpp"
#include "linear_kernel.hpp"

namespace mlx_sidecar::cpu {

namespace {

void multiply_with_vnni(const Matrix &m, Arithmetic arithmetic, const float *arranged, Index tokens, Index first,
                        Index last, float *out, Index out_stride, float *scratch) {
    if (arithmetic_of(m, arithmetic, tokens) == Arithmetic::int8) {
        return multiply_int8({m, arranged, tokens, out, out_stride, scratch}, first, last);
    }
    kAvx512Kernels.linear.multiply(m, arithmetic, arranged, tokens, first, last, out, out_stride, scratch);
}

}  // namespace

Kernels avx512_vnni_kernels() {
    Kernels set = kAvx512Kernels;
    set.name = "avx512_vnni";
    set.linear.multiply = multiply_with_vnni;
    return set;
}

}  // namespace mlx_sidecar::cpu
