#include "products.hpp"

#include <array>
#include <cstddef>
#include <cstring>

#include "products_sets.hpp"

namespace mlx_sidecar {
namespace {

struct Set {
    const char *name;
    bool supported;
    void (*multiply)(const Product &);
};

// The best first.
const auto &sets() {
#ifdef __x86_64__
    __builtin_cpu_init();
    static const std::array<Set, 3> all = {{
        {"avx512", __builtin_cpu_supports("avx512f") != 0, multiply_avx512},
        {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), multiply_avx2},
        {"baseline", true, multiply_baseline},
    }};
#elif defined(__aarch64__)
    static const std::array<Set, 1> all = {{{"neon", true, multiply_baseline}}};
#else
    static const std::array<Set, 1> all = {{{"baseline", true, multiply_baseline}}};
#endif
    return all;
}

const Set *best() {
    for (const Set &set : sets()) {
        if (set.supported) return &set;
    }
    return nullptr;  // not reached: the last is supported everywhere
}

const Set *in_use = best();

void scale(const Product &p) {
    for (std::ptrdiff_t row = 0; row < p.m; ++row) {
        float *c = p.c + row * p.ldc;
        for (std::ptrdiff_t column = 0; column < p.n; ++column) c[column] = p.beta == 0.0F ? 0.0F : p.beta * c[column];
    }
}

}  // namespace

void multiply(const Product &product) {
    const bool nothing_to_add = product.alpha == 0.0F;
    // Without this the kernels would start from C itself (beta = 1) or not read it at all (beta = 0).
    if (nothing_to_add || (product.beta != 0.0F && product.beta != 1.0F)) scale(product);
    if (!nothing_to_add) in_use->multiply(product);
}

const char *kernels() { return in_use->name; }

bool use_kernels(const char *name) {
    for (const Set &set : sets()) {
        if (set.supported && std::strcmp(set.name, name) == 0) {
            in_use = &set;
            return true;
        }
    }
    return false;
}

}  // namespace mlx_sidecar
