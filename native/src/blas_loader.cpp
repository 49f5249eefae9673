#include "blas_loader.hpp"

#include <dlfcn.h>

#include <stdexcept>

#include "blas_shim.hpp"

namespace mlx_sidecar {
namespace {

// Written once under the GIL. The handles stay open, because the symbols must outlive everything that bound to them.
std::optional<BlasLibrary> loaded;
int (*get_num_threads)() = nullptr;

void *open_library(const std::string &path, int flags) {
    void *handle = dlopen(path.c_str(), flags);
    if (handle == nullptr) throw std::runtime_error(dlerror());
    return handle;
}

template <typename F>
F find(void *library, const std::string &path, const char *name) {
    void *symbol = dlsym(library, name);
    if (symbol == nullptr) throw std::runtime_error(path + " has no symbol " + name);
    return reinterpret_cast<F>(symbol);
}

}  // namespace

BlasLibrary load_blas(const std::string &shim, const std::string &openblas, bool invariant) {
    if (loaded) return *loaded;
    void *library = open_library(openblas, RTLD_NOW | RTLD_LOCAL);
    const auto config = find<char *(*)()>(library, openblas, "scipy_openblas_get_config");
    const auto threads = find<int (*)()>(library, openblas, "scipy_openblas_get_num_threads");

    // First private, then public, so that an unbound shim is never visible.
    void *shim_library = open_library(shim, RTLD_NOW | RTLD_LOCAL);
    const auto bind = find<mlx_sidecar_blas_bind_fn>(shim_library, shim, "mlx_sidecar_blas_bind");
    const auto kernels = find<mlx_sidecar_blas_kernels_fn>(shim_library, shim, "mlx_sidecar_blas_kernels");
    if (const char *missing = bind(library, invariant ? 1 : 0)) {
        throw std::runtime_error(openblas + " has no symbol " + missing);
    }
    open_library(shim, RTLD_NOW | RTLD_GLOBAL);
    get_num_threads = threads;
    loaded = BlasLibrary{openblas, config(), invariant ? std::optional<std::string>(kernels()) : std::nullopt};
    return *loaded;
}

const std::optional<BlasLibrary> &loaded_blas() { return loaded; }

int blas_threads() { return get_num_threads == nullptr ? 0 : get_num_threads(); }

}  // namespace mlx_sidecar
