#include <pybind11/numpy.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "cpu_module.hpp"
#include "kernels.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

struct Free {
    void operator()(float *data) const { ::operator delete(data, std::align_val_t{64}); }
};

std::unique_ptr<float, Free> floats(Index count) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    return std::unique_ptr<float, Free>(static_cast<float *>(::operator new(bytes, std::align_val_t{64})));
}

void require(bool held, const char *what) {
    if (!held) throw std::invalid_argument(what);
}

// Of blocks, which are f32 or f16.
Format format_of(const py::array &blocks) {
    require((blocks.flags() & py::array::c_style) != 0, "blocks have no gaps");
    if (blocks.dtype().equal(py::dtype::of<float>())) return Format::f32;
    require(blocks.dtype().equal(py::dtype("float16")), "blocks are float32 or float16");
    return Format::f16;
}

void store_keys_values(py::array block, Index place, const Floats &keys, const Floats &values) {
    require(keys.ndim() == 2 && values.ndim() == 2, "keys and values are [key_heads, size]");
    const Index key_heads = keys.shape(0), size = keys.shape(1);
    require(values.shape(0) == key_heads && values.shape(1) == size, "as many values as keys");
    require(block.size() == key_heads * 2 * size * kBlockTokens, "a block is [key_heads, 2, size * 64]");
    require(size % 8 == 0, "sizes are multiples of 8");
    require(place >= 0 && place < kBlockTokens, "a place is 0 to 63");
    kernels().attention.store(format_of(block), block.mutable_data(), place, key_heads, size, keys.data(), values.data());
}

// `parts`: 0 does the whole attention without partials; with more, the shares are done in so many parts, the last first.
void attend(const Floats &queries, const py::array &blocks, Floats out, Index position, Index window, float scale, float cap,
            Index parts) {
    require(queries.ndim() == 3 && out.ndim() == 3 && blocks.ndim() == 3, "all arrays have three axes");
    const Index tokens = queries.shape(0), heads = queries.shape(1), size = queries.shape(2);
    const Index key_heads = blocks.shape(1);
    require(out.shape(0) == tokens && out.shape(1) == heads && out.shape(2) == size, "the result is like the queries");
    require(tokens > 0 && size > 0 && size % 8 == 0, "there are tokens, and sizes are multiples of 8");
    require(key_heads > 0 && heads > 0 && heads % key_heads == 0, "heads share keys evenly");
    require(blocks.shape(2) == 2 * size * kBlockTokens, "blocks are [blocks, key_heads, 2 * size * 64]");
    require(position >= 0 && window >= 0 && parts >= 0, "nothing is negative");
    require(position + tokens <= blocks.shape(0) * kBlockTokens, "tokens have their keys");
    std::vector<const void *> places;
    for (Index b = 0; b < blocks.shape(0); ++b) {
        const bool left_behind = window != 0 && (b + 1) * kBlockTokens <= position + 1 - window;
        places.push_back(left_behind ? nullptr : blocks.data(b));
    }
    Attention a{queries.data(), tokens, heads * size, heads, key_heads, size, format_of(blocks), places.data(),
                position, window, scale, cap, out.mutable_data(), heads * size};
    const py::gil_scoped_release unlocked;
    const AttentionKernels &kernel = kernels().attention;
    const auto partials = floats(kernel.partial_floats(a)), scratch = floats(kernel.scratch_floats(a));
    if (parts > 0 && kernel.partial_floats(a) > 0) a.partials = partials.get();
    const Index shares = kernel.shares(a), cuts = parts == 0 ? 1 : parts;
    for (Index part = cuts; part > 0; --part) {
        kernel.attend(a, shares * (part - 1) / cuts, shares * part / cuts, scratch.get());
    }
    kernel.merge(a, scratch.get());
}

}  // namespace

void bind_attention(py::module_ &module) {
    module.attr("BLOCK_TOKENS") = kBlockTokens;
    module.def("store_keys_values", &store_keys_values, py::arg("block").noconvert(), py::arg("place"),
               py::arg("keys").noconvert(), py::arg("values").noconvert());
    module.def("attend", &attend, py::arg("queries").noconvert(), py::arg("blocks").noconvert(),
               py::arg("out").noconvert(), py::kw_only(), py::arg("position"), py::arg("window"), py::arg("scale"),
               py::arg("cap"), py::arg("parts"));
}

}  // namespace mlx_sidecar::cpu
