// Vectors of 8 floats for 64-bit ARM: two registers of 4.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace mlx_sidecar::cpu {
namespace {

struct Eight {
    static constexpr int kLanes = 8;

    float32x4_t low, high;

    static Eight load(const float *from) { return {vld1q_f32(from), vld1q_f32(from + 4)}; }
    // The first `count` of 8 floats, 0 for the rest, which are not read.
    static Eight load_some(const float *from, std::ptrdiff_t count) {
        float lanes[8] = {};
        for (std::ptrdiff_t i = 0; i < 8 && i < count; ++i) lanes[i] = from[i];
        return load(lanes);
    }
    static Eight load_f16(const std::uint16_t *from) {
        const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from));
        return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
    }
    static Eight load_bf16(const std::uint16_t *from) {
        const uint16x8_t halves = vld1q_u16(from);
        return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(halves, 16))};
    }
    static Eight all(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
    static Eight zero() { return all(0.0F); }
    void store(float *to) const {
        vst1q_f32(to, low);
        vst1q_f32(to + 4, high);
    }
    void store_some(float *to, std::ptrdiff_t count) const {
        float lanes[8];
        store(lanes);
        for (std::ptrdiff_t i = 0; i < 8 && i < count; ++i) to[i] = lanes[i];
    }
    // Rounded to the nearest, of two equally near ones to the even one; infinite where it is too large.
    void store_f16(std::uint16_t *to) const {
        vst1q_u16(to, vreinterpretq_u16_f16(vcombine_f16(vcvt_f16_f32(low), vcvt_f16_f32(high))));
    }
    // Lanes added in a fixed order: ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)).
    float sum() const {
        const float32x4_t four = vaddq_f32(low, high);
        const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
        return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
    }
    // The largest lane, of numbers that are none of them NaN.
    float peak() const { return vmaxvq_f32(vmaxq_f32(low, high)); }
};

inline Eight operator+(Eight a, Eight b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline Eight operator-(Eight a, Eight b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline Eight operator*(Eight a, Eight b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline Eight operator/(Eight a, Eight b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline Eight fma(Eight a, Eight b, Eight c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
// The lane of `x` where a < b, else that of `y`.
inline Eight where_less(Eight a, Eight b, Eight x, Eight y) {
    return {vbslq_f32(vcltq_f32(a.low, b.low), x.low, y.low), vbslq_f32(vcltq_f32(a.high, b.high), x.high, y.high)};
}
// NaN where either is. Of zeros of two signs `a`, as the other sets choose, and not the greater.
inline Eight maximum(Eight a, Eight b) {
    const auto half = [](float32x4_t x, float32x4_t y) {
        return vbslq_f32(vorrq_u32(vcgtq_f32(y, x), vmvnq_u32(vceqq_f32(y, y))), y, x);
    };
    return {half(a.low, b.low), half(a.high, b.high)};
}
inline Eight minimum(Eight a, Eight b) {
    const auto half = [](float32x4_t x, float32x4_t y) {
        return vbslq_f32(vorrq_u32(vcltq_f32(y, x), vmvnq_u32(vceqq_f32(y, y))), y, x);
    };
    return {half(a.low, b.low), half(a.high, b.high)};
}
// Where neither is NaN; cheaper than `maximum`.
inline Eight larger(Eight a, Eight b) {
    return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low), vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
}
// 2^n for integers n from -126 to 127, given n + 1.5 * 2^23, whose lowest bits are n. Anything for other numbers.
inline Eight power_of_two(Eight shifted) {
    const auto half = [](float32x4_t x) {
        return vreinterpretq_f32_u32(vaddq_u32(vshlq_n_u32(vreinterpretq_u32_f32(x), 23), vdupq_n_u32(127U << 23)));
    };
    return {half(shifted.low), half(shifted.high)};
}
// x = mantissa * 2^exponent, sqrt(1/2) <= mantissa < sqrt(2), for positive normal x.
inline void split(Eight x, Eight &mantissa, Eight &exponent) {
    const auto half = [](float32x4_t number, float32x4_t &m, float32x4_t &e) {
        const int32x4_t bits = vreinterpretq_s32_f32(number);
        const int32x4_t n = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
        e = vcvtq_f32_s32(n);
        m = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(n, 23)));
    };
    half(x.low, mantissa.low, exponent.low);
    half(x.high, mantissa.high, exponent.high);
}
inline float root(float x) { return __builtin_sqrtf(x); }

// to[j * to_stride + i] = from[8 i + j] for i and j below 8.
inline void transpose(const float *from, float *to, std::ptrdiff_t to_stride) {
    for (int j = 0; j < 8; ++j) {
        for (int i = 0; i < 8; ++i) to[j * to_stride + i] = from[8 * i + j];
    }
}

using Wide = Eight;

}  // namespace
}  // namespace mlx_sidecar::cpu

#include "lanes_math.hpp"
#include "weights_neon.hpp"
