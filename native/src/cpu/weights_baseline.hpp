// Stored weights to vectors of GCC and Clang. A Wide holds the same 8 places of kWideRows rows of weights, here of one.
#pragma once

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 1;
constexpr int kWideRegisters = 16;

struct Packed {
    Words8 value;
};

inline Packed operator>>(Packed a, int bits) { return {a.value >> bits}; }
inline Packed operator<<(Packed a, int bits) { return {a.value << bits}; }
inline Packed operator&(Packed a, std::uint32_t mask) { return {a.value & mask}; }
inline Wide bits_as_floats(Packed a) { return {reinterpret_cast<Floats8>(a.value)}; }
// Of signed words.
inline Wide to_floats(Packed a) { return {__builtin_convertvector(reinterpret_cast<Integers8>(a.value), Floats8)}; }

// Lane i of a row: byte 4 v + i of the 32 bytes for i below 4, byte 12 + 4 v + i for the others.
inline Packed bytes_of(Packed a, int v) {
    const std::uint32_t low = a.value[v], high = a.value[4 + v];
    return {Words8{low, low >> 8, low >> 16, low >> 24, high, high >> 8, high >> 16, high >> 24} & 255U};
}

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return Wide::load(from); }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t) { return Wide::load(reinterpret_cast<const float *>(at)); }
inline Wide rows_f16(const char *at, std::ptrdiff_t) {
    return Wide::load_f16(reinterpret_cast<const std::uint16_t *>(at));
}
inline Packed rows_packed(const char *at, std::ptrdiff_t) {
    Packed words;
    std::memcpy(&words.value, at, sizeof words.value);
    return words;
}
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t) { return Wide::all(*at); }
inline Wide rows_halves(const float *at, std::ptrdiff_t) {
    return Wide::each([=](int i) { return at[i / 4]; });
}
// The first `count` of 8 floats of each row, 0 for the rest.
inline Wide rows_some(const float *at, std::ptrdiff_t, std::ptrdiff_t count) { return Wide::load_some(at, count); }

// Weights of four bits: number 8 i + v of a row is lane i of vector v. A row has one scale and bias.
struct Nibbles {
    Packed words;
    Wide scale, bias;

    static Nibbles of(Packed words, const float *scales, const float *biases, std::ptrdiff_t stride) {
        return {words, rows_all(scales, stride), rows_all(biases, stride)};
    }
    Wide vector(int v) const { return fma(to_floats((words >> 4 * v) & 15), scale, bias); }
};

// 32 bytes, the same for each row.
inline Packed repeat_packed(const void *from) {
    Packed words;
    std::memcpy(&words.value, from, sizeof words.value);
    return words;
}
// In each lane the sum of four products of unsigned a and signed x from -127 on; x_sums128 is 128 times that of x.
inline Packed dot_bytes(Packed a, Packed x, Packed) {
    Integers8 sum{};
    for (int j = 0; j < 32; j += 8) {
        const auto numbers = reinterpret_cast<Integers8>((a.value >> j) & 255U);
        sum += numbers * (reinterpret_cast<Integers8>(x.value << (24 - j)) >> 24);
    }
    return {reinterpret_cast<Words8>(sum)};
}
// The same with the products of b and y; a and b are below 16.
inline Packed dot_nibbles(Packed a, Packed x, Packed b, Packed y) {
    return {dot_bytes(a, x, Packed{}).value + dot_bytes(b, y, Packed{}).value};
}

// out[kWideRows * i + r]: the sum of row r of vector i of four, as Eight::sum.
inline void sum_four(const Wide *vectors, float *out) {
    for (int i = 0; i < 4; ++i) out[i] = vectors[i].sum();
}

}  // namespace
}  // namespace mlx_sidecar::cpu
