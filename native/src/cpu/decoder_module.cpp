#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>

#include "cpu_module.hpp"
#include "decoder.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Tokens = py::array_t<std::int32_t, py::array::c_style>;

Format format_of(const std::string &name) {
    static const std::array<const char *, 5> names{"float32", "float16", "bfloat16", "q4", "q8"};
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (name == names[i]) return static_cast<Format>(i);
    }
    throw std::invalid_argument("no such format: " + name);
}

Arithmetic arithmetic_of(const std::string &name) {
    if (name == "exact") return Arithmetic::exact;
    if (name == "fast") return Arithmetic::fast;
    if (name == "int8") return Arithmetic::int8;
    throw std::invalid_argument("no such arithmetic: " + name);
}

Activation activation_of(const std::string &name) {
    if (name == "silu") return Activation::silu;
    if (name == "gelu") return Activation::gelu;
    if (name == "gelu_tanh") return Activation::gelu_tanh;
    throw std::invalid_argument("no such activation: " + name);
}

const void *address(const py::buffer &buffer, Index nbytes) {
    const py::buffer_info info = buffer.request();
    Index stride = info.itemsize;
    for (auto i = info.ndim - 1; i >= 0; --i) {
        const auto axis = static_cast<std::size_t>(i);
        if (info.shape[axis] != 1 && info.strides[axis] != stride) throw std::invalid_argument("weights with gaps");
        stride *= info.shape[axis];
    }
    if (stride != nbytes) throw std::invalid_argument("weights of another size");
    return info.ptr;
}

Matrix matrix_of(const std::string &format, Index rows, Index columns, const py::buffer &weight,
                 const std::optional<py::buffer> &scales, const std::optional<py::buffer> &biases, Index group,
                 const std::string &scale_format) {
    Matrix m;
    m.format = format_of(format);
    m.rows = rows;
    m.columns = columns;
    if (rows <= 0 || columns <= 0 || columns % column_step(m.format) != 0) {
        throw std::invalid_argument("a matrix of so many columns cannot be multiplied");
    }
    m.weight = address(weight, rows * row_bytes(m));
    if (m.format != Format::q4 && m.format != Format::q8) return m;
    m.scale_format = format_of(scale_format);
    if ((group != 32 && group != 64 && group != 128) || columns % group != 0 || !scales || !biases) {
        throw std::invalid_argument("groups of another size, or without scales and biases");
    }
    m.group = group;
    const Index bytes = rows * (columns / group) * (m.scale_format == Format::f32 ? 4 : 2);
    m.scales = address(*scales, bytes);
    m.biases = address(*biases, bytes);
    return m;
}

std::vector<float> vector_of(const std::optional<Floats> &values) {
    if (!values) return {};
    return {values->data(), values->data() + values->size()};
}

// The vector itself becomes the array's memory.
py::array rows_of(std::vector<float> &&values, Index columns) {
    auto held = std::make_unique<std::vector<float>>(std::move(values));
    const std::vector<Index> shape{static_cast<Index>(held->size()) / columns, columns};
    float *data = held->data();
    const py::capsule owner(held.release(), [](void *p) { delete static_cast<std::vector<float> *>(p); });
    return py::array_t<float>(shape, data, owner);
}

py::dtype type_of(Format entries) { return py::dtype(entries == Format::f16 ? "float16" : "float32"); }

py::tuple wait(Decoder &decoder) {
    Results results;
    {
        const py::gil_scoped_release release;
        results = decoder.wait();
    }
    py::object hidden = py::none();
    if (!results.hidden.empty()) hidden = rows_of(std::move(results.hidden), decoder.spec().embedding.columns);
    return py::make_tuple(rows_of(std::move(results.logits), decoder.spec().head.matrix.rows), hidden);
}

py::array read(const Blocks &blocks, Index first, Index last, Index start, Index stop) {
    if (last < first || stop < start) throw std::invalid_argument("a range that ends before it begins");
    const std::vector<Index> shape{last - first, blocks.kind->key_heads, stop - start, blocks.kind->size};
    py::array entries(type_of(blocks.kind->format), shape);
    void *to = entries.mutable_data();
    {
        const py::gil_scoped_release release;
        blocks.read(first, last, start, stop, to);
    }
    return entries;
}

