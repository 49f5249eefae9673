// The binding of the prefix index.
#pragma once

#include <pybind11/pybind11.h>

namespace mlx_sidecar {

// Adds PrefixIndex, Match and Inserted to the module.
void bind_prefix_index(pybind11::module_ &module);

}  // namespace mlx_sidecar
