// Puts the BLAS shim in front of mlx's own BLAS, once per process.
#pragma once

#include <optional>
#include <string>

namespace mlx_sidecar {

struct BlasLibrary {
    std::string path;    // of the OpenBLAS that the shim forwards to
    std::string config;  // what it says of itself: "OpenBLAS 0.3.34 ... Haswell MAX_THREADS=64"
};

// Loads `openblas`, binds the shim at `shim` to it and makes the shim's cblas_* visible to libraries loaded later.
// Throws std::runtime_error saying what failed; then no symbol has been interposed.
BlasLibrary load_blas(const std::string &shim, const std::string &openblas);

// What load_blas loaded, or nothing before it succeeded.
const std::optional<BlasLibrary> &loaded_blas();

// Threads the loaded OpenBLAS uses for one product; 0 when none is loaded.
int blas_threads();

}  // namespace mlx_sidecar
