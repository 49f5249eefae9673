// The products of linear.hpp for Python, over buffers of any kind: for tests and benchmarks.
#include <pybind11/numpy.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "cpu_module.hpp"
#include "kernels.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

Arithmetic arithmetic_named(const std::string &name) {
    if (name == "exact") return Arithmetic::exact;
    if (name == "fast") return Arithmetic::fast;
    if (name == "int8") return Arithmetic::int8;
    throw std::invalid_argument("no such arithmetic: " + name);
}

struct Free {
    void operator()(float *floats) const { ::operator delete[](floats, std::align_val_t{64}); }
};

std::unique_ptr<float[], Free> aligned_floats(Index count) {
    return std::unique_ptr<float[], Free>(new (std::align_val_t{64}) float[static_cast<std::size_t>(count)]);
}

void multiply(const Matrix &m, const Floats &x, Floats out, const std::string &arithmetic, Index first, Index last) {
    if (x.ndim() != 2 || x.shape(1) != m.columns) throw std::invalid_argument("x is not [tokens, columns]");
    const Index tokens = x.shape(0);
    if (out.ndim() != 2 || out.shape(0) != tokens || out.shape(1) != m.rows) {
        throw std::invalid_argument("out is not [tokens, rows]");
    }
    if (first < 0 || last < first || last > m.rows) throw std::invalid_argument("no such rows");
    const Arithmetic kind = arithmetic_named(arithmetic);
    if (tokens == 0) return;
    float *const to = out.mutable_data();
    const LinearKernels &linear = kernels().linear;
    const auto arranged = aligned_floats(linear.arranged_floats(m, kind, tokens));
    const auto scratch = aligned_floats(linear.scratch_floats(m, kind, tokens));
    const py::gil_scoped_release unlocked;
    linear.arrange(m, kind, {x.data(), tokens, m.columns, m.columns}, arranged.get());
    linear.multiply(m, kind, arranged.get(), tokens, first, last, to, m.rows, scratch.get());
}

void expand_row(const Matrix &m, Index row, Floats out) {
    if (row < 0 || row >= m.rows) throw std::invalid_argument("no such row");
    if (out.size() != m.columns) throw std::invalid_argument("out is not [columns]");
    kernels().linear.expand_row(m, row, out.mutable_data());
}

}  // namespace

void bind_linear(py::module_ &module) {
    module.def("multiply", &multiply, py::arg("matrix"), py::arg("x").noconvert(), py::arg("out").noconvert(),
               py::arg("arithmetic"), py::arg("first_row"), py::arg("last_row"));
    module.def("expand_row", &expand_row, py::arg("matrix"), py::arg("row"), py::arg("out").noconvert());
}

}  // namespace mlx_sidecar::cpu