void put(Decoder &decoder, Index row, int number, Index start, Index stop, const py::array &entries) {
    const Kind &kind = *decoder.rows().kinds().at(static_cast<std::size_t>(number));
    if (start < 0 || stop < start || entries.size() != kind.members() * kind.key_heads * (stop - start) * kind.size) {
        throw std::invalid_argument("entries of another shape");
    }
    if (!entries.dtype().equal(type_of(kind.format)) || (entries.flags() & py::array::c_style) == 0) {
        throw std::invalid_argument("entries of another type, or with gaps");
    }
    const void *from = entries.data();
    const py::gil_scoped_release release;
    decoder.cache().put(row, number, start, stop, from);
}

void add_pair(Adapter &adapter, int number, const Floats &a, const Floats &b) {
    if (a.ndim() != 2 || b.ndim() != 2 || b.shape(1) != a.shape(0)) {
        throw std::invalid_argument("no pair of [rank, columns] and [rows, rank]");
    }
    adapter.add(number, a.shape(0), a.shape(1), b.shape(0), a.data(), b.data());
}

void submit(Decoder &decoder, const std::vector<std::tuple<Index, Index, Index, bool>> &parts, const Tokens &tokens) {
    std::vector<Part> given;
    for (const auto &[row, count, wanted, hidden] : parts) given.push_back({row, count, wanted, hidden});
    std::vector<std::int32_t> flat(tokens.data(), tokens.data() + tokens.size());
    const py::gil_scoped_release release;
    decoder.submit(given, std::move(flat));
}

void bind_spec(py::module_ &module) {
    py::class_<Matrix>(module, "Matrix")
        .def(py::init(&matrix_of), py::arg("format"), py::arg("rows"), py::arg("columns"), py::arg("weight"),
             py::arg("scales") = py::none(), py::arg("biases") = py::none(), py::arg("group") = 0,
             py::arg("scale_format") = "float32")
        .def_readonly("rows", &Matrix::rows)
        .def_readonly("columns", &Matrix::columns);
    py::class_<Projection>(module, "Projection")
        .def(py::init([](const Matrix &matrix, const std::optional<Floats> &bias, int number) {
                 return Projection{matrix, vector_of(bias), number};
             }),
             py::arg("matrix"), py::arg("bias") = py::none(), py::arg("number") = -1);
    py::class_<Norm>(module, "Norm")
        .def(py::init([](const Floats &weight, float epsilon) { return Norm{vector_of(weight), epsilon}; }),
             py::arg("weight"), py::arg("epsilon"));
    py::class_<Rope>(module, "Rope")
        .def(py::init([](const Floats &frequencies, float position_scale, float input_scale, bool traditional) {
                 return Rope{vector_of(frequencies), position_scale, input_scale, traditional};
             }),
             py::arg("frequencies"), py::arg("position_scale"), py::arg("input_scale"), py::arg("traditional"));
    py::class_<Layer>(module, "Layer")
        .def(py::init<>())
        .def_readwrite("before_attention", &Layer::before_attention)
        .def_readwrite("after_attention", &Layer::after_attention)
        .def_readwrite("before_mlp", &Layer::before_mlp)
        .def_readwrite("after_mlp", &Layer::after_mlp)
        .def_readwrite("inputs", &Layer::inputs)
        .def_readwrite("output", &Layer::output)
        .def_readwrite("query_norm", &Layer::query_norm)
        .def_readwrite("key_norm", &Layer::key_norm)
        .def_readwrite("norms_whole", &Layer::norms_whole)
        .def_readwrite("rope", &Layer::rope)
        .def_readwrite("heads", &Layer::heads)
        .def_readwrite("key_heads", &Layer::key_heads)
        .def_readwrite("size", &Layer::size)
        .def_readwrite("kind", &Layer::kind)
        .def_readwrite("scale", &Layer::scale)
        .def_readwrite("cap", &Layer::cap)
        .def_readwrite("gate_up", &Layer::gate_up)
        .def_readwrite("down", &Layer::down)
        .def_property("activation", nullptr,
                      [](Layer &layer, const std::string &name) { layer.activation = activation_of(name); })
        .def_readwrite("residual", &Layer::residual);
    py::class_<Spec>(module, "Spec")
        .def(py::init<>())
        .def_readwrite("embedding", &Spec::embedding)
        .def_readwrite("embedding_scale", &Spec::embedding_scale)
        .def_readwrite("layers", &Spec::layers)
        .def_readwrite("ropes", &Spec::ropes)
        .def_readwrite("windows", &Spec::windows)
        .def_readwrite("norm", &Spec::norm)
        .def_readwrite("head", &Spec::head)
        .def_readwrite("logit_scale", &Spec::logit_scale)
        .def_readwrite("logit_cap", &Spec::logit_cap);
}

}  // namespace

