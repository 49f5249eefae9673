// The kernels of rows.hpp for the vectors of the file that includes this one.
#pragma once

#include "rows.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Calls f(place, count, vector type) for the whole of `size`, the last time with fewer lanes than the type has.
template <typename F>
inline void by_lanes(Index size, F f) {
    Index at = 0;
    for (; at + Wide::kLanes <= size; at += Wide::kLanes) f(at, Index{Wide::kLanes});
    if (at < size) f(at, size - at);
}

inline Wide load_up_to(const float *from, Index count) {
    return count >= Wide::kLanes ? Wide::load(from) : Wide::load_some(from, count);
}

inline void store_up_to(Wide x, float *to, Index count) {
    if (count >= Wide::kLanes) {
        x.store(to);
    } else {
        x.store_some(to, count);
    }
}

inline void rms_norm(const float *x, const float *weight, float epsilon, Index size, float *out) {
    Eight sum = Eight::zero();
    Index at = 0;
    for (; at + 8 <= size; at += 8) {
        const Eight part = Eight::load(x + at);
        sum = fma(part, part, sum);
    }
    if (at < size) {
        const Eight part = Eight::load_some(x + at, size - at);
        sum = fma(part, part, sum);
    }
    const Wide factor = Wide::all(1.0F / root(sum.sum() / static_cast<float>(size) + epsilon));
    by_lanes(size, [=](Index i, Index count) {
        const Wide scaled = load_up_to(x + i, count) * factor;
        store_up_to(weight == nullptr ? scaled : scaled * load_up_to(weight + i, count), out + i, count);
    });
}

inline void rotate(float *x, Index heads, Index size, Index pairs, const float *cosines, const float *sines,
                   bool traditional) {
    for (Index head = 0; head < heads; ++head, x += size) {
        if (traditional) {
            for (Index i = 0; i < pairs; ++i) {
                const float a = x[2 * i], b = x[2 * i + 1];
                x[2 * i] = a * cosines[i] - b * sines[i];
                x[2 * i + 1] = a * sines[i] + b * cosines[i];
            }
            continue;
        }
        by_lanes(pairs, [=](Index i, Index count) {
            const Wide a = load_up_to(x + i, count), b = load_up_to(x + pairs + i, count);
            const Wide cosine = load_up_to(cosines + i, count), sine = load_up_to(sines + i, count);
            store_up_to(a * cosine - b * sine, x + i, count);
            store_up_to(a * sine + b * cosine, x + pairs + i, count);
        });
    }
}

// x * sigmoid(x)
inline Wide silu(Wide x) { return x / (Wide::all(1.0F) + exp(Wide::zero() - x)); }

// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 = x * sigmoid of twice that argument
inline Wide gelu_tanh(Wide x) {
    const Wide inner = x * fma(x * x, Wide::all(0.044715F), Wide::all(1.0F));
    return x / (Wide::all(1.0F) + exp(inner * Wide::all(-1.5957691216F)));
}

// x * (1 + erf(x / sqrt 2)) / 2. The error function is that of Abramowitz and Stegun (1964), 7.1.26: to 1.5e-7.
inline Wide gelu(Wide x) {
    const Wide one = Wide::all(1.0F), z = x * Wide::all(0.70710678F);
    const Wide size = where_less(z, Wide::zero(), Wide::zero() - z, z);
    const Wide t = one / fma(size, Wide::all(0.3275911F), one);
    Wide p = fma(Wide::all(1.061405429F), t, Wide::all(-1.453152027F));
    p = fma(p, t, Wide::all(1.421413741F));
    p = fma(p, t, Wide::all(-0.284496736F));
    p = fma(p, t, Wide::all(0.254829592F)) * t;
    const Wide tail = p * exp(Wide::zero() - size * size);  // 1 - erf |z|
    const Wide sum = where_less(z, Wide::zero(), tail, Wide::all(2.0F) - tail);
    return x * sum * Wide::all(0.5F);
}

template <typename F>
inline void gated_by(F activation, const float *gate, const float *up, Index size, float *out) {
    by_lanes(size, [=](Index i, Index count) {
        store_up_to(activation(load_up_to(gate + i, count)) * load_up_to(up + i, count), out + i, count);
    });
}

inline void gated(Activation activation, const float *gate, const float *up, Index size, float *out) {
    switch (activation) {
        case Activation::silu: return gated_by(silu, gate, up, size, out);
        case Activation::gelu: return gated_by(gelu, gate, up, size, out);
        case Activation::gelu_tanh: return gated_by(gelu_tanh, gate, up, size, out);
    }
}

inline void add_scaled(float *x, const float *y, float scale, Index size) {
    by_lanes(size, [=](Index i, Index count) {
        store_up_to(fma(load_up_to(y + i, count), Wide::all(scale), load_up_to(x + i, count)), x + i, count);
    });
}

inline void cap_all(float *x, float cap, Index size) {
    by_lanes(size, [=](Index i, Index count) {
        store_up_to(tanh(load_up_to(x + i, count) * Wide::all(1.0F / cap)) * Wide::all(cap), x + i, count);
    });
}

constexpr RowsKernels kRowsKernels{rms_norm, rotate, gated, add_scaled, cap_all};

}  // namespace
}  // namespace mlx_sidecar::cpu
