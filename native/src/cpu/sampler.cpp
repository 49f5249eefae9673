#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "kernels.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Integers in the order of the floats. 0.0 and -0.0 are the same.
std::int32_t key_of(float x) {
    const float number = x + 0.0F;
    std::int32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

float of_key(std::int32_t key) {
    const std::int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

// The largest key whose mass, with that of all larger ones, reaches `share`, which all together do. The range of the
// answer is cut in 256, and the keys outside are left behind: at most four rounds, over fewer keys each.
template <typename Mass>
std::int32_t last_of_share(std::vector<std::int32_t> &keys, std::int64_t share, Mass mass) {
    const auto [least, most] = std::minmax_element(keys.begin(), keys.end());
    std::int64_t low = *least, high = *most;
    while (low < high) {
        int shift = 0;
        while ((high - low) >> shift > 255) ++shift;
        std::int64_t masses[256] = {};
        for (const std::int32_t key : keys) masses[(key - low) >> shift] += mass(key);
        std::int64_t cut = (high - low) >> shift;
        for (; masses[cut] < share; --cut) share -= masses[cut];
        high = std::min(high, low + ((cut + 1) << shift) - 1);
        low += cut << shift;
        std::size_t count = 0;
        for (const std::int32_t key : keys) {
            keys[count] = key;
            count += static_cast<std::size_t>(low <= key) & static_cast<std::size_t>(key <= high);  // without a branch
        }
        keys.resize(count);
    }
    return static_cast<std::int32_t>(low);
}

std::int64_t one(std::int32_t) { return 1; }
std::int64_t weight(std::int32_t key) { return static_cast<std::int64_t>(of_key(key)); }

// The weight that a nucleus has to hold, in the arithmetic of filters.py.
std::int64_t share_of(std::int64_t total, double top_p) {
    const auto share = static_cast<std::int64_t>(static_cast<float>(total) * static_cast<float>(top_p));
    return std::clamp<std::int64_t>(share, 1, total);
}

}  // namespace

Choice RowSampler::choose(const float *logits, const float *model, const RowSettings &row, Key key) {
    Index likeliest;
    Choice choice{};
    kernels().sampling.largest(logits, size_, likeliest, choice.peak);
    const bool sound = std::isfinite(choice.peak);
    const bool draws = sound && row.temperature > 0.0F;
    choice.token = static_cast<std::int32_t>(draws ? draw(logits, likeliest, choice.peak, row, key) : likeliest);
    if (row.logprobs >= 0 && sound) tell(model, row.logprobs, choice);
    return choice;
}

Index RowSampler::draw(const float *logits, Index likeliest, float peak, const RowSettings &row, Key key) {
    return kernels().sampling.draw(logits, size_, {peak, row.temperature, filter(logits, peak, row), key}, likeliest);
}

// How far below the peak a token may be.
float RowSampler::filter(const float *logits, float peak, const RowSettings &row) {
    if (row.top_k > 0) return std::max(row.floor, filter_head(logits, peak, row));
    if (row.top_p < 1.0) return std::max(row.floor, filter_nucleus(logits, peak, row.top_p));
    return row.floor;
}

float RowSampler::filter_head(const float *logits, float peak, const RowSettings &row) {
    const Index count = collect(logits, row.top_k);
    // Exactly top-k of them, of equal ones as many as fit.
    std::vector<float> head(count);
    for (Index i = 0; i < count; ++i) head[i] = logits[found_[i]];
    std::nth_element(head.begin(), head.begin() + (row.top_k - 1), head.end(), std::greater<float>());
    const float last = head[row.top_k - 1] - peak;
    if (static_cast<float>(row.top_p) >= 1.0F) return last;
    head.resize(row.top_k);
    weights_.resize(std::max<std::size_t>(weights_.size(), row.top_k + 16));
    const std::int64_t total = kernels().sampling.weigh(head.data(), row.top_k, peak, weights_.data());
    keys_.resize(row.top_k);
    std::transform(weights_.begin(), weights_.begin() + row.top_k, keys_.begin(), key_of);
    const float least = of_key(last_of_share(keys_, share_of(total, row.top_p), weight));
    float floor = 0.0F;
    for (Index i = 0; i < row.top_k; ++i) floor = std::min(floor, weights_[i] >= least ? head[i] - peak : 0.0F);
    return floor;
}

float RowSampler::filter_nucleus(const float *logits, float peak, double top_p) {
    weights_.resize(size_ + 16);
    found_.resize(size_);
    const std::int64_t total = kernels().sampling.weigh(logits, size_, peak, weights_.data());
    const std::int64_t share = share_of(total, top_p);
    // Tokens below this weight, if all had it, would not fill what the nucleus leaves: none of them is in it.
    const float light = static_cast<float>(std::max<std::int64_t>(1, (total - share) / size_));
    const Index count = kernels().sampling.at_least(weights_.data(), size_, light, found_.data());
    keys_.resize(count);
    for (Index i = 0; i < count; ++i) keys_[i] = key_of(weights_[found_[i]]);
    const float least = of_key(last_of_share(keys_, share, weight));
    float floor = 0.0F;
    for (Index i = 0; i < count; ++i) {
        const Index token = found_[i];
        floor = std::min(floor, weights_[token] >= least ? logits[token] - peak : 0.0F);
    }
    return floor;
}

// Finds, in token order, all that are at least the `count` largest of the sets' largest: among them are the `count`
// largest of the row, because each such set has one. Returns how many are found.
Index RowSampler::collect(const float *row, Index count) {
    found_.resize(size_);
    maxima_.resize(size_ / kSetSize + 16);
    float least = -std::numeric_limits<float>::infinity();
    const Index sets = kernels().sampling.largest_of_sets(row, size_, maxima_.data());
    if (count <= sets) {
        keys_.resize(sets);
        std::transform(maxima_.begin(), maxima_.begin() + sets, keys_.begin(), key_of);
        least = of_key(last_of_share(keys_, count, one));
    }
    return kernels().sampling.at_least(row, size_, least, found_.data());
}

void RowSampler::tell(const float *model, Index wanted, Choice &choice) {
    Index likeliest;
    float peak;
    kernels().sampling.largest(model, size_, likeliest, peak);
    if (!std::isfinite(peak)) return;
    const float total = kernels().sampling.log_sum_exp(model, size_, peak);
    choice.logprob = model[choice.token] - total;
    if (wanted == 0) return;
    const Index count = collect(model, wanted);
    const auto begin = found_.begin();
    std::partial_sort(begin, begin + wanted, begin + count, [model](std::int32_t a, std::int32_t b) {
        return model[a] > model[b] || (model[a] == model[b] && a < b);
    });
    for (Index i = 0; i < wanted; ++i) choice.alternatives.emplace_back(found_[i], model[found_[i]] - total);
}

}  // namespace mlx_sidecar::cpu
