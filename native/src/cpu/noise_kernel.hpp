// Gumbel noise that is a pure function of a key and a token, bit for bit from the random words of mlx.random: of `size`
// words the first half and the second are the two outputs of Threefry for the counters (i, i + size - size / 2), and the
// middle one of an odd number is the first output for (size / 2, 0).
#pragma once

#include "sampling.hpp"
#include "words.hpp"

namespace mlx_sidecar::cpu {
namespace {

// More than any noise: that of the largest uniform number is 16.6355.
constexpr float kMostNoise = 16.64F;
// Less than any noise of a positive uniform number, the least of which gives -3.1. mlx gives minus infinity for 0.
constexpr float kLeastNoise = -100.0F;

// Threefry-2x32 of 20 rounds (Salmon and others, 2011), from counters to random words in place.
inline void threefry(Key key, Words &x, Words &y) {
    constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const std::uint32_t keys[3] = {key.first, key.second, key.first ^ key.second ^ 0x1bd11bdaU};
    x += keys[0];
    y += keys[1];
#pragma GCC unroll 5
    for (std::uint32_t four = 0; four < 5; ++four) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const int left = kRotations[four % 2][i];
            x += y;
            y = ((y << left) | (y >> (32 - left))) ^ x;
        }
        x += keys[(four + 1) % 3];
        y += keys[(four + 2) % 3] + four + 1;
    }
}

// Uniform numbers from 0 to 1 - 2^-24.
inline Wide uniform(Words bits) { return minimum(rounded(bits) * Wide::all(0x1p-32F), Wide::all(1.0F - 0x1p-24F)); }

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

}  // namespace
}  // namespace mlx_sidecar::cpu
