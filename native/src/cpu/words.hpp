// Vectors of as many 32-bit words as Wide has floats, in the vector types that GCC and Clang share and translate for each
// instruction set. To be included after lanes_*.hpp.
#pragma once

#include <cstdint>

// The baseline has no registers of this width; how vectors are passed there matters only within one file.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace mlx_sidecar::cpu {
namespace {
namespace sampling {

typedef std::uint32_t Words __attribute__((vector_size(4 * Wide::kLanes)));
typedef std::int32_t Integers __attribute__((vector_size(4 * Wide::kLanes)));
typedef float Floats __attribute__((vector_size(4 * Wide::kLanes)));

template <typename To, typename From>
inline To same_bits(const From &from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// Each number rounded to the nearest float.
template <typename V>
inline Wide rounded(const V &numbers) {
    return same_bits<Wide>(__builtin_convertvector(numbers, Floats));
}

// Each float, from -2^31 to below 2^31, rounded towards zero.
inline Integers truncated(Wide x) { return __builtin_convertvector(same_bits<Floats>(x), Integers); }

// `first`, `first` + 1, ...
inline Words words_from(std::uint32_t first) {
    Words words;
    for (int lane = 0; lane < Wide::kLanes; ++lane) words[lane] = first + static_cast<std::uint32_t>(lane);
    return words;
}

// A bit for each lane, the lowest for the first: whether a >= b there.
inline std::uint32_t at_least(Wide a, Wide b) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(a.value, b.value, _CMP_GE_OQ);
#elif defined(__AVX2__)
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.value, b.value, _CMP_GE_OQ)));
#else
    const auto x = same_bits<Floats>(a), y = same_bits<Floats>(b);
    std::uint32_t bits = 0;
    for (int lane = 0; lane < Wide::kLanes; ++lane) bits |= static_cast<std::uint32_t>(x[lane] >= y[lane]) << lane;
    return bits;
#endif
}

}  // namespace sampling
}  // namespace
}  // namespace mlx_sidecar::cpu
