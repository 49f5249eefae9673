// What the shim exports besides cblas_sgemm, cblas_dgemm and cblas_cgemm.
#pragma once

extern "C" {

// Resolves the OpenBLAS entry points in a library that dlopen returned as `openblas`.
// Returns null when all were found, else the name of the first one that is missing; then nothing was bound.
// `every_product_invariant`: no float32 product goes to OpenBLAS; none depends on its batch (products.hpp).
// Call it before anything can reach cblas_*: what it sets are plain globals, written here and only read after.
const char *mlx_sidecar_blas_bind(void *openblas, int every_product_invariant);

// The kernels of the invariant products: "avx512", "avx2", "neon" or "baseline".
const char *mlx_sidecar_blas_kernels();

// Uses other kernels from now on; 0 where this machine does not have them. For tests.
int mlx_sidecar_blas_use_kernels(const char *name);

using mlx_sidecar_blas_bind_fn = const char *(*)(void *, int);
using mlx_sidecar_blas_kernels_fn = const char *(*)();
}
