// Products of few rows with a block of keys or values, for the vectors of the file that includes this one.
#pragma once

#include <type_traits>

#include "matrix.hpp"

namespace mlx_sidecar::cpu {
namespace {

template <typename V>
inline V load(const float *from) {
    return V::load(from);
}
template <typename V>
inline V load(const Half *from) {
    return V::load_f16(from);
}

// c [rows, columns] = or += a [rows, depth] * b [depth, columns]. An element is one chain of multiply-adds over the depth
// in order, which goes on from c unless `fresh`: how the work is cut makes no difference to its bits. `Number` is float or
// Half.
template <typename Number>
struct BlockProduct {
    const float *a;
    Index a_stride;
    const Number *b;
    Index b_stride, depth;
    float *c;
    Index c_stride;
    bool fresh;
    const Number *ahead;  // null, or as many numbers as b, which are needed next
};

// AVX-512 has 32 registers and holds the sums of 6 rows x 4 vectors, AVX2 has 16: 6 x 2, 3 x 4 or 1 x 8.
constexpr bool kManyRegisters = Wide::kLanes == 16;
constexpr int kTileQueries = 6;

// Keys and values are asked for one block ahead, into the second-level cache, because the first has no room for them beside
// the current ones. Only lines that are read are: where rows are short, those of a block are no stream that the hardware
// follows.
constexpr int kSecondLevel = 2;

template <typename V, int kRows, int kVectors, typename Number>
inline void multiply_tile(const BlockProduct<Number> &p) {
    constexpr int kLine = 64 / sizeof(Number);  // numbers in a line of the cache
    V sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) {
            sums[r][v] = p.fresh ? V::zero() : V::load(p.c + r * p.c_stride + v * V::kLanes);
        }
    }
    const Number *b = p.b, *ahead = p.ahead;
    for (Index k = 0; k < p.depth; ++k, b += p.b_stride) {
        if (ahead != nullptr) {
            for (int at = 0; at < kVectors * V::kLanes; at += kLine) __builtin_prefetch(ahead + at, 0, kSecondLevel);
            ahead += p.b_stride;
        }
        V line[kVectors];
        for (int v = 0; v < kVectors; ++v) line[v] = load<V>(b + v * V::kLanes);
        for (int r = 0; r < kRows; ++r) {
            const V x = V::all(p.a[r * p.a_stride + k]);
            for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(x, line[v], sums[r][v]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sums[r][v].store(p.c + r * p.c_stride + v * V::kLanes);
    }
}

// Some vectors of columns of all rows.
template <typename V, int kVectors, typename Number>
inline void multiply_strip(BlockProduct<Number> p, Index rows) {
    constexpr bool kTall = kManyRegisters || kVectors < 4;
    constexpr int kMost = kTall ? kTileQueries : 3;
    for (; rows >= kMost; rows -= kMost) {
        multiply_tile<V, kMost, kVectors>(p);
        p.a += kMost * p.a_stride;
        p.c += kMost * p.c_stride;
        p.ahead = nullptr;
    }
    if constexpr (kTall) {
        if (rows == 5) return multiply_tile<V, 5, kVectors>(p);
        if (rows == 4) return multiply_tile<V, 4, kVectors>(p);
        if (rows == 3) return multiply_tile<V, 3, kVectors>(p);
    }
    if (rows == 2) return multiply_tile<V, 2, kVectors>(p);
    if (rows == 1) return multiply_tile<V, 1, kVectors>(p);
}

// With fewer registers, few rows that meet floats go one by one through whole lines in their order. Each of a block's rows is
// then read at once, and processors fetch those ahead by themselves; what we ask for would only be in their way. The rows
// behind the first find the block in the first-level cache.
constexpr Index kFewRows = 8;

inline void multiply_in_turn(BlockProduct<float> p, Index rows) {
    p.ahead = nullptr;
    for (; rows > 0; --rows, p.a += p.a_stride, p.c += p.c_stride) multiply_tile<Wide, 1, 8>(p);
}

// `columns` is a multiple of 8.
template <typename Number>
inline void multiply(BlockProduct<Number> p, Index rows, Index columns) {
    const auto step = [&p, &columns](Index count) {
        p.b += count;
        p.c += count;
        if (p.ahead != nullptr) p.ahead += count;
        columns -= count;
    };
    constexpr Index kLanes = Wide::kLanes;
    if constexpr (!kManyRegisters && std::is_same_v<Number, float>) {
        if (rows <= kFewRows) {
            for (; columns >= 8 * kLanes; step(8 * kLanes)) multiply_in_turn(p, rows);
        }
    }
    if (kManyRegisters || rows <= 3) {
        for (; columns >= 4 * kLanes; step(4 * kLanes)) multiply_strip<Wide, 4>(p, rows);
    }
    for (; columns >= 2 * kLanes; step(2 * kLanes)) multiply_strip<Wide, 2>(p, rows);
    for (; columns >= kLanes; step(kLanes)) multiply_strip<Wide, 1>(p, rows);
    if (columns > 0) multiply_strip<Eight, 1>(p, rows);
}

}  // namespace
}  // namespace mlx_sidecar::cpu
