#include "kernels.hpp"

#include <cstdlib>

namespace mlx_sidecar::cpu {
namespace {

std::vector<const Kernels *> supported() {
    std::vector<const Kernels *> sets;
#ifdef __x86_64__
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
        static const Kernels vnni = avx512_vnni_kernels();
        if (__builtin_cpu_supports("avx512vnni")) sets.push_back(&vnni);
        sets.push_back(&kAvx512Kernels);
    }
    if (avx2) sets.push_back(&kAvx2Kernels);
#endif
    sets.push_back(&kBaselineKernels);
    return sets;
}

const Kernels *find(const std::string &name) {
    for (const Kernels *set : supported()) {
        if (name == set->name) return set;
    }
    return nullptr;
}

const Kernels *chosen() {
    const char *name = std::getenv("MLX_SIDECAR_CPU_KERNELS");
    const Kernels *named = name == nullptr ? nullptr : find(name);
    return named == nullptr ? supported().front() : named;
}

const Kernels *&in_use() {
    static const Kernels *set = chosen();
    return set;
}

}  // namespace

const Kernels &kernels() { return *in_use(); }

#ifdef __x86_64__
bool has_narrow_units() {
    static const bool narrow = (__builtin_cpu_init(), __builtin_cpu_is("amd") != 0);
    return narrow;
}
#endif

bool use_kernels(const std::string &name) {
    const Kernels *set = find(name);
    if (set != nullptr) in_use() = set;
    return set != nullptr;
}

std::vector<std::string> kernel_sets() {
    std::vector<std::string> names;
    for (const Kernels *set : supported()) names.emplace_back(set->name);
    return names;
}

}  // namespace mlx_sidecar::cpu
