// The kernels of a decoder's step, compiled for several instruction sets. One table of them is in use: the best that the
// processor has, or what MLX_SIDECAR_CPU_KERNELS names.
#pragma once

#include <string>
#include <vector>

#include "attention.hpp"
#include "linear.hpp"
#include "rows.hpp"
#include "sampling.hpp"

namespace mlx_sidecar::cpu {

struct Kernels {
    const char *name;
    LinearKernels linear;
    AttentionKernels attention;
    RowsKernels rows;
    SamplingKernels sampling;
};

const Kernels &kernels();
// Puts another set to use. False, and nothing changes, if there is none of that name or the processor lacks it.
bool use_kernels(const std::string &name);
// The sets that this processor has, the best first.
std::vector<std::string> kernel_sets();

extern const Kernels kBaselineKernels;
#ifdef __x86_64__
extern const Kernels kAvx2Kernels, kAvx512Kernels;
Kernels avx512_vnni_kernels();
// Whether the processor computes 512-bit vectors in halves; asked of those with AVX-512.
bool has_narrow_units();
#endif

}  // namespace mlx_sidecar::cpu
