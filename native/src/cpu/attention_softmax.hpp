// The online softmax of attention: weights of a block's keys, and what is known of a row after some of its keys.
#pragma once

#include <cstdint>

#include "attention_tiles.hpp"

namespace mlx_sidecar::cpu {
namespace {

constexpr float kNoScore = -__builtin_inff(), kLeast = -0x1.fffffep+127F;

// The weights' sum is kept in 16 lanes: key k of a block is added to lane k % 16.
constexpr Index kTotals = 16, kTotalVectors = kTotals / Wide::kLanes;

// Rows (a token and a head each) after some keys, relative to the largest score among them: the sums of weights, and of
// weighted values.
struct State {
    float *most;    // [rows]
    float *totals;  // [rows, kTotals]
    float *sums;    // [rows, size]
};

inline Index state_floats(Index rows, Index size) { return rows * (kTotals + size) + (rows + 15) / 16 * 16; }

inline State state_at(float *place, Index rows, Index size) {
    float *const sums = place + rows * kTotals;
    return {sums + rows * size, place, sums};
}

// The state after no keys. A finite `most` makes a row of nothing but scores of minus infinity 0 / 0, and no other.
inline void clear(const State &s, Index rows, Index size) {
    for (Index i = 0; i < rows; ++i) s.most[i] = kLeast;
    for (Index i = 0; i < rows * kTotals; ++i) s.totals[i] = 0.0F;
    for (Index i = 0; i < rows * size; ++i) s.sums[i] = 0.0F;
}

template <typename F>
inline void over_row(Index size, F f) {
    Index at = 0;
    for (; at + Wide::kLanes <= size; at += Wide::kLanes) f(at, Wide::zero());
    if (at < size) f(at, Eight::zero());
}

inline void rescale(const State &s, Index row, Index size, float most) {
    float factors[Eight::kLanes];
    exp_normal(Eight::all(s.most[row] - most)).store(factors);
    s.most[row] = most;
    const float factor = factors[0];
    float *const sums = s.sums + row * size, *const totals = s.totals + row * kTotals;
    over_row(kTotals, [=](Index at, auto zero) {
        using V = decltype(zero);
        (V::load(totals + at) * V::all(factor)).store(totals + at);
    });
    over_row(size, [=](Index at, auto zero) {
        using V = decltype(zero);
        (V::load(sums + at) * V::all(factor)).store(sums + at);
    });
}

// Makes the first `columns` (a multiple of 16) of a row's scores weights, adds them up, and rescales what went before if
// one of them is the largest so far. Scores of keys that the row does not see are minus infinity: their weight is 0.
// NaN is not looked for: wherever the largest score comes out then, the weight of NaN is NaN, and so is all after it.
inline void weigh(float *scores, Index columns, const State &s, Index row, Index size) {
    Wide peaks = Wide::load(scores);
    for (Index at = Wide::kLanes; at < columns; at += Wide::kLanes) peaks = larger(peaks, Wide::load(scores + at));
    const float peak = peaks.peak();
    if (!(peak <= s.most[row])) rescale(s, row, size, peak);
    const Wide most = Wide::all(s.most[row]);
    float *const totals = s.totals + row * kTotals;
    Wide sums[kTotalVectors];
    for (Index i = 0; i < kTotalVectors; ++i) sums[i] = Wide::load(totals + i * Wide::kLanes);
    for (Index at = 0; at < columns; at += kTotals) {
        for (Index i = 0; i < kTotalVectors; ++i) {
            float *const place = scores + at + i * Wide::kLanes;
            const Wide weights = exp_normal(Wide::load(place) - most);
            weights.store(place);
            sums[i] = sums[i] + weights;
        }
    }
    for (Index i = 0; i < kTotalVectors; ++i) sums[i].store(totals + i * Wide::kLanes);
}

// `into` becomes the state of a row after its keys and then those of `next`.
inline void merge_row(const State &into, const State &next, Index row, Index size) {
    const float most = larger(Eight::all(into.most[row]), Eight::all(next.most[row])).peak();
    rescale(into, row, size, most);
    float factors[Eight::kLanes];
    exp_normal(Eight::all(next.most[row] - most)).store(factors);
    const float factor = factors[0];
    const auto add = [factor](float *to, const float *from, Index count) {
        over_row(count, [=](Index at, auto zero) {
            using V = decltype(zero);
            fma(V::load(from + at), V::all(factor), V::load(to + at)).store(to + at);
        });
    };
    add(into.totals + row * kTotals, next.totals + row * kTotals, kTotals);
    add(into.sums + row * size, next.sums + row * size, size);
}

// out = weighted values / weights
inline void finish_row(const State &s, Index row, Index size, float *out) {
    const float *const totals = s.totals + row * kTotals, *const sums = s.sums + row * size;
    const float total = (Eight::load(totals) + Eight::load(totals + 8)).sum();
    over_row(size, [=](Index at, auto zero) {
        using V = decltype(zero);
        (V::load(sums + at) / V::all(total)).store(out + at);
    });
}

}  // namespace
}  // namespace mlx_sidecar::cpu
