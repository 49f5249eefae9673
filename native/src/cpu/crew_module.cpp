#include <pybind11/stl.h>

#include <utility>

#include "cpu_module.hpp"
#include "crew.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

// The shares [first, last) that each thread did.
std::vector<std::pair<Index, Index>> divide(Crew &crew, Index shares, double operations) {
    std::vector<std::pair<Index, Index>> parts(static_cast<std::size_t>(crew.threads()));
    const py::gil_scoped_release unlocked;
    crew.run(shares, operations, [&parts](Index first, Index last, int thread) {
        parts[static_cast<std::size_t>(thread)] = {first, last};
    });
    return parts;
}

}  // namespace

void bind_crew(py::module_ &module) {
    py::class_<Crew>(module, "Crew")
        .def(py::init<int>(), py::arg("threads"))
        .def_property_readonly("threads", &Crew::threads)
        .def("divide", &divide, py::arg("shares"), py::arg("operations"));
}

}  // namespace mlx_sidecar::cpu
