// Gumbel noise that is a pure function of a key and a token, from the random words that mlx.random has for them. Of
// `size` words the first half and the second are the two outputs of Threefry for the counters (i, i + size - size / 2),
// and the middle one of an odd number is the first output for (size / 2, 0).
#pragma once

#include "sampling.hpp"
#include "words.hpp"

namespace mlx_sidecar::cpu {
namespace {
namespace sampling {

// More than any noise: that of the largest uniform number is 16.6355.
constexpr float kMostNoise = 16.64F;
// Less than any noise of a positive uniform number, the least of which gives -3.1. mlx gives minus infinity for 0.
constexpr float kLeastNoise = -100.0F;

// Threefry-2x32 of 20 rounds (Salmon and others, 2011), from counters to random words in place. Its chain of operations
// is long and narrow, so that two vectors take little longer than one.
template <int N>
inline void threefry(Key key, Words (&x)[N], Words (&y)[N]) {
    constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const std::uint32_t keys[3] = {key.first, key.second, key.first ^ key.second ^ 0x1bd11bdaU};
    for (int n = 0; n < N; ++n) {
        x[n] += keys[0];
        y[n] += keys[1];
    }
#pragma GCC unroll 5
    for (std::uint32_t four = 0; four < 5; ++four) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const int left = kRotations[four % 2][i];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                x[n] += y[n];
                y[n] = ((y[n] << left) | (y[n] >> (32 - left))) ^ x[n];
            }
        }
        for (int n = 0; n < N; ++n) {
            x[n] += keys[(four + 1) % 3];
            y[n] += keys[(four + 2) % 3] + four + 1;
        }
    }
}

// Uniform numbers from 0 to 1 - 2^-24.
inline Wide uniform(const Words &bits) {
    return minimum(rounded(bits) * Wide::all(0x1p-32F), Wide::all(1.0F - 0x1p-24F));
}

inline Wide gumbel(Wide uniform) {
    const Wide least = Wide::all(0x1p-32F);
    const Wide noise = Wide::zero() - log(Wide::zero() - log(maximum(uniform, least)));
    return where_less(uniform, least, Wide::all(kLeastNoise), noise);
}

// At least the noise and little more where that is large, for a tenth of its price: -log u >= 1 - u, and the bits of a
// float, read as an integer, are a line below its logarithm to base 2.
inline Wide gumbel_bound(Wide uniform) {
    const Wide line = rounded(same_bits<Integers>(Wide::all(1.0F) - uniform));
    return fma(line, Wide::all(-0x1.62e430p-24F), Wide::all(127 * 0.6931472F + 1e-4F));
}

}  // namespace sampling
}  // namespace
}  // namespace mlx_sidecar::cpu
