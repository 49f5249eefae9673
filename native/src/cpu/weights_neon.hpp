// Stored weights to vectors, for 64-bit ARM. A Wide holds the same 8 places of kWideRows rows of weights, here of one.
#pragma once

namespace mlx_sidecar::cpu {
namespace {

constexpr int kWideRows = 1;
constexpr int kWideRegisters = 16;

struct Packed {
    uint32x4_t low, high;
};

inline Packed operator>>(Packed a, int bits) {
    const int32x4_t left = vdupq_n_s32(-bits);
    return {vshlq_u32(a.low, left), vshlq_u32(a.high, left)};
}
inline Packed operator<<(Packed a, int bits) {
    const int32x4_t left = vdupq_n_s32(bits);
    return {vshlq_u32(a.low, left), vshlq_u32(a.high, left)};
}
inline Packed operator&(Packed a, std::uint32_t mask) {
    return {vandq_u32(a.low, vdupq_n_u32(mask)), vandq_u32(a.high, vdupq_n_u32(mask))};
}
inline Wide bits_as_floats(Packed a) { return {vreinterpretq_f32_u32(a.low), vreinterpretq_f32_u32(a.high)}; }
// Of signed words.
inline Wide to_floats(Packed a) {
    return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.low)), vcvtq_f32_s32(vreinterpretq_s32_u32(a.high))};
}
// Lane i of a row: byte 4 v + i of the 32 bytes for i below 4, byte 12 + 4 v + i for the others.
inline Packed bytes_of(Packed a, int v) {
    const uint8x16_t places = vreinterpretq_u8_u32(
        vaddq_u32(vdupq_n_u32(0xffffff00U + 4U * static_cast<unsigned>(v)), uint32x4_t{0, 1, 2, 3}));
    return {vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a.low), places)),
            vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a.high), places))};
}

// 8 floats, the same for each row.
inline Wide repeat(const float *from) { return Wide::load(from); }

// The same place of rows that are `stride` bytes apart.
inline Wide rows_f32(const char *at, std::ptrdiff_t) { return Wide::load(reinterpret_cast<const float *>(at)); }
inline Wide rows_f16(const char *at, std::ptrdiff_t) {
    return Wide::load_f16(reinterpret_cast<const std::uint16_t *>(at));
}
// 32 bytes, the same for each row.
inline Packed repeat_packed(const void *from) {
    const auto *bytes = static_cast<const std::uint8_t *>(from);
    return {vreinterpretq_u32_u8(vld1q_u8(bytes)), vreinterpretq_u32_u8(vld1q_u8(bytes + 16))};
}
inline Packed rows_packed(const char *at, std::ptrdiff_t) { return repeat_packed(at); }
// A number for each row, `stride` floats apart; then two, for lanes 0 to 3 and 4 to 7.
inline Wide rows_all(const float *at, std::ptrdiff_t) { return Wide::all(*at); }
inline Wide rows_halves(const float *at, std::ptrdiff_t) { return {vdupq_n_f32(at[0]), vdupq_n_f32(at[1])}; }
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

// In each lane the sum of four products of unsigned a and signed x from -127 on; x_sums128 is 128 times that of x.
inline Packed dot_bytes(Packed a, Packed x, Packed x_sums128) {
    const auto half = [](uint32x4_t numbers, uint32x4_t others, uint32x4_t sums128) {
        const int8x16_t less = vreinterpretq_s8_u32(veorq_u32(numbers, vdupq_n_u32(0x80808080U)));
        const int8x16_t signed_x = vreinterpretq_s8_u32(others);
        const int16x8_t first = vmull_s8(vget_low_s8(less), vget_low_s8(signed_x));
        const int32x4_t sums = vpaddq_s32(vpaddlq_s16(first), vpaddlq_s16(vmull_high_s8(less, signed_x)));
        return vaddq_u32(vreinterpretq_u32_s32(sums), sums128);
    };
    return {half(a.low, x.low, x_sums128.low), half(a.high, x.high, x_sums128.high)};
}
// The same with the products of b and y; a and b are below 16.
inline Packed dot_nibbles(Packed a, Packed x, Packed b, Packed y) {
    const auto half = [](uint32x4_t m, uint32x4_t u, uint32x4_t n, uint32x4_t v) {
        const int8x16_t a8 = vreinterpretq_s8_u32(m), x8 = vreinterpretq_s8_u32(u);
        const int8x16_t b8 = vreinterpretq_s8_u32(n), y8 = vreinterpretq_s8_u32(v);
        const int16x8_t first = vmlal_s8(vmull_s8(vget_low_s8(a8), vget_low_s8(x8)), vget_low_s8(b8), vget_low_s8(y8));
        const int16x8_t second = vmlal_high_s8(vmull_high_s8(a8, x8), b8, y8);
        return vreinterpretq_u32_s32(vpaddq_s32(vpaddlq_s16(first), vpaddlq_s16(second)));
    };
    return {half(a.low, x.low, b.low, y.low), half(a.high, x.high, b.high, y.high)};
}

// out[kWideRows * i + r]: the sum of row r of vector i of four, as Eight::sum.
inline void sum_four(const Wide *vectors, float *out) {
    for (int i = 0; i < 4; ++i) out[i] = vectors[i].sum();
}

}  // namespace
}  // namespace mlx_sidecar::cpu
