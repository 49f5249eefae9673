// The kernels of linear.hpp for the vectors of the file that includes this one.
#pragma once

#include "linear.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Row `row`, columns `at` to `at + 8` of a matrix, as float32.
inline float scale_of(Format format, const void *scales, Index at) {
    const std::uint16_t *halves = static_cast<const std::uint16_t *>(scales) + at;
    float lanes[8];
    switch (format) {
        case Format::f16: {
            std::uint16_t eight[8] = {halves[0]};
            Eight::load_f16(eight).store(lanes);
            return lanes[0];
        }
        case Format::bf16: {
            std::uint16_t eight[8] = {halves[0]};
            Eight::load_bf16(eight).store(lanes);
            return lanes[0];
        }
        default: return static_cast<const float *>(scales)[at];
    }
}

inline void expand_row(const Matrix &m, Index row, float *out) {
    const char *from = static_cast<const char *>(m.weight) + row * row_bytes(m);
    for (Index c = 0; c < m.columns; c += 8) {
        switch (m.format) {
            case Format::f32: Eight::load(reinterpret_cast<const float *>(from) + c).store(out + c); break;
            case Format::f16: Eight::load_f16(reinterpret_cast<const std::uint16_t *>(from) + c).store(out + c); break;
            case Format::bf16: Eight::load_bf16(reinterpret_cast<const std::uint16_t *>(from) + c).store(out + c); break;
            case Format::q4:
            case Format::q8: {
                const Index place = row * (m.columns / m.group) + c / m.group;
                const Eight scale = Eight::all(scale_of(m.scale_format, m.scales, place));
                const Eight bias = Eight::all(scale_of(m.scale_format, m.biases, place));
                float numbers[8];
                for (Index i = 0; i < 8; ++i) {
                    const auto *bytes = reinterpret_cast<const std::uint8_t *>(from);
                    const Index at = c + i;
                    numbers[i] = m.format == Format::q8 ? bytes[at] : (bytes[at / 2] >> (at % 2 * 4)) & 15;
                }
                fma(Eight::load(numbers), scale, bias).store(out + c);
            }
        }
    }
}

inline Index arranged_floats(const Matrix &m, Arithmetic, Index tokens) { return tokens * m.columns; }
inline void arrange(const Matrix &m, Arithmetic, const Activations &x, float *arranged) {
    for (Index t = 0; t < x.tokens; ++t) {
        for (Index c = 0; c < m.columns; ++c) arranged[t * m.columns + c] = x.data[t * x.stride + c];
    }
}
inline Index scratch_floats(const Matrix &m, Arithmetic, Index) { return m.columns; }
inline void multiply(const Matrix &m, Arithmetic, const float *arranged, Index tokens, Index first, Index last,
                     float *out, Index out_stride, float *scratch) {
    for (Index r = first; r < last; ++r) {
        expand_row(m, r, scratch);
        for (Index t = 0; t < tokens; ++t) {
            Eight sum = Eight::zero();
            for (Index c = 0; c < m.columns; c += 8) {
                sum = fma(Eight::load(scratch + c), Eight::load(arranged + t * m.columns + c), sum);
            }
            out[t * out_stride + r] = sum.sum();
        }
    }
}

constexpr LinearKernels kLinearKernels{arranged_floats, arrange, scratch_floats, multiply, expand_row, 8};

}  // namespace
}  // namespace mlx_sidecar::cpu
