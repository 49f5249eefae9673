// 8 floats in the vector types of GCC and Clang, for what every processor of an architecture has. With FMA (any build that
// has it, such as that of the tests) the results are the bits of the other sets.
#pragma once

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

inline std::uint16_t to_half(float x) {
    const std::uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000U, rest = bits & 0x7fffffffU;
    std::uint32_t half;
    if (rest > 0x7f800000U) {
        half = 0x7e00U | (rest >> 13 & 0x3ffU);  // NaN
    } else if (rest >= 0x477ff000U) {            // nearer to 2^16 than to the largest half
        half = 0x7c00U;
    } else if (rest < 0x38800000U) {  // a denormal half: the sum has its unit in the last place, and is rounded
        half = bits_of(float_of(rest) + 0.5F) - bits_of(0.5F);
    } else {
        half = (rest - (112U << 23) + 0xfffU + (rest >> 13 & 1U)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

// Operations on whole vectors, because the compiler takes three times as long over loops of 8.
typedef float Floats8 __attribute__((vector_size(32)));
typedef std::uint32_t Words8 __attribute__((vector_size(32)));
typedef std::int32_t Integers8 __attribute__((vector_size(32)));

struct Eight {
    static constexpr int kLanes = 8;

    Floats8 value;

    template <typename F>
    static Eight each(F f) {
        return {Floats8{f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}};
    }
    static Eight load(const float *from) {
        Eight made;
        std::memcpy(&made.value, from, sizeof made.value);
        return made;
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
    static Eight all(float x) { return {Floats8{x, x, x, x, x, x, x, x}}; }
    static Eight zero() { return {Floats8{}}; }
    void store(float *to) const { std::memcpy(to, &value, sizeof value); }
    void store_some(float *to, std::ptrdiff_t count) const {
        for (int i = 0; i < 8 && i < count; ++i) to[i] = value[i];
    }
    void store_f16(std::uint16_t *to) const {
        for (int i = 0; i < 8; ++i) to[i] = to_half(value[i]);
    }
    float sum() const {
        const Floats8 &v = value;
        return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    float peak() const {
        float most = value[0];
        for (int i = 1; i < 8; ++i) most = value[i] > most ? value[i] : most;
        return most;
    }
};

inline Eight operator+(Eight a, Eight b) { return {a.value + b.value}; }
inline Eight operator-(Eight a, Eight b) { return {a.value - b.value}; }
inline Eight operator*(Eight a, Eight b) { return {a.value * b.value}; }
inline Eight operator/(Eight a, Eight b) { return {a.value / b.value}; }
inline Eight fma(Eight a, Eight b, Eight c) {
#if defined(__FMA__) || defined(__aarch64__)
    return Eight::each([&](int i) { return __builtin_fmaf(a.value[i], b.value[i], c.value[i]); });
#else
    return {a.value * b.value + c.value};
#endif
}
inline Eight where_less(Eight a, Eight b, Eight x, Eight y) { return {a.value < b.value ? x.value : y.value}; }
inline Eight maximum(Eight a, Eight b) {
    return {(b.value != b.value) | (b.value > a.value) ? b.value : a.value};
}
inline Eight minimum(Eight a, Eight b) {
    return {(b.value != b.value) | (b.value < a.value) ? b.value : a.value};
}
inline Eight larger(Eight a, Eight b) { return {a.value > b.value ? a.value : b.value}; }
inline Eight power_of_two(Eight shifted) {
    return {reinterpret_cast<Floats8>((reinterpret_cast<Words8>(shifted.value) << 23) + (127U << 23))};
}
inline void split(Eight x, Eight &mantissa, Eight &exponent) {
    const Integers8 bits = reinterpret_cast<Integers8>(x.value), n = (bits - 0x3f3504f3) >> 23;
    exponent.value = __builtin_convertvector(n, Floats8);
    mantissa.value = reinterpret_cast<Floats8>(reinterpret_cast<Words8>(bits) - (reinterpret_cast<Words8>(n) << 23));
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
