// The kernels of attention.hpp for the vectors of the file that includes this one.
#pragma once

#include "attention.hpp"

namespace mlx_sidecar::cpu {
namespace {

inline void store(float *block, Index place, Index key_heads, Index size, const float *keys, const float *values) {
    for (Index head = 0; head < key_heads; ++head, block += 2 * size * kBlockTokens, keys += size, values += size) {
        for (Index i = 0; i < size; ++i) block[i * kBlockTokens + place] = keys[i];
        float *own = block + size * kBlockTokens + place * size;
        for (Index i = 0; i < size; ++i) own[i] = values[i];
    }
}

inline Index shares(const Attention &a) { return a.key_heads; }
inline Index scratch_floats(const Attention &a) { return a.size + kBlockTokens; }

inline void attend(const Attention &a, Index first_share, Index last_share, float *scratch) {
    float *const sums = scratch, *const weights = scratch + a.size;
    const Index group = a.heads / a.key_heads;
    for (Index head = first_share * group; head < last_share * group; ++head) {
        for (Index t = 0; t < a.tokens; ++t) {
            const float *q = a.queries + t * a.query_stride + head * a.size;
            const Index last = a.position + t, first = a.window && last + 1 > a.window ? last + 1 - a.window : 0;
            Eight most = Eight::all(-__builtin_inff()), total = Eight::zero();
            for (Index i = 0; i < a.size; ++i) sums[i] = 0.0F;
            for (Index b = first / kBlockTokens; b <= last / kBlockTokens; ++b) {
                const float *keys = a.blocks[b] + head / group * 2 * a.size * kBlockTokens;
                const float *values = keys + a.size * kBlockTokens;
                const Index low = first > b * kBlockTokens ? first - b * kBlockTokens : 0;
                const Index high = last - b * kBlockTokens < kBlockTokens - 1 ? last - b * kBlockTokens : kBlockTokens - 1;
                float peak = -__builtin_inff();
                for (Index k = low; k <= high; ++k) {
                    float score = 0.0F;
                    for (Index i = 0; i < a.size; ++i) score += q[i] * a.scale * keys[i * kBlockTokens + k];
                    weights[k] = score;
                    if (score > peak) peak = score;
                }
                const Eight above = maximum(most, Eight::all(peak));
                const Eight shrink = exp(most - above);
                float shrinks[8], lanes[8];
                shrink.store(shrinks);
                total = total * shrink;
                most = above;
                for (Index i = 0; i < a.size; ++i) sums[i] *= shrinks[0];
                for (Index k = low; k <= high; ++k) {
                    const Eight weight = exp(Eight::all(weights[k]) - most);
                    weight.store(lanes);
                    total = total + weight;
                    for (Index i = 0; i < a.size; ++i) sums[i] += lanes[0] * values[k * a.size + i];
                }
            }
            float totals[8];
            total.store(totals);
            for (Index i = 0; i < a.size; ++i) a.out[t * a.out_stride + head * a.size + i] = sums[i] / totals[0];
        }
    }
}

constexpr AttentionKernels kAttentionKernels{store, shares, scratch_floats, attend};

}  // namespace
}  // namespace mlx_sidecar::cpu
