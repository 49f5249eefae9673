// Products of quantised weights with activations rounded to 8 bits, for few tokens. 32 activations have a scale, the
// largest of them over 127; sums of a step are integers, and so the same on every processor.
#pragma once

#include "linear_fast.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Up to this many tokens, whatever the instruction set: with more, tiles of floats are as fast.
constexpr Index kInt8Tokens = 4;

// Of the columns of a step. Lane i has to do with bytes 4 i to 4 i + 3.
template <int Vectors>
struct Rounded {
    std::int8_t numbers[Vectors][32];
    std::int32_t sums128[8];  // sums of numbers times 128: what an offset of 128 in the weights comes to
    float scales[8];
    float sums[8];  // of numbers times scale
};

// A step of 64: the low four bits of 32 bytes are columns 0, 2, 4 ..., the high ones 1, 3, 5 ...
template <bool Halves>
struct Q4Dots {
    static constexpr int kVectors = 2;
    static constexpr Index kColumns = 64;
    Packed words;
    Wide scale, bias;

    static Index place(Index vector, Index byte) { return 2 * byte + vector; }
    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * 32;
        fetch_far(at, rows.stride);
        words = rows_packed(at, rows.stride);
        const float *scales = rows.wide_scales(p), *biases = rows.wide_biases(p);
        const Index group = Halves ? 2 * step : step >> rows.steps_log2;
        scale = Halves ? rows_halves(scales + group, rows.scale_stride) : rows_all(scales + group, rows.scale_stride);
        bias = Halves ? rows_halves(biases + group, rows.scale_stride) : rows_all(biases + group, rows.scale_stride);
    }
    Packed dot(const Rounded<kVectors> &x) const {
        return dot_nibbles(words & 0x0f0f0f0fU, repeat_packed(x.numbers[0]), (words >> 4) & 0x0f0f0f0fU,
                           repeat_packed(x.numbers[1]));
    }
};

// A step of 32, a byte each.
struct Q8Dots {
    static constexpr int kVectors = 1;
    static constexpr Index kColumns = 32;
    Q8<1> weights;
    Wide scale, bias;

    static Index place(Index, Index byte) { return byte; }
    void load(const StoredRows &rows, int p, Index step) {
        fetch_far(rows.wide(p) + step * 32, rows.stride);
        weights.read(rows, p, step);
        scale = weights.scale;
        bias = weights.bias;
    }
    Packed dot(const Rounded<kVectors> &x) const {
        return dot_bytes(weights.words[0], repeat_packed(x.numbers[0]), repeat_packed(x.sums128));
    }
};

// Rounds 32 activations; returns their scale. It is NaN, and so is every product, where one is not finite.
inline float round_to_int8(const float *x, std::int8_t *rounded) {
    float most = 0.0F, finite = 0.0F;
    for (int i = 0; i < 32; ++i) {
        const float size = __builtin_fabsf(x[i]);
        most = size > most ? size : most;
        finite += x[i] - x[i];
    }
    const float scale = most / 127.0F + finite;
    const float inverse = scale >= 0x1p-126F ? 1.0F / scale : 0.0F;
    for (int i = 0; i < 32; ++i) {
        // Adding 1.5 * 2^23 rounds to an integer.
        const float number = finite == 0.0F ? (x[i] * inverse + 12582912.0F) - 12582912.0F : 0.0F;
        rounded[i] = static_cast<std::int8_t>(number);
    }
    return scale;
}

// [step][token] of Rounded
template <typename Dots>
inline void arrange_int8_as(const Activations &x, float *arranged) {
    auto *out = reinterpret_cast<Rounded<Dots::kVectors> *>(arranged);
    for (Index c = 0; c < x.columns; c += Dots::kColumns) {
        for (Index t = 0; t < x.tokens; ++t, ++out) {
            std::int8_t numbers[Dots::kColumns];
            float scales[2];
            for (Index i = 0; i < Dots::kVectors; ++i) {
                scales[i] = round_to_int8(x.data + t * x.stride + c + 32 * i, numbers + 32 * i);
            }
            for (Index lane = 0; lane < 8; ++lane) {
                std::int32_t sum = 0;
                for (Index v = 0; v < Dots::kVectors; ++v) {
                    for (Index byte = 4 * lane; byte < 4 * lane + 4; ++byte) {
                        out->numbers[v][byte] = numbers[Dots::place(v, byte)];
                        sum += out->numbers[v][byte];
                    }
                }
                out->sums128[lane] = 128 * sum;
                out->scales[lane] = scales[lane / 4 * (Dots::kVectors - 1)];
                out->sums[lane] = out->scales[lane] * static_cast<float>(sum);
            }
        }
    }
}

inline void arrange_int8(const Matrix &m, const Activations &x, float *arranged) {
    return m.format == Format::q4 ? arrange_int8_as<Q4Dots<false>>(x, arranged) : arrange_int8_as<Q8Dots>(x, arranged);
}

template <typename Dots, int P, int N>
inline void multiply_dots(const StoredRows &rows, Index steps, const float *arranged, Target out) {
    const auto *x = reinterpret_cast<const Rounded<Dots::kVectors> *>(arranged);
    Wide sums[P][N];
    for (int p = 0; p < P; ++p) {
        for (int n = 0; n < N; ++n) sums[p][n] = Wide::zero();
    }
    for (Index step = 0; step < steps; ++step, x += N) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            Dots dots;
            dots.load(rows, p, step);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                const Wide dot = to_floats(dots.dot(x[n])) * repeat(x[n].scales);
                sums[p][n] = fma(dot, dots.scale, sums[p][n]);
                sums[p][n] = fma(dots.bias, repeat(x[n].sums), sums[p][n]);
            }
        }
    }
    store_sums<P, N>(sums, out);
}

template <typename Dots>
inline void multiply_int8_as(const Product &p, Index first, Index last) {
    with_count<kInt8Tokens>(p.tokens, [&](auto tokens) {
        constexpr int P = (kWideRows == 1) == (tokens.value == 1) ? 4 : 2;
        for_stored_rows<P>(p, first, last, Dots::kColumns, [&](auto wides, const StoredRows &rows, Target out) {
            multiply_dots<Dots, wides.value, tokens.value>(rows, p.matrix.columns / Dots::kColumns, p.x, out);
        });
    });
}

inline void multiply_int8(const Product &p, Index first, Index last) {
    if (p.matrix.format == Format::q8) return multiply_int8_as<Q8Dots>(p, first, last);
    return p.matrix.group == 32 ? multiply_int8_as<Q4Dots<true>>(p, first, last)
                                : multiply_int8_as<Q4Dots<false>>(p, first, last);
}

}  // namespace
}  // namespace mlx_sidecar::cpu
