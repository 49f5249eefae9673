// The Python extension `mlx_sidecar_native._native`; its types are written down in _native.pyi.
#include <pybind11/pybind11.h>

#include "blas_loader.hpp"
#include "cpu/cpu_module.hpp"
#include "prefix_module.hpp"

namespace py = pybind11;

namespace {

py::dict build_info() {
    py::dict info;
    info["version"] = MLX_SIDECAR_VERSION;
    info["compiler"] = MLX_SIDECAR_COMPILER;
    info["system"] = MLX_SIDECAR_SYSTEM;
    info["python"] = PY_VERSION;
    return info;
}

py::tuple as_tuple(const mlx_sidecar::BlasLibrary &blas) {
    return py::make_tuple(blas.path, blas.config, blas.kernels ? py::object(py::str(*blas.kernels)) : py::none());
}

py::tuple load_blas(const std::string &shim, const std::string &openblas, bool invariant) {
    try {
        return as_tuple(mlx_sidecar::load_blas(shim, openblas, invariant));
    } catch (const std::runtime_error &error) {
        PyErr_SetString(PyExc_OSError, error.what());
        throw py::error_already_set();
    }
}

py::object loaded_blas() {
    const auto &blas = mlx_sidecar::loaded_blas();
    return blas ? py::object(as_tuple(*blas)) : py::object(py::none());
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.def("build_info", &build_info);
    module.def("load_blas", &load_blas, py::arg("shim"), py::arg("openblas"), py::arg("invariant"));
    module.def("loaded_blas", &loaded_blas);
    module.def("blas_threads", &mlx_sidecar::blas_threads);
    mlx_sidecar::bind_prefix_index(module);
    mlx_sidecar::cpu::bind_cpu(module);
}
