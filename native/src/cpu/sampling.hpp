// Choosing a token from a row of logits: passes over the row. cpu/sampler.hpp says how they make a choice.
#pragma once

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

// Of the noise of a row: two words, as engine/execution/sampler/noise.py makes them of seed and position.
struct Key {
    std::uint32_t first, second;
};

// A draw from the tokens whose logit, less `peak`, is at least `floor`, with noise that is scaled by the temperature.
struct Draw {
    float peak;  // the largest logit, finite
    float temperature;
    float floor;
    Key key;
};

// In all but `largest` no number is NaN or plus infinity.
struct SamplingKernels {
    // The index of the first of the largest numbers, and that number; of the first NaN if there is one.
    void (*largest)(const float *x, Index size, Index &index, float &value);
    // log of the sum of e^x; `most` is the largest.
    float (*log_sum_exp)(const float *x, Index size, float most);
    // Splits the row in sets of up to kSetSize numbers, writes the largest of each to `out` [size / kSetSize + 16], and
    // returns how many there are. A set may be empty, and then its largest is minus infinity.
    Index (*largest_of_sets)(const float *x, Index size, float *out);
    // Writes the indices of all numbers that are at least `least` to `out` [size], ascending; returns how many.
    Index (*at_least)(const float *x, Index size, float least, std::int32_t *out);
    // Writes e^(x - peak) in whole multiples of 2^-30, rounded down, to `weights` [size + 16]; returns their sum.
    std::int64_t (*weigh)(const float *x, Index size, float peak, float *weights);
    // The token of the largest score: (logit - peak) / temperature + noise. `likeliest` is the first of the largest.
    Index (*draw)(const float *x, Index size, const Draw &, Index likeliest);
};

constexpr Index kSetSize = 16;

}  // namespace mlx_sidecar::cpu
