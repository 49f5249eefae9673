// Weights as a checkpoint stores them. Nothing is repacked: the kernels read mlx's own layouts where they lie.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {

using Index = std::ptrdiff_t;

// q4 and q8 are mlx's affine quantisation: 32-bit words of eight or four numbers, the first in the lowest bits, and for
// each group of a row a scale and a bias: weight = number * scale + bias.
enum class Format : std::uint8_t { f32, f16, bf16, q4, q8 };

// A number of the format f16.
using Half = std::uint16_t;

// [rows, columns] of numbers, row by row without gaps, owned by somebody else.
struct Matrix {
    Format format = Format::f32;
    Format scale_format = Format::f32;  // of scales and biases: f32, f16 or bf16
    Index rows = 0, columns = 0;
    Index group = 0;  // numbers that share a scale: 32, 64 or 128; 0 unless quantised
    const void *weight = nullptr;
    const void *scales = nullptr, *biases = nullptr;  // [rows, columns / group]
};

// Bytes of one row of weights, without scales.
inline Index row_bytes(const Matrix &m) {
    switch (m.format) {
        case Format::f32: return m.columns * 4;
        case Format::f16:
        case Format::bf16: return m.columns * 2;
        case Format::q4: return m.columns / 2;
        case Format::q8: return m.columns;
    }
    return 0;  // not reached
}

// The columns of every matrix are a multiple of this: a step of its kernels.
inline Index column_step(Format format) {
    switch (format) {
        case Format::f32:
        case Format::f16: return 8;
        case Format::bf16: return 16;
        case Format::q4: return 64;
        case Format::q8: return 32;
    }
    return 1;  // not reached
}

}  // namespace mlx_sidecar::cpu
