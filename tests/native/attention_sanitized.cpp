// Attention, rows and elementary functions of one instruction set (-DLANES) over small inputs in buffers of their exact
// size, for sanitizers to watch. Fails where an elementary function is less exact than it says. Prints a checksum of all
// results; sets with fused multiplication and addition print the same.
#include LANES

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <new>
#include <vector>

#include "attention_kernel.hpp"
#include "rows_kernel.hpp"

namespace mlx_sidecar::cpu {
namespace {

struct Free {
    void operator()(float *floats) const { ::operator delete[](floats, std::align_val_t{64}); }
};
using Floats = std::unique_ptr<float[], Free>;

// Aligned to 64 bytes, just as many as said, from -1 to 1.
Floats floats(Index count) {
    static std::uint64_t state = 1;
    Floats made(new (std::align_val_t{64}) float[static_cast<std::size_t>(count)]);
    for (Index i = 0; i < count; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        made[static_cast<std::size_t>(i)] = static_cast<float>(state >> 40) * 0x1p-23F - 1.0F;
    }
    return made;
}

std::uint64_t checksum = 14695981039346656037U;

void add(const float *x, Index count) {
    for (Index i = 0; i < count; ++i) {
        std::uint32_t bits = 0x7fc00000U;
        if (x[i] == x[i]) __builtin_memcpy(&bits, x + i, sizeof bits);
        checksum = (checksum ^ bits) * 1099511628211U;
    }
}

void attend_some(Format format, Index tokens, Index position, Index key_heads, Index group, Index size, Index window,
                 float cap) {
    const Index heads = key_heads * group, width = heads * size, count = (position + tokens + 63) / 64;
    std::vector<Floats> blocks;
    std::vector<const void *> places;
    for (Index b = 0; b < count; ++b) {
        blocks.push_back(floats(key_heads * 2 * size * kBlockTokens / (format == Format::f16 ? 2 : 1)));
        for (Index token = 0; token < kBlockTokens; ++token) {
            const auto keys = floats(key_heads * size), values = floats(key_heads * size);
            store(format, blocks.back().get(), token, key_heads, size, keys.get(), values.get());
        }
        places.push_back(blocks.back().get());
    }
    const auto queries = floats(tokens * width), out = floats(tokens * width);
    Attention a{queries.get(), tokens, width, heads, key_heads, size, format, places.data(), position, window, 2.0F, cap,
                out.get(), width};
    const auto scratch = floats(scratch_floats(a)), partials = floats(partial_floats(a));
    for (float *const given : {static_cast<float *>(nullptr), partials.get()}) {
        a.partials = given;
        for (Index share = shares(a); share > 0; --share) attend(a, share - 1, share, scratch.get());
        merge(a, scratch.get());
        add(out.get(), tokens * width);
    }
}

void rows_some(Index size) {
    const auto x = floats(size), weight = floats(size), out = floats(size), turned = floats(4 * size);
    rms_norm(x.get(), weight.get(), 1e-5F, size, out.get());
    add(out.get(), size);
    for (const Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh}) {
        gated(activation, x.get(), weight.get(), size, out.get());
        add(out.get(), size);
    }
    add_scaled(out.get(), x.get(), 0.3F, size);
    cap_all(out.get(), 0.5F, size);
    add(out.get(), size);
    for (const bool traditional : {false, true}) rotate(turned.get(), 2, 2 * size, size, x.get(), weight.get(), traditional);
    add(turned.get(), 4 * size);
}

// The largest error over lanes of f in floats from `low` to `high`, in units of the last place of the exact result, or
// else as it is.
template <typename F, typename G>
double worst(F f, G exact, double low, double high, bool in_units) {
    double most = 0.0;
    constexpr int kSteps = 200000;
    for (int i = 0; i < kSteps; ++i) {
        const auto x = static_cast<float>(low + (high - low) * i / kSteps);
        float got[Wide::kLanes];
        f(Wide::all(x)).store(got);
        add(got, 1);
        const double want = exact(static_cast<double>(x));
        const double unit = in_units ? std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23) : 1.0;
        most = std::max(most, std::abs(static_cast<double>(got[Wide::kLanes - 1]) - want) / unit);
    }
    return most;
}

bool functions_are_exact() {
    const auto e = [](double x) { return std::exp(x); };
    const double errors[] = {
        worst([](Wide x) { return exp(x); }, e, -103.0, 88.7, true) / 2.0,
        worst([](Wide x) { return exp_normal(x); }, e, -87.0, 88.0, true) / 2.0,
        worst([](Wide x) { return log(x); }, [](double x) { return std::log(x); }, 1.1, 1e6, true) / 2.0,
        worst([](Wide x) { return log(x); }, [](double x) { return std::log(x); }, 1e-6, 0.9, true) / 2.0,
        worst([](Wide x) { return tanh(x); }, [](double x) { return std::tanh(x); }, -20.0, 20.0, false) / 0x1p-22,
    };
    bool fine = true;
    for (const double error : errors) {
        std::fprintf(stderr, "%.3f of what is allowed\n", error);
        fine = fine && error <= 1.0;
    }
    const float ends[] = {-__builtin_inff(), -1e30F, -104.0F, -89.0F, 0.0F, 89.0F, __builtin_inff(), __builtin_nanf("")};
    for (const float x : ends) {
        float got[Wide::kLanes], normal[Wide::kLanes];
        exp(Wide::all(x)).store(got);
        exp_normal(Wide::all(x)).store(normal);
        fine = fine && (x != x ? got[0] != got[0] && normal[0] != normal[0] : got[0] == std::exp(x) || std::abs(x) < 105.0F);
        fine = fine && (!(x < -88.0F) || normal[0] == 0.0F) && (x != 0.0F || (got[0] == 1.0F && normal[0] == 1.0F));
    }
    return fine;
}

}  // namespace
}  // namespace mlx_sidecar::cpu

int main() {
    using namespace mlx_sidecar::cpu;
    for (const Index position : {0, 60, 510, 1100}) {
        for (const Index tokens : {1, 3, 20}) {
            for (const Index size : {8, 24, 64}) {
                for (const Index window : {0, 70}) {
                    attend_some(Format::f32, tokens, position, 2, 1, size, window, 0.0F);
                    attend_some(Format::f32, tokens, position, 1, 3, size, window, 5.0F);
                    attend_some(Format::f32, tokens, position, 1, 7, size, window, 0.0F);
                    attend_some(Format::f16, tokens, position, 2, 3, size, window, 5.0F);
                }
            }
        }
    }
    for (Index size = 1; size < 40; ++size) rows_some(size);
    if (!functions_are_exact()) return 1;
    std::printf("%016llx\n", static_cast<unsigned long long>(checksum));
}
