// Elementary functions over any vector type of lanes_*.hpp, with the same operations in the same order for each, so
// that all instruction sets with FMA give the same bits. Polynomials are interpolations at Chebyshev nodes.
#pragma once

namespace mlx_sidecar::cpu {
namespace {

// Adding it rounds a float to an integer, which its lowest bits then are.
constexpr float kRounder = 0x1.8p+23F;

// e^(x - n log 2), where shifted = kRounder + n and n is the integer next to x / log 2.
template <typename V>
inline V exp_rest(V x, V shifted) {
    const V n = shifted - V::all(kRounder);
    const V r = fma(n, V::all(-0x1.7f7d1cp-20F), fma(n, V::all(-0x1.62e400p-1F), x));
    V p = fma(V::all(0x1.6d113cp-10F), r, V::all(0x1.120ba2p-7F));
    p = fma(p, r, V::all(0x1.55551ap-5F));
    p = fma(p, r, V::all(0x1.5554dcp-3F));
    p = fma(p, r, V::all(0.5F));
    return fma(p * r, r, r) + V::all(1.0F);
}

// e^x: within 2 units in the last place; 0 for minus infinity, NaN for NaN.
template <typename V>
inline V exp(V x) {
    // Below the first the result is 0, above the second it is infinity. NaN passes both.
    x = minimum(maximum(x, V::all(-104.0F)), V::all(89.0F));
    const V magic = V::all(kRounder), shifted = fma(x, V::all(0x1.715476p+0F), magic), n = shifted - magic;
    // In two steps, because 2^n alone may be too large or too small for a float.
    const V half = fma(n, V::all(0.5F), magic);
    return exp_rest(x, shifted) * power_of_two(half) * power_of_two(n - (half - magic) + magic);
}

// e^x for x up to 88: the bits of exp(x), but 0 below -87, where results come near to the smallest normal number. Half
// the operations of exp.
template <typename V>
inline V exp_normal(V x) {
    const V shifted = fma(x, V::all(0x1.715476p+0F), V::all(kRounder));
    return where_less(x, V::all(-87.0F), V::zero(), exp_rest(x, shifted) * power_of_two(shifted));
}

// The natural logarithm of positive, normal, finite x: within 2 units in the last place.
template <typename V>
inline V log(V x) {
    V exponent, mantissa;  // sqrt(1/2) <= mantissa < sqrt(2)
    split(x, mantissa, exponent);
    const V f = mantissa - V::all(1.0F);
    V q = fma(V::all(-0.07902744F), f, V::all(0.12622319F));
    q = fma(q, f, V::all(-0.12998183F));
    q = fma(q, f, V::all(0.14214496F));
    q = fma(q, f, V::all(-0.16641282F));
    q = fma(q, f, V::all(0.20001045F));
    q = fma(q, f, V::all(-0.25000307F));
    q = fma(q, f, V::all(0.3333333F));
    const V square = f * f;
    V low = fma(exponent, V::all(0x1.7f7d1cp-20F), q * f * square);
    low = fma(square, V::all(-0.5F), low);
    return fma(exponent, V::all(0x1.62e400p-1F), f + low);
}

// tanh x = 1 - 2 / (e^2x + 1): absolute error below 2^-22.
template <typename V>
inline V tanh(V x) {
    const V one = V::all(1.0F);
    return one - V::all(2.0F) / (exp(x + x) + one);
}

}  // namespace
}  // namespace mlx_sidecar::cpu
