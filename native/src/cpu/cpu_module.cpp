#include "cpu_module.hpp"

#include <pybind11/stl.h>

#include "kernels.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {

void bind_cpu(py::module_ &native) {
    py::module_ module = native.def_submodule("cpu");
    module.def("kernels", [] { return kernels().name; });
    module.def("kernel_sets", &kernel_sets);
    module.def("use_kernels", &use_kernels, py::arg("name"));
    bind_linear(module);
    bind_attention(module);
    bind_rows(module);
    bind_crew(module);
    bind_sampling(module);
    bind_decoder(module);
}

}  // namespace mlx_sidecar::cpu
