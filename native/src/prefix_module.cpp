// PrefixIndex as Python sees it: token buffers without copies, lists made when they are read, and a lock.
#include "prefix_module.hpp"

#include <pybind11/stl.h>

#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "prefix_index.hpp"

namespace py = pybind11;

namespace mlx_sidecar {
namespace {

// Tokens in a Python object's own memory, which it cannot let go of meanwhile.
class Borrowed {
public:
    explicit Borrowed(const py::buffer &object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) throw py::error_already_set();
        try {
            check();
        } catch (...) {
            PyBuffer_Release(&view_);
            throw;
        }
    }
    ~Borrowed() { PyBuffer_Release(&view_); }
    Borrowed(const Borrowed &) = delete;
    Borrowed &operator=(const Borrowed &) = delete;

    Tokens tokens() const {
        return {static_cast<const std::int32_t *>(view_.buf), static_cast<std::size_t>(view_.shape[0])};
    }

private:
    void check() const {
        const std::string format = view_.format == nullptr ? "B" : view_.format;
        const bool is_int32 = view_.itemsize == 4 && (format == "i" || format == "l" || format == "=i" || format == "<i");
        if (!is_int32) throw py::type_error("tokens must be int32, not of format '" + format + "'");
        if (view_.ndim != 1) throw py::value_error("tokens must have one dimension");
        if (!PyBuffer_IsContiguous(&view_, 'C')) throw py::value_error("tokens must lie next to each other");
    }

    Py_buffer view_{};
};

// Work on more tokens than this is done without the GIL. Less takes less than 0.1 ms, and a thread that gives the GIL
// away while another one computes gets it back only after 5 ms.
constexpr std::size_t long_work_tokens = 1 << 16;

class SharedIndex {
public:
    explicit SharedIndex(std::int64_t block) : index_(block) {}

    template <typename Work>
    auto short_work(Work work) {
        const std::lock_guard<std::mutex> guard(mutex_);
        return work(index_);
    }

    // The lock is given back before the GIL is asked for, so that a thread with the GIL never waits for one without.
    template <typename Work>
    auto long_work(Work work) {
        py::gil_scoped_release released;
        return short_work(work);
    }

    template <typename Work>
    auto work_on(Tokens tokens, Work work) {
        return tokens.count > long_work_tokens ? long_work(work) : short_work(work);
    }

private:
    PrefixIndex index_;
    std::mutex mutex_;
};

// One object for equal numbers in a row: payloads come in runs.
template <typename T, typename Of>
py::list as_list(const std::vector<T> &items, Of of) {
    py::list list(items.size());
    py::object number;
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (i == 0 || of(items[i]) != of(items[i - 1])) number = py::int_(of(items[i]));
        PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), number.inc_ref().ptr());
    }
    return list;
}

struct PyMatch {
    Match match;
    py::object nodes, ends, ram, disk;  // null until read
};

struct PyInserted {
    std::size_t count;
    NodeId last;
    std::vector<Payload> ram, disk;
};

template <typename Of>
auto list_of(py::object PyMatch::*made, Of of) {
    return [made, of](PyMatch &self) {
        if (!(self.*made)) self.*made = as_list(self.match.steps, of);
        return self.*made;
    };
}

auto payloads_of(py::object PyMatch::*made, Tier tier) {
    return list_of(made, [tier](const Step &step) { return step.payload[tier]; });
}

PyMatch find(SharedIndex &self, std::int64_t root, const py::buffer &object, bool touch) {
    const Borrowed borrowed(object);
    const Tokens tokens = borrowed.tokens();
    return {self.work_on(tokens, [&](PrefixIndex &index) { return index.find(root, tokens, touch); }), {}, {}, {}, {}};
}

PyInserted insert(SharedIndex &self, std::int64_t root, const py::buffer &object, std::int64_t start, std::int64_t stop,
                  Payload payload, bool on_disk, bool exact) {
    const Borrowed borrowed(object);
    const Tokens tokens = borrowed.tokens();
    Inserted inserted = self.work_on(tokens, [&](PrefixIndex &index) {
        return index.insert(root, tokens, start, stop, payload, on_disk ? disk : ram, exact);
    });
    return {inserted.count, inserted.last, std::move(inserted.freed[ram]), std::move(inserted.freed[disk])};
}

