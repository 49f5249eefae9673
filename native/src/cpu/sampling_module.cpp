#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <mutex>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "cpu_module.hpp"
#include "sampler.hpp"

namespace py = pybind11;

namespace mlx_sidecar::cpu {
namespace {

using Logits = py::array_t<float, py::array::c_style>;
using Settings = std::tuple<float, std::int64_t, double, float, std::int64_t, Index>;

// The rows of a step, whose settings stay the same from step to step.
class SamplingPlan {
public:
    SamplingPlan(Index vocabulary, const std::vector<Settings> &rows) : vocabulary_(vocabulary), sampler_(vocabulary) {
        if (vocabulary < 1) throw std::invalid_argument("a vocabulary has tokens");
        for (const auto &[temperature, top_k, top_p, floor, logprobs, changed] : rows) {
            if (top_k < 0 || top_k >= vocabulary || logprobs < -1 || logprobs > vocabulary || changed < -1) {
                throw std::invalid_argument("top_k and logprobs are within the vocabulary, changed is an index or -1");
            }
            rows_.push_back({temperature, top_k, top_p, floor, logprobs});
            changed_.push_back(changed);
            if (changed >= changed_rows_) changed_rows_ = changed + 1;
        }
    }

    py::tuple sample(const Logits &logits, const std::optional<Logits> &changed,
                     const std::vector<std::pair<std::uint32_t, std::uint32_t>> &keys) {
        const auto count = static_cast<Index>(rows_.size());
        check(logits, count);
        if (changed) check(*changed, changed_rows_);
        if (changed_rows_ > 0 && !changed) throw std::invalid_argument("there are no changed logits");
        if (keys.size() != rows_.size()) throw std::invalid_argument("there is one key for each row");
        std::vector<Choice> choices(rows_.size());
        {
            const float *const model = logits.data(), *const other = changed ? changed->data() : nullptr;
            py::gil_scoped_release unlocked;
            const std::lock_guard<std::mutex> turn(turns_);
            for (Index row = 0; row < count; ++row) {
                const float *const own = model + row * vocabulary_;
                const float *const decides = changed_[row] < 0 ? own : other + changed_[row] * vocabulary_;
                choices[row] = sampler_.choose(decides, own, rows_[row], {keys[row].first, keys[row].second});
            }
        }
        return told(choices);
    }

private:
    void check(const Logits &logits, Index rows) const {
        if (logits.ndim() != 2 || logits.shape(0) != rows || logits.shape(1) != vocabulary_) {
            throw std::invalid_argument("logits are [rows, vocabulary]");
        }
    }

    py::tuple told(const std::vector<Choice> &choices) const {
        py::array_t<std::int32_t> tokens(static_cast<py::ssize_t>(choices.size()));
        py::array_t<float> peaks(static_cast<py::ssize_t>(choices.size()));
        py::dict logprobs;
        for (std::size_t row = 0; row < choices.size(); ++row) {
            const Choice &choice = choices[row];
            tokens.mutable_data()[row] = choice.token;
            peaks.mutable_data()[row] = choice.peak;
            if (rows_[row].logprobs >= 0) logprobs[py::int_(row)] = py::make_tuple(choice.logprob, choice.alternatives);
        }
        return py::make_tuple(tokens, peaks, logprobs);
    }

    Index vocabulary_, changed_rows_ = 0;
    std::vector<RowSettings> rows_;
    std::vector<Index> changed_;
    std::mutex turns_;  // of callers, because the sampler has scratch
    RowSampler sampler_;
};

}  // namespace

void bind_sampling(py::module_ &module) {
    py::class_<SamplingPlan>(module, "SamplingPlan")
        .def(py::init<Index, const std::vector<Settings> &>(), py::arg("vocabulary"), py::arg("rows"))
        .def("sample", &SamplingPlan::sample, py::arg("logits").noconvert(), py::arg("changed").noconvert(),
             py::arg("keys"));
}

}  // namespace mlx_sidecar::cpu
