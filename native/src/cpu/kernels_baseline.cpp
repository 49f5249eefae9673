// Compiled for what every processor of an architecture has.
#ifdef __aarch64__
#include "lanes_neon.hpp"
#define NAME "neon"
#else
#include "lanes_baseline.hpp"
#define NAME "baseline"
#endif

#include "attention_kernel.hpp"
#include "kernels.hpp"
#include "linear_kernel.hpp"
#include "rows_kernel.hpp"
#include "sampling_kernel.hpp"

namespace mlx_sidecar::cpu {

const Kernels kBaselineKernels{NAME, kLinearKernels, kAttentionKernels, kRowsKernels, sampling::kSamplingKernels};

}  // namespace mlx_sidecar::cpu