// A method of the index that takes and gives numbers and lists of them.
template <typename Result, typename... Args>
auto plain(Result (PrefixIndex::*method)(Args...)) {
    return [method](SharedIndex &self, std::decay_t<Args>... args) {
        return self.short_work([&](PrefixIndex &index) -> Result { return (index.*method)(args...); });
    };
}

template <typename Result, typename... Args>
auto plain(Result (PrefixIndex::*method)(Args...) const) {
    return [method](SharedIndex &self, std::decay_t<Args>... args) {
        return self.short_work([&](PrefixIndex &index) -> Result { return (index.*method)(args...); });
    };
}

void forget(SharedIndex &self, std::int64_t node, bool on_disk) {
    self.short_work([&](PrefixIndex &index) { index.forget(node, on_disk ? disk : ram); });
}

std::vector<Payload> clear(SharedIndex &self, std::int64_t root, bool on_disk) {
    return self.long_work([&](PrefixIndex &index) { return index.clear(root, on_disk ? disk : ram); });
}

void drop(SharedIndex &self, std::int64_t root) {
    self.long_work([&](PrefixIndex &index) { index.drop(root); });
}

auto blocks_in(Tier tier) {
    return [tier](SharedIndex &self) { return self.short_work([&](PrefixIndex &index) { return index.blocks(tier); }); };
}

void bind_match(py::module_ &module) {
    py::class_<PyMatch>(module, "Match")
        .def_property_readonly("nodes", list_of(&PyMatch::nodes, [](const Step &step) { return step.node; }))
        .def_property_readonly("ends", list_of(&PyMatch::ends, [](const Step &step) { return step.end; }))
        .def_property_readonly("ram", payloads_of(&PyMatch::ram, ram))
        .def_property_readonly("disk", payloads_of(&PyMatch::disk, disk))
        .def_property_readonly("tail", [](const PyMatch &self) { return self.match.tail; })
        .def_property_readonly("common", [](const PyMatch &self) { return self.match.common; })
        .def_property_readonly("tail_ram", [](const PyMatch &self) { return self.match.tail_payload[ram]; })
        .def_property_readonly("tail_disk", [](const PyMatch &self) { return self.match.tail_payload[disk]; });
}

}  // namespace

void bind_prefix_index(py::module_ &module) {
    bind_match(module);
    py::class_<PyInserted>(module, "Inserted")
        .def_readonly("count", &PyInserted::count)
        .def_readonly("last", &PyInserted::last)
        .def_readonly("ram", &PyInserted::ram)
        .def_readonly("disk", &PyInserted::disk);
    py::class_<SharedIndex>(module, "PrefixIndex")
        .def(py::init<std::int64_t>(), py::arg("block"))
        .def("root", plain(&PrefixIndex::root))
        .def("find", &find, py::arg("root"), py::arg("tokens"), py::arg("touch") = true)
        .def("insert", &insert, py::arg("root"), py::arg("tokens"), py::arg("start"), py::arg("stop"),
             py::arg("payload"), py::arg("disk"), py::arg("exact"))
        .def("hold", plain(&PrefixIndex::hold), py::arg("nodes"))
        .def("let_go", plain(&PrefixIndex::let_go), py::arg("nodes"))
        .def("evict", plain(&PrefixIndex::evict))
        .def("forget", &forget, py::arg("node"), py::arg("disk"))
        .def("clear", &clear, py::arg("root"), py::arg("disk"))
        .def("drop", &drop, py::arg("root"))
        .def("tokens", plain(&PrefixIndex::tokens), py::arg("node"))
        .def("path", plain(&PrefixIndex::path), py::arg("node"))
        .def("parent", plain(&PrefixIndex::parent), py::arg("node"))
        .def("children", plain(&PrefixIndex::children), py::arg("node"))
        .def("depth", plain(&PrefixIndex::depth), py::arg("node"))
        .def_property_readonly("nodes", plain(&PrefixIndex::count))
        .def_property_readonly("ram_blocks", blocks_in(ram))
        .def_property_readonly("disk_blocks", blocks_in(disk))
        .def_property_readonly("nbytes", plain(&PrefixIndex::nbytes));
}

}  // namespace mlx_sidecar