void bind_decoder(py::module_ &module) {
    bind_spec(module);
    module.def("allocated_bytes", &allocated_bytes);
    py::class_<Blocks>(module, "Blocks")
        .def_readonly("start", &Blocks::start)
        .def_readonly("stop", &Blocks::stop)
        .def("read", &read, py::arg("first"), py::arg("last"), py::arg("start"), py::arg("stop"))
        .def_property_readonly("nbytes", [](const Blocks &held) {
            Index bytes = 0;
            for (const BlockRef &block : held.blocks) bytes += block->bytes;
            return bytes;
        });
    py::class_<Adapter, std::shared_ptr<Adapter>>(module, "Adapter")
        .def(py::init<>())
        .def("add", &add_pair, py::arg("number"), py::arg("a").noconvert(), py::arg("b").noconvert())
        .def_property_readonly("nbytes", &Adapter::nbytes);
    py::class_<Decoder>(module, "Decoder")
        .def(py::init([](const Spec &spec, const py::object &, int threads, const std::string &arithmetic,
                         const std::string &cache) {
                 if (threads < 1) throw std::invalid_argument("fewer than one thread");
                 const Arithmetic given = arithmetic_of(arithmetic);
                 const Format entries = format_of(cache);
                 if (entries != Format::f32 && entries != Format::f16) {
                     throw std::invalid_argument("no format of keys and values: " + cache);
                 }
                 const py::gil_scoped_release release;
                 return std::make_unique<Decoder>(spec, threads, given, entries);
             }),
             py::arg("spec"), py::arg("weights"), py::arg("threads"), py::arg("arithmetic"), py::arg("cache_dtype"),
             py::keep_alive<1, 3>())
        .def("open", [](Decoder &d, Index row) { d.rows().open(row); }, py::arg("row"))
        .def("adapt", [](Decoder &d, Index row, std::shared_ptr<Adapter> adapter) { d.adapt(row, std::move(adapter)); },
             py::arg("row"), py::arg("adapter").none(false))
        .def("close", [](Decoder &d, Index row) { d.rows().close(row); }, py::arg("row"))
        .def("clear", [](Decoder &d) { d.cache().clear(); }, py::call_guard<py::gil_scoped_release>())
        .def("length", [](Decoder &d, Index row) { return d.rows().row(row).length; }, py::arg("row"))
        .def("truncate", [](Decoder &d, Index row, Index length) { return d.rows().truncate(row, length); },
             py::arg("row"), py::arg("length"))
        .def("capture", [](Decoder &d, Index row, int kind, Index start, Index stop) {
                 return d.rows().capture(row, kind, start, stop);
             }, py::arg("row"), py::arg("kind"), py::arg("start"), py::arg("stop"))
        .def("adopt", [](Decoder &d, Index row, const Blocks &blocks, Index start, Index stop) {
                 return d.rows().adopt(row, blocks, start, stop);
             }, py::arg("row"), py::arg("blocks"), py::arg("start"), py::arg("stop"))
        .def("put", &put, py::arg("row"), py::arg("kind"), py::arg("start"), py::arg("stop"), py::arg("entries"))
        .def("begin_at", [](Decoder &d, Index row, Index length) { d.rows().begin_at(row, length); }, py::arg("row"),
             py::arg("length"))
        .def("release", &Decoder::release, py::call_guard<py::gil_scoped_release>())
        .def("submit", &submit, py::arg("parts"), py::arg("tokens"))
        .def("wait", &wait);
}

}  // namespace mlx_sidecar::cpu
