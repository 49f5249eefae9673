#include "cpu_module.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {

void bind_decoder(py::module_ &) {}

}  // namespace mlx_sidecar::cpu
