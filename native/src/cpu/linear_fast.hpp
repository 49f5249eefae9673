// Products with scales applied to sums: number * scale + bias times x is added up as scale * (sum of number * x) for the
// columns of a step, and at last bias * (sum of x) for 8 groups at once. Numbers are multiplied where they lie in their
// words, too large by a power of two that their activations are too small by. Fewer instructions than for exact weights,
// other last bits.
#pragma once

#include "linear_arrange.hpp"
#include "linear_rows.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Up to this many tokens, whatever the instruction set: with more, expanding the weights costs little.
constexpr Index kFastTokens = 2;

// A step of 64: column 8 i + v is lane i of vector v, which is 16^(v % 4) too large.
template <bool Halves>
struct Q4Numbers {
    static constexpr int kVectors = 8;
    Packed words;

    void load(const StoredRows &rows, int p, Index step) {
        fetch_next<32>(rows, p, step);
        words = rows_packed(rows.wide(p) + step * 32, rows.stride);
    }
    // To be called with 0 to 7 in turn.
    Wide number(int v) {
        if (v == 4) words = words >> 16;
        return to_floats(words & 15U << v % 4 * 4);
    }
    static Wide scale(const StoredRows &rows, int p, Index step) {
        const float *scales = rows.wide_scales(p);
        return Halves ? rows_halves(scales + 2 * step, rows.scale_stride)
                      : rows_all(scales + (step >> rows.steps_log2), rows.scale_stride);
    }
};

// A step of 32 or 64: column 4 i + v of 32 is lane i of vector v, which is 256^v too large; the last is shifted, for it
// would have the sign bit.
template <int Words32>
struct Q8Numbers {
    static constexpr int kVectors = 4 * Words32;
    Packed words[Words32];

    void load(const StoredRows &rows, int p, Index step) {
        fetch_next<32 * Words32>(rows, p, step);
        const char *at = rows.wide(p) + step * 32 * Words32;
        for (int i = 0; i < Words32; ++i) words[i] = rows_packed(at + 32 * i, rows.stride);
    }
    Wide number(int v) const { return to_floats(v % 4 == 3 ? words[v / 4] >> 24 : words[v / 4] & 255U << v % 4 * 8); }
    static Wide scale(const StoredRows &rows, int p, Index step) {
        return rows_all(rows.wide_scales(p) + (step >> rows.steps_log2), rows.scale_stride);
    }
};

// The columns of one word in each lane; vectors go `stride` floats apart.
inline void arrange_words(Format format, const float *x, float *to, Index stride) {
    if (format == Format::q4) {
        transpose(x, to, stride);
    } else {
        for (Index v = 0; v < 4; ++v) {
            for (Index i = 0; i < 8; ++i) to[v * stride + i] = x[4 * i + v];
        }
    }
    const Index vectors = format == Format::q4 ? 8 : 4;
    const float step = format == Format::q4 ? 0x1p-4F : 0x1p-8F;
    float factor = 1.0F;
    for (Index v = 0; v < vectors; ++v, to += stride) {
        if (v == 4 || (v == 3 && vectors == 4)) factor = 1.0F;
        (Eight::load(to) * Eight::all(factor)).store(to);
        factor *= step;
    }
}

// [vector of a row][token][8], and then the sums of groups, 0 behind the last: [8 groups][token][8].
inline void arrange_fast(const Matrix &m, const Activations &x, float *arranged) {
    const Index word_columns = m.format == Format::q4 ? 64 : 32, stride = 8 * x.tokens, groups = groups_of(m);
    float *const sums = arranged + x.tokens * x.columns;
    for (Index t = 0; t < x.tokens; ++t) {
        const float *const from = x.data + t * x.stride;
        for (Index c = 0; c < x.columns; c += word_columns) {
            arrange_words(m.format, from + c, arranged + x.tokens * c + 8 * t, stride);
        }
        for (Index g = 0; g < (groups + 7) / 8 * 8; ++g) {
            Eight sum = Eight::zero();
            for (Index c = 0; g < groups && c < m.group; c += 8) sum = sum + Eight::load(from + g * m.group + c);
            sums[g / 8 * stride + 8 * t + g % 8] = sum.sum();
        }
    }
}

template <typename Numbers, int P, int N>
inline void multiply_numbers(const StoredRows &rows, Index steps, Index groups, const float *x, Target out) {
    Wide sums[P][N];
    for (int p = 0; p < P; ++p) {
        for (int n = 0; n < N; ++n) sums[p][n] = Wide::zero();
    }
    for (Index step = 0; step < steps; ++step, x += 8 * N * Numbers::kVectors) {
        Numbers numbers[P];
        Wide parts[P][N];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) numbers[p].load(rows, p, step);
#pragma GCC unroll 8
        for (int v = 0; v < Numbers::kVectors; ++v) {
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                const Wide number = numbers[p].number(v);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) {
                    const Wide column = repeat(x + 8 * (N * v + n));
                    parts[p][n] = fma(number, column, v == 0 ? Wide::zero() : parts[p][n]);
                }
            }
        }
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            const Wide scale = Numbers::scale(rows, p, step);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sums[p][n] = fma(parts[p][n], scale, sums[p][n]);
        }
    }
    for (Index group = 0; group < groups; group += 8, x += 8 * N) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            const Wide bias = rows_some(rows.wide_biases(p) + group, rows.scale_stride, groups - group);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sums[p][n] = fma(bias, repeat(x + 8 * n), sums[p][n]);
        }
    }
    store_sums<P, N>(sums, out);
}

template <typename Numbers>
inline void multiply_fast_as(const Product &p, Index first, Index last) {
    constexpr Index kColumns = 8 * Numbers::kVectors;
    const Index groups = groups_of(p.matrix);
    with_count<kFastTokens>(p.tokens, [&](auto tokens) {
        constexpr int P = kWideRows == 2 || tokens.value == 1 ? 4 : 2;
        for_stored_rows<P>(p, first, last, kColumns, [&](auto wides, const StoredRows &rows, Target out) {
            multiply_numbers<Numbers, wides.value, tokens.value>(rows, p.matrix.columns / kColumns, groups, p.x, out);
        });
    });
}

inline void multiply_fast(const Product &p, Index first, Index last) {
    const bool small = p.matrix.group == 32;
    if (p.matrix.format == Format::q4) {
        return small ? multiply_fast_as<Q4Numbers<true>>(p, first, last)
                     : multiply_fast_as<Q4Numbers<false>>(p, first, last);
    }
    return small ? multiply_fast_as<Q8Numbers<1>>(p, first, last) : multiply_fast_as<Q8Numbers<2>>(p, first, last);
}

}  // namespace
}  // namespace mlx_sidecar::cpu
