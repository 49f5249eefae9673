// Puts the BLAS shim in front of mlx's own BLAS, once per process.
#pragma once

#include <optional>
#include <string>

namespace mlx_sidecar {

struct BlasLibrary {
    std::string path;    // of the OpenBLAS that the shim forwards to
    std::string config;  // what it says of itself: "OpenBLAS 0.3.34 ... Haswell MAX_THREADS=64"
    std::optional<std::string> kernels;  // of the shim, where they compute every float32 product
};

// Loads `openblas`, binds the shim at `shim` to it and makes the shim's cblas_* visible to libraries loaded later.
// `invariant`: the shim computes every float32 product itself, with bits that do not depend on the batch.
// Throws std::runtime_error saying what failed; then no symbol has been interposed.
BlasLibrary load_blas(const std::string &shim, const std::string &openblas, bool invariant);

// What load_blas loaded, or nothing before it succeeded.
const std::optional<BlasLibrary> &loaded_blas();

// Threads the loaded OpenBLAS uses for one product; 0 when none is loaded.
int blas_threads();

}  // namespace mlx_sidecar
