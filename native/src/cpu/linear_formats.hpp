// How the kernels of linear_kernel.hpp read each format: a step of columns becomes `kVectors` vectors of 8 places of
// kWideRows rows. Which columns these are is each format's own choice, the cheapest; activations are arranged alike.
#pragma once

#include "linear.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Rows of a matrix and their scales as float32, if they have any. With strides of 0 one row stands for several.
struct StoredRows {
    const char *weight;
    Index stride;  // bytes
    const float *scales = nullptr, *biases = nullptr;
    Index scale_stride = 0;
    int steps_log2 = 0;  // a group has 2^steps_log2 steps
    const char *ahead = nullptr;  // what is fetched first while these rows are read, in the order of `fetch_next`
    Index ahead_step = 0, ahead_wide = 0;

    // The rows of the Wide number `p`.
    const char *wide(int p) const { return weight + p * kWideRows * stride; }
    const float *wide_scales(int p) const { return scales + p * kWideRows * scale_stride; }
    const float *wide_biases(int p) const { return biases + p * kWideRows * scale_stride; }
};

// Memory is fetched ahead, because the hardware's own prefetching stops at the end of a page. Where memory is all that is
// waited for, the second-level cache takes more of it at a time, and the first has no room for lines a page apart.
constexpr Index kFarBytes = 8192;
constexpr int kSecondCache = 2;

inline void fetch_far(const char *at, Index stride) {
    __builtin_prefetch(at + kFarBytes, 0, kSecondCache);
    if (kWideRows > 1) __builtin_prefetch(at + stride + kFarBytes, 0, kSecondCache);
}

// Where weights are computed with for as long as memory takes, they are fetched into the first cache: of short rows line
// by line through the next tile, of long ones each Wide's own.
constexpr Index kNearBytes = 3072, kShortTileBytes = 8192;

inline void plan_fetching(StoredRows &rows, Index count, Index bytes, Index step_bytes) {
    const Index wides = (count + kWideRows - 1) / kWideRows, step = kWideRows * step_bytes, tile = count * bytes;
    const bool is_short = tile <= kShortTileBytes;
    rows.ahead = rows.weight + tile + kNearBytes;
    rows.ahead_step = is_short ? wides * step : step;
    rows.ahead_wide = is_short ? step : kWideRows * bytes;
}

template <Index StepBytes>
inline void fetch_next(const StoredRows &rows, int p, Index step) {
    const char *at = rows.ahead + step * rows.ahead_step + p * rows.ahead_wide;
    for (Index line = 0; line < kWideRows * StepBytes; line += 64) __builtin_prefetch(at + line);
}

// Vector v of a step of 8: column i is lane i.
struct F32 {
    static constexpr int kVectors = 1;
    static constexpr Index kStepBytes = 32;
    Wide weights;

    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
        fetch_far(at, rows.stride);
        weights = rows_f32(at, rows.stride);
    }
    Wide vector(int) const { return weights; }
};

struct F16 {
    static constexpr int kVectors = 1;
    static constexpr Index kStepBytes = 16;
    Wide weights;

    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
        fetch_far(at, rows.stride);
        weights = rows_f16(at, rows.stride);
    }
    Wide vector(int) const { return weights; }
};

// A step of 16: column 2 i + v is lane i of vector v.
struct BF16 {
    static constexpr int kVectors = 2;
    static constexpr Index kStepBytes = 32;
    Packed words;

    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
        fetch_far(at, rows.stride);
        words = rows_packed(at, rows.stride);
    }
    Wide vector(int v) const { return bits_as_floats(v == 0 ? words << 16 : words & 0xffff0000U); }
};

// A step of 64: column 8 i + v is lane i of vector v. The weights of all lanes have one scale and bias.
struct Q4 {
    static constexpr int kVectors = 8;
    static constexpr Index kStepBytes = 32;
    Nibbles nibbles;

    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
        fetch_next<kStepBytes>(rows, p, step);
        const Index group = step >> rows.steps_log2;
        nibbles = Nibbles::of(rows_packed(at, rows.stride), rows.wide_scales(p) + group, rows.wide_biases(p) + group,
                              rows.scale_stride);
    }
    Wide vector(int v) const { return nibbles.vector(v); }
};

// The same with groups of 32: a scale for lanes 0 to 3 and one for lanes 4 to 7. Odd numbers stay where they are in their
// bytes, 16 times too large, and meet a scale 16 times smaller, which saves half of the shifts and changes no bit (but of
// scales below 2^-122, which then lose their last ones).
struct Q4Halves {
    static constexpr int kVectors = 8;
    static constexpr Index kStepBytes = 32;
    Packed words;
    Wide scale, scale16, bias;

    void load(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
        fetch_next<kStepBytes>(rows, p, step);
        words = rows_packed(at, rows.stride);
        scale = rows_halves(rows.wide_scales(p) + 2 * step, rows.scale_stride);
        scale16 = scale * Wide::all(0.0625F);
        bias = rows_halves(rows.wide_biases(p) + 2 * step, rows.scale_stride);
    }
    Wide vector(int v) const {
        const Packed bytes = v < 2 ? words : words >> v / 2 * 8;
        if (v % 2 == 0) return fma(to_floats(bytes & 15), scale, bias);
        return fma(to_floats(bytes & 240), scale16, bias);
    }
};

// A step of 32 or, so that a scale is read once for it, of 64: column 4 v + i of 32 is lane i of vector v for i below 4,
// column 12 + 4 v + i for the others.
template <int Words32>
struct Q8 {
    static constexpr int kVectors = 4 * Words32;
    static constexpr Index kStepBytes = 32 * Words32;
    Packed words[Words32];
    Wide scale, bias;

    void load(const StoredRows &rows, int p, Index step) {
        fetch_next<kStepBytes>(rows, p, step);
        read(rows, p, step);
    }
    void read(const StoredRows &rows, int p, Index step) {
        const char *at = rows.wide(p) + step * kStepBytes;
#pragma GCC unroll 2
        for (int i = 0; i < Words32; ++i) words[i] = rows_packed(at + 32 * i, rows.stride);
        const Index group = step >> rows.steps_log2;
        scale = rows_all(rows.wide_scales(p) + group, rows.scale_stride);
        bias = rows_all(rows.wide_biases(p) + group, rows.scale_stride);
    }
    Wide vector(int v) const { return fma(to_floats(bytes_of(words[v / 4], v % 4)), scale, bias); }
};

inline bool is_quantised(const Matrix &m) { return m.format == Format::q4 || m.format == Format::q8; }
inline Index groups_of(const Matrix &m) { return is_quantised(m) ? m.columns / m.group : 0; }

// to[i] = the number `first + i` of `from`, for i below `count`. Nothing behind the last is read.
inline void to_float32(Format format, const void *from, Index first, Index count, float *to) {
    if (format == Format::f32) {
        __builtin_memcpy(to, static_cast<const float *>(from) + first, static_cast<std::size_t>(count) * sizeof *to);
        return;
    }
    const auto *halves = static_cast<const std::uint16_t *>(from) + first;
    const auto eight = [format](const std::uint16_t *at) {
        return format == Format::f16 ? Eight::load_f16(at) : Eight::load_bf16(at);
    };
    Index i = 0;
    for (; i + 8 <= count; i += 8) eight(halves + i).store(to + i);
    if (i < count) {
        std::uint16_t rest[8] = {};
        for (Index j = i; j < count; ++j) rest[j - i] = halves[j];
        eight(rest).store_some(to + i, count - i);
    }
}

}  // namespace
}  // namespace mlx_sidecar::cpu
