// Sums of products in registers. Each sum is one chain of fused multiplications and additions over the columns.
#pragma once

#include "linear_formats.hpp"

namespace mlx_sidecar::cpu {
namespace {

// A number known to the compiler, as an argument.
template <int N>
struct Count {
    static constexpr int value = N;
};

// Calls f(Count<n>) for n from 1 to Most.
template <int Most, typename F>
inline void with_count(Index n, F f) {
    if constexpr (Most > 1) {
        if (n < Most) return with_count<Most - 1>(n, f);
    }
    f(Count<Most>{});
}

// Where sums go: the row `r` of token `t` to at[t * stride + r]; only `rows` of a tile's rows exist.
struct Target {
    float *at;
    Index stride, rows;
};

template <int P, int N>
inline void store_sums(const Wide (&sums)[P][N], Target out) {
    constexpr int kVectors = (P * N + 3) / 4 * 4;
    Wide vectors[kVectors];
    float numbers[kVectors * kWideRows];
#pragma GCC unroll 64
    for (int i = 0; i < kVectors; ++i) vectors[i] = i < P * N ? sums[i % P][i / P] : Wide::zero();
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; i += 4) sum_four(vectors + i, numbers + kWideRows * i);
    constexpr Index kRows = P * kWideRows;
    for (Index t = 0; t < N; ++t) {
        float *to = out.at + t * out.stride;
        if (out.rows == kRows) {
            for (Index r = 0; r < kRows; ++r) to[r] = numbers[t * kRows + r];
        } else {
            for (Index r = 0; r < out.rows; ++r) to[r] = numbers[t * kRows + r];
        }
    }
}

// P times kWideRows rows of weights, read as they are stored, by N tokens: x is [vector of a row][token][8].
template <typename Weights, int P, int N>
inline void multiply_stored(const StoredRows &rows, Index steps, const float *x, Target out) {
    Wide sums[P][N];
    for (int p = 0; p < P; ++p) {
        for (int n = 0; n < N; ++n) sums[p][n] = Wide::zero();
    }
    for (Index step = 0; step < steps; ++step) {
        Weights weights[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) weights[p].load(rows, p, step);
#pragma GCC unroll 8
        for (int v = 0; v < Weights::kVectors; ++v, x += 8 * N) {
            Wide columns[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) columns[n] = repeat(x + 8 * n);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                const Wide weight = weights[p].vector(v);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sums[p][n] = fma(weight, columns[n], sums[p][n]);
            }
        }
    }
    store_sums<P, N>(sums, out);
}

// Rows of weights as float32: out is [vector of a row][P][lanes of a Wide].
template <typename Weights, int P>
inline void expand(const StoredRows &rows, Index steps, float *out) {
    for (Index step = 0; step < steps; ++step, out += Weights::kVectors * P * Wide::kLanes) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            Weights weights;
            weights.load(rows, p, step);
#pragma GCC unroll 8
            for (int v = 0; v < Weights::kVectors; ++v) weights.vector(v).store(out + (v * P + p) * Wide::kLanes);
        }
    }
}

// The same sums from expanded rows.
template <int P, int N>
inline void multiply_expanded(const float *weights, Index vectors, const float *x, Target out) {
    Wide sums[P][N];
    for (int p = 0; p < P; ++p) {
        for (int n = 0; n < N; ++n) sums[p][n] = Wide::zero();
    }
    for (Index v = 0; v < vectors; ++v, weights += P * Wide::kLanes, x += 8 * N) {
        Wide weight[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) weight[p] = Wide::load(weights + p * Wide::kLanes);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const Wide column = repeat(x + 8 * n);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) sums[p][n] = fma(weight[p], column, sums[p][n]);
        }
    }
    store_sums<P, N>(sums, out);
}

}  // namespace
}  // namespace mlx_sidecar::cpu
