// The kernels of sampling.hpp for the vectors of the file that includes this one.
#pragma once

#include "noise_kernel.hpp"
#include "sampling.hpp"
#include "words.hpp"

namespace mlx_sidecar::cpu {
namespace {
namespace sampling {

constexpr float kInfinite = __builtin_inff();

// As many numbers from x[at] on as there are lanes; minus infinity beyond the end.
inline Wide part(const float *x, Index at, Index size) {
    if (at + Wide::kLanes <= size) return Wide::load(x + at);
    float some[Wide::kLanes];
    for (Index lane = 0; lane < Wide::kLanes; ++lane) some[lane] = at + lane < size ? x[at + lane] : -kInfinite;
    return Wide::load(some);
}

// The largest of x[first] to x[last - 1], or NaN.
inline float largest_between(const float *x, Index first, Index last) {
    constexpr Index kChains = 4;
    Wide most[kChains];
    for (Wide &chain : most) chain = Wide::all(-kInfinite);
    Index at = first;
    for (; at + kChains * Wide::kLanes <= last; at += kChains * Wide::kLanes) {
        for (Index i = 0; i < kChains; ++i) most[i] = maximum(most[i], Wide::load(x + at + i * Wide::kLanes));
    }
    for (; at < last; at += Wide::kLanes) most[0] = maximum(most[0], part(x, at, last));
    float lanes[Wide::kLanes];
    maximum(maximum(most[0], most[1]), maximum(most[2], most[3])).store(lanes);
    float value = lanes[0];
    for (const float lane : lanes) value = lane > value || lane != lane ? lane : value;
    return value;
}

inline void largest(const float *x, Index size, Index &index, float &value) {
    constexpr Index kStretch = 1024;  // of the row, which is searched again for its largest
    Index start = 0;
    value = -kInfinite;
    for (Index at = 0; at < size; at += kStretch) {
        const float own = largest_between(x, at, at + kStretch < size ? at + kStretch : size);
        if (own <= value) continue;
        start = at;
        value = own;
        if (own != own) break;
    }
    for (index = start; x[index] != value && x[index] == x[index];) ++index;
}

// In 16 lanes, whatever the width of a vector.
inline float log_sum_exp(const float *x, Index size, float most) {
    constexpr Index kParts = 16 / Wide::kLanes;
    Wide sums[kParts];
    for (Wide &sum : sums) sum = Wide::zero();
    for (Index at = 0; at < size; at += 16) {
        for (Index i = 0; i < kParts; ++i) {
            sums[i] = sums[i] + exp(part(x, at + i * Wide::kLanes, size) - Wide::all(most));
        }
    }
    float lanes[16], logs[8];
    for (Index i = 0; i < kParts; ++i) sums[i].store(lanes + i * Wide::kLanes);
    log(Eight::all((Eight::load(lanes) + Eight::load(lanes + 8)).sum())).store(logs);
    return most + logs[0];
}

inline Index largest_of_sets(const float *x, Index size, float *out) {
    Index sets = 0;
    for (Index at = 0; at < size; at += kSetSize * Wide::kLanes, sets += Wide::kLanes) {
        Wide most = part(x, at, size);
        for (Index i = 1; i < kSetSize; ++i) most = maximum(most, part(x, at + i * Wide::kLanes, size));
        most.store(out + sets);
    }
    return sets;
}

inline Index all_at_least(const float *x, Index size, float least, std::int32_t *out) {
    Index count = 0;
    for (Index at = 0; at < size; at += Wide::kLanes) {
        std::uint32_t lanes = at_least(part(x, at, size), Wide::all(least));
        if (at + Wide::kLanes > size) lanes &= (1U << (size - at)) - 1;  // minus infinity may be asked for
        for (; lanes != 0; lanes &= lanes - 1) out[count++] = static_cast<std::int32_t>(at + __builtin_ctz(lanes));
    }
    return count;
}

inline std::int64_t weigh(const float *x, Index size, float peak, float *weights) {
    constexpr Index kStretch = Index{Wide::kLanes} << 16;  // so many numbers of 16 bits do not overflow a lane of 32
    std::int64_t total = 0;
    for (Index start = 0; start < size; start += kStretch) {
        const Index end = start + kStretch < size ? start + kStretch : size;
        Words low{}, high{};
        for (Index at = start; at < end; at += Wide::kLanes) {
            const Integers whole = truncated(exp(part(x, at, size) - Wide::all(peak)) * Wide::all(0x1p30F));
            rounded(whole).store(weights + at);
            low += same_bits<Words>(whole) & 0xffffU;
            high += same_bits<Words>(whole) >> 16;
        }
        for (int lane = 0; lane < Wide::kLanes; ++lane) {
            total += (static_cast<std::int64_t>(high[lane]) << 16) + static_cast<std::int64_t>(low[lane]);
        }
    }
    return total;
}

// The token that leads a draw so far. Most tokens cannot overtake it with any noise, and cost a comparison; most others
// cannot with theirs, and cost no logarithm.
struct Leader {
    const Draw &draw;
    Index token = 0;
    float score = -kInfinite;
    float limit = -kInfinite;  // tokens of smaller logits are beaten or dropped

