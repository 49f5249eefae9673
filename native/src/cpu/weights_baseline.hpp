// Stored weights to vectors, one by one. A Wide holds the same 8 places of kWideRows rows of weights, here of one.
#pragma once

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 1;
constexpr int kWideRegisters = 16;

struct Words {
    std::uint32_t value[8];

    template <typename F>
    static Words each(F f) {
        Words made;
        for (int i = 0; i < 8; ++i) made.value[i] = f(i);
        return made;
    }
};

inline Words operator>>(Words a, int bits) {
    return Words::each([&](int i) { return a.value[i] >> bits; });
}
inline Words operator<<(Words a, int bits) {
    return Words::each([&](int i) { return a.value[i] << bits; });
}
inline Words operator&(Words a, std::uint32_t mask) {
    return Words::each([&](int i) { return a.value[i] & mask; });
}
inline Wide bits_as_floats(Words a) {
    return Wide::each([&](int i) { return float_of(a.value[i]); });
}
// Of words below 2^31.
inline Wide to_floats(Words a) {
    return Wide::each([&](int i) { return static_cast<float>(static_cast<std::int32_t>(a.value[i])); });
}

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return Wide::load(from); }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t) { return Wide::load(reinterpret_cast<const float *>(at)); }
inline Wide rows_f16(const char *at, std::ptrdiff_t) {
    return Wide::load_f16(reinterpret_cast<const std::uint16_t *>(at));
}
inline Words rows_words(const char *at, std::ptrdiff_t) {
    Words words;
    std::memcpy(words.value, at, sizeof words.value);
    return words;
}
inline Words rows_bytes(const char *at, std::ptrdiff_t) {
    return Words::each([=](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(at[i])); });
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t) { return Wide::all(*at); }
inline Wide rows_halves(const float *at, std::ptrdiff_t) {
    return Wide::each([=](int i) { return at[i / 4]; });
}

// The weights that the low four bits of words stand for, under a scale and a bias for each row.
struct Nibbles {
    Wide scale, bias;

    static Nibbles of(const float *scales, const float *biases, std::ptrdiff_t stride) {
        return {rows_all(scales, stride), rows_all(biases, stride)};
    }
    Wide operator()(Words words) const { return fma(to_floats(words & 15), scale, bias); }
};

// out[kWideRows * i + r]: the sum of row r of vector i of four, as Eight::sum.
inline void sum_four(const Wide *vectors, float *out) {
    for (int i = 0; i < 4; ++i) out[i] = vectors[i].sum();
}

}  // namespace
}  // namespace mlx_sidecar::cpu
