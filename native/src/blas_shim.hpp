// What the shim exports besides cblas_sgemm, cblas_dgemm and cblas_cgemm.
#pragma once

extern "C" {

// Resolves the OpenBLAS entry points in a library that dlopen returned as `openblas`.
// Returns null when all were found, else the name of the first one that is missing; then nothing was bound.
// Call it once, before anything can reach cblas_*: the pointers are plain globals, written here and only read after.
const char *mlx_sidecar_blas_bind(void *openblas);

using mlx_sidecar_blas_bind_fn = const char *(*)(void *);
}
