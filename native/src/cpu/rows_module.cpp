#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "cpu_module.hpp"
#include "kernels.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

Activation activation(const std::string &name) {
    if (name == "silu") return Activation::silu;
    if (name == "gelu") return Activation::gelu;
    if (name == "gelu_tanh") return Activation::gelu_tanh;
    throw std::invalid_argument("no activation of that name");
}

void require_alike(const Floats &a, const Floats &b) {
    if (a.size() != b.size()) throw std::invalid_argument("arrays of one size");
}

void rms_norm(const Floats &x, const std::optional<Floats> &weight, float epsilon, Floats out) {
    require_alike(x, out);
    if (weight) require_alike(x, *weight);
    kernels().rows.rms_norm(x.data(), weight ? weight->data() : nullptr, epsilon, x.size(), out.mutable_data());
}

void rotate(Floats x, const Floats &cosines, const Floats &sines, bool traditional) {
    require_alike(cosines, sines);
    if (x.ndim() != 2 || 2 * cosines.size() > x.shape(1)) throw std::invalid_argument("x is [heads, size >= 2 * pairs]");
    kernels().rows.rotate(x.mutable_data(), x.shape(0), x.shape(1), cosines.size(), cosines.data(), sines.data(),
                          traditional);
}

void gated(const std::string &name, const Floats &gate, const Floats &up, Floats out) {
    require_alike(gate, up);
    require_alike(gate, out);
    kernels().rows.gated(activation(name), gate.data(), up.data(), gate.size(), out.mutable_data());
}

void add_scaled(Floats x, const Floats &y, float scale) {
    require_alike(x, y);
    kernels().rows.add_scaled(x.mutable_data(), y.data(), scale, x.size());
}

void cap(Floats x, float most) { kernels().rows.cap(x.mutable_data(), most, x.size()); }

}  // namespace

void bind_rows(py::module_ &module) {
    module.def("rms_norm", &rms_norm, py::arg("x").noconvert(), py::arg("weight").noconvert().none(true),
               py::arg("epsilon"), py::arg("out").noconvert());
    module.def("rotate", &rotate, py::arg("x").noconvert(), py::arg("cosines").noconvert(),
               py::arg("sines").noconvert(), py::arg("traditional"));
    module.def("gated", &gated, py::arg("activation"), py::arg("gate").noconvert(), py::arg("up").noconvert(),
               py::arg("out").noconvert());
    module.def("add_scaled", &add_scaled, py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("scale"));
    module.def("cap", &cap, py::arg("x").noconvert(), py::arg("cap"));
}

}  // namespace mlx_sidecar::cpu
