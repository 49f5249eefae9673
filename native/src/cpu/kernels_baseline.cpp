// Compiled for what every processor of an architecture has.
#include "lanes_baseline.hpp"

#include "attention_kernel.hpp"
#include "kernels.hpp"
#include "linear_kernel.hpp"
#include "rows_kernel.hpp"
#include "sampling_kernel.hpp"

namespace mlx_sidecar::cpu {

const Kernels kBaselineKernels{"baseline", kLinearKernels, kAttentionKernels, kRowsKernels, sampling::kSamplingKernels};

}  // namespace mlx_sidecar::cpu
