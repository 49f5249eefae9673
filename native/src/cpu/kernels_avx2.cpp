// Compiled for processors with AVX2, FMA and F16C.
#include "lanes_avx2.hpp"

#include "attention_kernel.hpp"
#include "kernels.hpp"
#include "linear_kernel.hpp"
#include "rows_kernel.hpp"
#include "sampling_kernel.hpp"

namespace mlx_sidecar::cpu {

const Kernels kAvx2Kernels{"avx2", kLinearKernels, kAttentionKernels, kRowsKernels, sampling::kSamplingKernels};

}  // namespace mlx_sidecar::cpu
