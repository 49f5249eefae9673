// Compiled for processors with AVX-512 F, VL, BW and DQ.
#include "lanes_avx512.hpp"

#include "attention_kernel.hpp"
#include "kernels.hpp"
#include "linear_kernel.hpp"
#include "rows_kernel.hpp"
#include "sampling_kernel.hpp"

namespace mlx_sidecar::cpu {

const Kernels kAvx512Kernels{"avx512", kLinearKernels, kAttentionKernels, kRowsKernels, sampling::kSamplingKernels};

}  // namespace mlx_sidecar::cpu
