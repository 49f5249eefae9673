// The products of linear.hpp for Python, over buffers of any kind: for tests and benchmarks.
#include <pybind11/pybind11.h>

#include <memory>
#include <new>
#include <stdexcept>

#include "cpu_module.hpp"
#include "kernels.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

Format format_named(const std::string &name) {
    if (name == "f32") return Format::f32;
    if (name == "f16") return Format::f16;
    if (name == "bf16") return Format::bf16;
    if (name == "q4") return Format::q4;
    if (name == "q8") return Format::q8;
    throw std::invalid_argument("no format is called " + name);
}

Arithmetic arithmetic_named(const std::string &name) {
    if (name == "exact") return Arithmetic::exact;
    if (name == "fast") return Arithmetic::fast;
    if (name == "int8") return Arithmetic::int8;
    throw std::invalid_argument("no arithmetic is called " + name);
}

// The contiguous bytes of a buffer, which must be as many as said.
const void *bytes_of(const py::buffer_info &info, Index bytes, const char *what) {
    Index stride = info.itemsize;
    for (Index axis = info.ndim; axis-- > 0; stride *= info.shape[axis]) {
        if (info.strides[axis] != stride && info.shape[axis] > 1) throw std::invalid_argument(std::string(what) + " has gaps");
    }
    if (info.size * info.itemsize != bytes) throw std::invalid_argument(std::string(what) + " has another size");
    return info.ptr;
}

// Weights [rows, columns] of `format`; scales and biases [rows, columns / group] or None. The buffers stay the caller's.
class Weights {
public:
    Weights(const std::string &format, Index rows, Index columns, const py::buffer &weight, const py::object &scales,
            const py::object &biases, const std::string &scale_format, Index group)
        : weight_(weight.request()) {
        matrix_.format = format_named(format);
        matrix_.scale_format = format_named(scale_format);
        matrix_.rows = rows;
        matrix_.columns = columns;
        matrix_.group = group;
        if (rows < 0 || columns < 1 || columns % column_step(matrix_.format) != 0) {
            throw std::invalid_argument("columns are not whole steps of the format");
        }
        matrix_.weight = bytes_of(weight_, rows * row_bytes(matrix_), "weight");
        if (matrix_.format != Format::q4 && matrix_.format != Format::q8) return;
        if ((group != 32 && group != 64 && group != 128) || columns % group != 0) {
            throw std::invalid_argument("columns are not whole groups");
        }
        scales_ = py::cast<py::buffer>(scales).request();
        biases_ = py::cast<py::buffer>(biases).request();
        const Index bytes = rows * (columns / group) * (matrix_.scale_format == Format::f32 ? 4 : 2);
        matrix_.scales = bytes_of(scales_, bytes, "scales");
        matrix_.biases = bytes_of(biases_, bytes, "biases");
    }
    const Matrix &matrix() const { return matrix_; }

private:
    Matrix matrix_;
    py::buffer_info weight_, scales_, biases_;
};

struct Free {
    void operator()(float *floats) const { ::operator delete[](floats, std::align_val_t{64}); }
};

std::unique_ptr<float[], Free> aligned_floats(Index count) {
    return std::unique_ptr<float[], Free>(new (std::align_val_t{64}) float[static_cast<std::size_t>(count) + 1]);
}

// out[tokens, rows]: columns `first` to `last` of it become those of x [tokens, columns] times the transposed weights.
void multiply(const Weights &weights, const py::buffer &x, const py::buffer &out, const std::string &arithmetic,
              Index first, Index last) {
    const Matrix &m = weights.matrix();
    const py::buffer_info from = x.request(), to = out.request(true);
    if (from.ndim != 2 || from.itemsize != sizeof(float)) throw std::invalid_argument("x is not a matrix of float32");
    const Index tokens = from.shape[0];
    if (first < 0 || last < first || last > m.rows) throw std::invalid_argument("no such rows");
    const auto *data = static_cast<const float *>(bytes_of(from, tokens * m.columns * Index{sizeof(float)}, "x"));
    bytes_of(to, tokens * m.rows * Index{sizeof(float)}, "out");
    if (tokens == 0) return;
    const Arithmetic kind = arithmetic_named(arithmetic);
    const LinearKernels &linear = kernels().linear;
    const auto arranged = aligned_floats(linear.arranged_floats(m, kind, tokens));
    const auto scratch = aligned_floats(linear.scratch_floats(m, kind, tokens));
    const py::gil_scoped_release unlocked;
    linear.arrange(m, kind, {data, tokens, m.columns, m.columns}, arranged.get());
    linear.multiply(m, kind, arranged.get(), tokens, first, last, static_cast<float *>(to.ptr), m.rows, scratch.get());
}

void expand_row(const Weights &weights, Index row, const py::buffer &out) {
    const Matrix &m = weights.matrix();
    const py::buffer_info to = out.request(true);
    if (row < 0 || row >= m.rows) throw std::invalid_argument("no such row");
    bytes_of(to, m.columns * Index{sizeof(float)}, "out");
    kernels().linear.expand_row(m, row, static_cast<float *>(to.ptr));
}

}  // namespace

void bind_linear(py::module_ &module) {
    py::class_<Weights>(module, "Weights")
        .def(py::init<const std::string &, Index, Index, const py::buffer &, const py::object &, const py::object &,
                      const std::string &, Index>(),
             py::arg("format"), py::arg("rows"), py::arg("columns"), py::arg("weight"), py::arg("scales") = py::none(),
             py::arg("biases") = py::none(), py::arg("scale_format") = "f32", py::arg("group") = 0);
    module.def("multiply", &multiply, py::arg("weights"), py::arg("x"), py::arg("out"), py::arg("arithmetic"),
               py::arg("first_row"), py::arg("last_row"));
    module.def("expand_row", &expand_row, py::arg("weights"), py::arg("row"), py::arg("out"));
    module.def("column_step", [](const std::string &format) { return column_step(format_named(format)); });
}

}  // namespace mlx_sidecar::cpu
