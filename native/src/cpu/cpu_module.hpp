// `mlx_sidecar_native._native.cpu`: the kernels of a decoder's step for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace mlx_sidecar::cpu {

void bind_cpu(pybind11::module_ &native);

// Its parts.
void bind_linear(pybind11::module_ &module);
void bind_attention(pybind11::module_ &module);
void bind_rows(pybind11::module_ &module);
void bind_crew(pybind11::module_ &module);
void bind_sampling(pybind11::module_ &module);
void bind_decoder(pybind11::module_ &module);

}  // namespace mlx_sidecar::cpu
