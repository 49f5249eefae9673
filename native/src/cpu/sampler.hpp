// Chooses the next tokens of rows as engine/execution/sampler/ defines it: filters.py what is dropped, logprobs.py what
// is told. The result for a row depends on its own logits, settings and key only.
#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "sampling.hpp"

namespace mlx_sidecar::cpu {

struct RowSettings {
    float temperature = 0.0F;  // 0: the likeliest token
    std::int64_t top_k = 0;    // 0: all; else less than the vocabulary
    double top_p = 1.0;
    float floor = -std::numeric_limits<float>::infinity();  // log of min-p
    std::int64_t logprobs = -1;  // alternatives to tell, at most the vocabulary; -1: nothing
};

struct Choice {
    std::int32_t token;
    float peak;           // the largest logit; NaN if any is
    // Both only if asked for and if all peaks are finite.
    float logprob = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::pair<std::int32_t, float>> alternatives;  // likeliest first, equal ones in token order
};

class RowSampler {
public:
    explicit RowSampler(Index vocabulary) : size_(vocabulary) {}

    // `logits` decide, `model` are told: before penalties and biases; they may be the same.
    Choice choose(const float *logits, const float *model, const RowSettings &, Key);

private:
    Index draw(const float *logits, Index likeliest, float peak, const RowSettings &, Key);
    float filter(const float *logits, float peak, const RowSettings &);
    float filter_head(const float *logits, float peak, const RowSettings &);
    float filter_nucleus(const float *logits, float peak, double top_p);
    Index collect(const float *row, Index count);
    void tell(const float *model, Index wanted, Choice &);

    Index size_;
    // Scratch, made when a row first needs it.
    std::vector<std::int32_t> found_;
    std::vector<std::int32_t> keys_;
    std::vector<float> maxima_, weights_;
};

}  // namespace mlx_sidecar::cpu