    void challenge(Wide logits, const Words &bits, Index first) {
        const Wide shifted = logits - Wide::all(draw.peak), u = uniform(bits);
        // A little nearer to 0 than the quotient below, so that rounding does not matter.
        const Wide nearly = shifted * Wide::all((1.0F - 0x1p-20F) / draw.temperature);
        if (at_least(nearly + gumbel_bound(u), Wide::all(score)) == 0) return;
        float scores[Wide::kLanes];
        const Wide own = shifted / Wide::all(draw.temperature) + gumbel(u);
        where_less(shifted, Wide::all(draw.floor), Wide::all(-kInfinite), own).store(scores);
        for (Index lane = 0; lane < Wide::kLanes; ++lane) {
            const bool ties = scores[lane] == score && first + lane < token;
            if (scores[lane] > score || ties) lead(first + lane, scores[lane]);
        }
    }

    void lead(Index by, float with) {
        token = by;
        score = with;
        const double peak = draw.peak, behind = (static_cast<double>(kMostNoise) - score) * draw.temperature;
        const double beaten = peak - behind * (1 + 0x1p-20), dropped = peak + draw.floor;
        const double most = beaten > dropped ? beaten : dropped;
        // The last term is for the rounding of `most` and of the difference of a logit and the peak.
        limit = static_cast<float>(most - (__builtin_fabs(most) + __builtin_fabs(peak)) * 0x1p-22);
    }
};

inline Index draw(const float *x, Index size, const Draw &settings, Index likeliest) {
    constexpr int kVectors = 2;
    constexpr Index kStep = kVectors * Wide::kLanes;
    const Index half = size / 2, second = size - half;
    Leader leader{settings};
    const auto pairs = [&](Index at) {
        Wide early[kVectors], late[kVectors];
        for (int n = 0; n < kVectors; ++n) {
            early[n] = part(x, at + n * Wide::kLanes, half);
            late[n] = part(x + second, at + n * Wide::kLanes, half);
        }
        const Wide most = maximum(maximum(early[0], late[0]), maximum(early[1], late[1]));
        if (at_least(most, Wide::all(leader.limit)) == 0) return;
        Words bits[kVectors], others[kVectors];
        for (int n = 0; n < kVectors; ++n) {
            bits[n] = words_from(static_cast<std::uint32_t>(at + n * Wide::kLanes));
            others[n] = bits[n] + static_cast<std::uint32_t>(second);
        }
        threefry(settings.key, bits, others);
        for (int n = 0; n < kVectors; ++n) {
            leader.challenge(early[n], bits[n], at + n * Wide::kLanes);
            leader.challenge(late[n], others[n], second + at + n * Wide::kLanes);
        }
    };
    if (second > half) {
        Words bits[1]{words_from(static_cast<std::uint32_t>(half))}, others[1]{};
        threefry(settings.key, bits, others);
        leader.challenge(part(x, half, second), bits[0], half);
    }
    // The likeliest token is a hard one to beat, and then every token is in its turn, this one again.
    if (half > 0) pairs(likeliest % second / kStep * kStep);
    for (Index at = 0; at < half; at += kStep) pairs(at);
    return leader.token;
}

constexpr SamplingKernels kSamplingKernels{largest, log_sum_exp, largest_of_sets, all_at_least, weigh, draw};

}  // namespace sampling
}  // namespace
}  // namespace mlx_sidecar::cpu
