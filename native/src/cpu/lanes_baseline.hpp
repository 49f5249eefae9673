// 8 floats one by one, for what every processor of an architecture has. With FMA (any build that has it, such as that of
// the tests) the results are the bits of the other sets.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mlx_sidecar::cpu {
namespace {

inline float float_of(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float from_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16, rest = half & 0x7fffU;
    if (rest >= 0x7c00U) return float_of(sign | 0x7f800000U | (rest & 0x3ffU) << 13);  // infinity or NaN
    // As a float of the same bits it is too small by 2^112, which the product corrects, also where it is denormal.
    return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112F));
}

inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

struct Eight {
    static constexpr int kLanes = 8;

    float value[8];

    template <typename F>
    static Eight each(F f) {
        Eight made;
        for (int i = 0; i < 8; ++i) made.value[i] = f(i);
        return made;
    }
    static Eight load(const float *from) {
        return each([=](int i) { return from[i]; });
    }
    static Eight load_some(const float *from, std::ptrdiff_t count) {
        return each([=](int i) { return i < count ? from[i] : 0.0F; });
    }
    static Eight load_f16(const std::uint16_t *from) {
        return each([=](int i) { return from_half(from[i]); });
    }
    static Eight load_bf16(const std::uint16_t *from) {
        return each([=](int i) { return float_of(static_cast<std::uint32_t>(from[i]) << 16); });
    }
    static Eight all(float x) {
        return each([=](int) { return x; });
    }
    static Eight zero() { return all(0.0F); }
    void store(float *to) const { std::memcpy(to, value, sizeof value); }
    void store_some(float *to, std::ptrdiff_t count) const {
        for (int i = 0; i < 8 && i < count; ++i) to[i] = value[i];
    }
    float sum() const {
        const float *v = value;
        return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    float peak() const {
        float most = value[0];
        for (int i = 1; i < 8; ++i) most = value[i] > most ? value[i] : most;
        return most;
    }
};

inline Eight operator+(Eight a, Eight b) {
    return Eight::each([&](int i) { return a.value[i] + b.value[i]; });
}
inline Eight operator-(Eight a, Eight b) {
    return Eight::each([&](int i) { return a.value[i] - b.value[i]; });
}
inline Eight operator*(Eight a, Eight b) {
    return Eight::each([&](int i) { return a.value[i] * b.value[i]; });
}
inline Eight operator/(Eight a, Eight b) {
    return Eight::each([&](int i) { return a.value[i] / b.value[i]; });
}
inline Eight fma(Eight a, Eight b, Eight c) {
    return Eight::each([&](int i) { return multiply_add(a.value[i], b.value[i], c.value[i]); });
}
inline Eight where_less(Eight a, Eight b, Eight x, Eight y) {
    return Eight::each([&](int i) { return a.value[i] < b.value[i] ? x.value[i] : y.value[i]; });
}
inline Eight maximum(Eight a, Eight b) {
    return Eight::each([&](int i) {
        const float x = a.value[i], y = b.value[i];
        return y != y || y > x ? y : x;
    });
}
inline Eight minimum(Eight a, Eight b) {
    return Eight::each([&](int i) {
        const float x = a.value[i], y = b.value[i];
        return y != y || y < x ? y : x;
    });
}
inline Eight larger(Eight a, Eight b) {
    return Eight::each([&](int i) { return a.value[i] > b.value[i] ? a.value[i] : b.value[i]; });
}
inline Eight power_of_two(Eight shifted) {
    return Eight::each([&](int i) { return float_of((bits_of(shifted.value[i]) << 23) + (127U << 23)); });
}
inline void split(Eight x, Eight &mantissa, Eight &exponent) {
    for (int i = 0; i < 8; ++i) {
        const std::uint32_t bits = bits_of(x.value[i]);
        const std::int32_t n = (static_cast<std::int32_t>(bits) - 0x3f3504f3) >> 23;
        exponent.value[i] = static_cast<float>(n);
        mantissa.value[i] = float_of(bits - (static_cast<std::uint32_t>(n) << 23));
    }
}
inline float root(float x) { return __builtin_sqrtf(x); }

// to[j * to_stride + i] = from[8 i + j] for i and j below 8.
inline void transpose(const float *from, float *to, std::ptrdiff_t to_stride) {
    for (int j = 0; j < 8; ++j) Eight::each([=](int i) { return from[8 * i + j]; }).store(to + j * to_stride);
}

using Wide = Eight;

}  // namespace
}  // namespace mlx_sidecar::cpu

#include "weights_baseline.hpp"

#include "lanes_math.hpp"
