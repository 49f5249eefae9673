// Products with scales applied to sums: of the columns of a step, number * scale + bias times x is added up as
// scale * (sum of number * x) + bias * (sum of x). Fewer instructions than for exact weights, other last bits.
#pragma once

#include "linear_arrange.hpp"
#include "linear_rows.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Up to this many tokens, whatever the instruction set: with more, expanding the weights costs little.
constexpr Index kFastTokens = 2;

// Numbers of Q4 without a shift: vector v is 16^v too large, and its activations are as much smaller. The last one has
// the sign bit, so that it is shifted.
template <bool Halves>
struct Q4Numbers {
    static constexpr int kVectors = 8;
    Packed words;
    Wide scale, bias;

    void load(const StoredRows &rows, int p, Index step) {
        fetch_next<32>(rows, p, step);
        read(rows, p, step);
    }
    void read(const StoredRows &rows, int p, Index step) {
        words = rows_packed(rows.wide(p) + step * 32, rows.stride);
        const float *scales = rows.wide_scales(p), *biases = rows.wide_biases(p);
        if (Halves) {
            scale = rows_halves(scales + 2 * step, rows.scale_stride);
            bias = rows_halves(biases + 2 * step, rows.scale_stride);
        } else {
            scale = rows_all(scales + (step >> rows.steps_log2), rows.scale_stride);
            bias = rows_all(biases + (step >> rows.steps_log2), rows.scale_stride);
        }
    }
    Wide number(int v) const { return to_floats(v == 7 ? words >> 28 : words & 15U << 4 * v); }
};

template <int Words32>
struct Q8Numbers : Q8<Words32> {
    Wide number(int v) const { return to_floats(bytes_of(this->words[v / 4], v % 4)); }
};

// Columns that share a sum.
inline Index fast_step(const Matrix &m) { return m.format == Format::q8 && m.group == 32 ? 32 : 64; }

// [step][vector, and then the sum of the step's vectors][token][8]
inline void arrange_fast(const Matrix &m, const Activations &x, float *arranged) {
    const Index step = fast_step(m), vectors = step / 8, stride = 8 * x.tokens;
    for (Index t = 0; t < x.tokens; ++t) {
        float *to = arranged + 8 * t;
        for (Index c = 0; c < x.columns; c += step, to += (vectors + 1) * stride) {
            arrange_row(m.format, x.data + t * x.stride + c, step, to, stride);
            Eight sum = Eight::load(to);
            for (Index v = 1; v < vectors; ++v) sum = sum + Eight::load(to + v * stride);
            sum.store(to + vectors * stride);
            if (m.format != Format::q4) continue;
            float factor = 1.0F;
            for (Index v = 1; v < 7; ++v) {
                factor *= 0.0625F;
                (Eight::load(to + v * stride) * Eight::all(factor)).store(to + v * stride);
            }
        }
    }
}

template <typename Numbers, int P, int N>
inline void multiply_numbers(const StoredRows &rows, Index steps, const float *x, Target out) {
    Wide sums[P][N];
    for (int p = 0; p < P; ++p) {
        for (int n = 0; n < N; ++n) sums[p][n] = Wide::zero();
    }
    for (Index step = 0; step < steps; ++step, x += 8 * N * (Numbers::kVectors + 1)) {
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
                    parts[p][n] = v == 0 ? number * column : fma(number, column, parts[p][n]);
                }
            }
        }
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                sums[p][n] = fma(parts[p][n], numbers[p].scale, sums[p][n]);
                sums[p][n] = fma(numbers[p].bias, repeat(x + 8 * (N * Numbers::kVectors + n)), sums[p][n]);
            }
        }
    }
    store_sums<P, N>(sums, out);
}

template <typename Numbers>
inline void multiply_fast_as(const Product &p, Index first, Index last) {
    constexpr Index kColumns = 8 * Numbers::kVectors;
    with_count<kFastTokens>(p.tokens, [&](auto tokens) {
        constexpr int P = kWideRows == 2 || tokens.value == 1 ? 4 : 2;
        for_stored_rows<P>(p, first, last, kColumns, [&](auto wides, const StoredRows &rows, Target out) {
            multiply_numbers<Numbers, wides.value, tokens.value>(rows, p.matrix.columns / kColumns, p.x, out);
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
