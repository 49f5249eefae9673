// A CBLAS that forwards to the OpenBLAS of the scipy-openblas32 wheel, whose symbols carry the prefix `scipy_`.
//
// mlx's wheel for Linux imports exactly three cblas functions (nm -D libmlx.so) and ships a reference BLAS for them.
// This library, loaded RTLD_GLOBAL before mlx, comes earlier in the lookup order, so mlx calls these instead.
// It links to no BLAS itself: the caller says at run time which library to forward to.
//
// Under `--numerics exact` all float32 products are ours (products.hpp); else only those at which OpenBLAS is slow.
#include "blas_shim.hpp"

#include <dlfcn.h>

#include <array>
#include <cstddef>

#include "products.hpp"

#define EXPORT __attribute__((visibility("default")))

namespace {

using mlx_sidecar::Operand;
using mlx_sidecar::Product;

// The values of the CBLAS interface; the enums travel as int.
constexpr int kRowMajor = 101, kColMajor = 102;
constexpr int kNoTrans = 111, kTrans = 112, kConjTrans = 113;

template <typename T>
using Gemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, T alpha, const T *a, int lda,
                      const T *b, int ldb, T beta, T *c, int ldc);
using ComplexGemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, const void *alpha,
                             const void *a, int lda, const void *b, int ldb, const void *beta, void *c, int ldc);
using Gemv = void (*)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                      int incx, float beta, float *y, int incy);

Gemm<float> sgemm = nullptr;
Gemm<double> dgemm = nullptr;
ComplexGemm cgemm = nullptr;
Gemv sgemv = nullptr;

// Whether every float32 product is ours.
bool invariant = false;

// OpenBLAS packs both operands before it multiplies, which for few rows costs more than the product. From this bound on
// it is as fast as ours, and uses more threads where it may (benchmarks/products.py).
constexpr int kMostRows = 256;
// Up to about this many multiplications OpenBLAS has kernels of its own that do not pack.
constexpr long long kSmallProduct = 1'000'000;

// For queries of one token times many keys OpenBLAS packs the keys, which come from memory and are read only once.
constexpr int kFewQueries = 4;
constexpr long long kManyKeys = 1 << 15;

bool known(int trans) { return trans == kNoTrans || trans == kTrans || trans == kConjTrans; }

// y[n] = alpha * x[k] * op(B)[k, n] + beta * y[n], all row-major: one row of a product.
void row_times_matrix(int n, int k, float alpha, const float *x, int incx, Operand b, float beta, float *y, int incy) {
    if (b.transposed) {
        sgemv(kRowMajor, kNoTrans, n, k, alpha, b.data, b.ld, x, incx, beta, y, incy);
    } else {
        sgemv(kRowMajor, kTrans, k, n, alpha, b.data, b.ld, x, incx, beta, y, incy);
    }
}

// Computes a product that is slow in OpenBLAS's sgemm; returns false where it is not.
bool try_multiply(const Product &p) {
    if (invariant) {
        mlx_sidecar::multiply(p);
    } else if (p.m == 1) {
        // Weights that the cache holds are multiplied by gemv up to twice as fast as by ours.
        row_times_matrix(p.n, p.k, p.alpha, p.a.data, p.a.transposed ? p.a.ld : 1, p.b, p.beta, p.c, 1);
    } else if (p.n == 1) {
        // A column of the product is a row of its transpose: c^T = b^T op(A)^T.
        const Operand a_turned{p.a.data, p.a.ld, !p.a.transposed};
        row_times_matrix(p.m, p.k, p.alpha, p.b.data, p.b.transposed ? 1 : p.b.ld, a_turned, p.beta, p.c, p.ldc);
    } else if (p.m <= kMostRows && 1LL * p.m * p.n * p.k > kSmallProduct) {
        mlx_sidecar::multiply(p);
    } else if (p.m <= kFewQueries && p.b.transposed && 1LL * p.n * p.k >= kManyKeys) {
        for (int row = 0; row < p.m; ++row) {
            const float *x = p.a.data + (p.a.transposed ? row : static_cast<std::ptrdiff_t>(row) * p.a.ld);
            row_times_matrix(p.n, p.k, p.alpha, x, p.a.transposed ? p.a.ld : 1, p.b, p.beta,
                             p.c + static_cast<std::ptrdiff_t>(row) * p.ldc, 1);
        }
    } else {
        return false;
    }
    return true;
}

}  // namespace

extern "C" {

EXPORT const char *mlx_sidecar_blas_bind(void *openblas, int every_product_invariant) {
    constexpr std::array<const char *, 4> names = {"scipy_cblas_sgemm", "scipy_cblas_dgemm", "scipy_cblas_cgemm",
                                                   "scipy_cblas_sgemv"};
    std::array<void *, names.size()> found{};
    for (std::size_t i = 0; i < names.size(); ++i) {
        found[i] = dlsym(openblas, names[i]);
        if (found[i] == nullptr) return names[i];
    }
    sgemm = reinterpret_cast<Gemm<float>>(found[0]);
    dgemm = reinterpret_cast<Gemm<double>>(found[1]);
    cgemm = reinterpret_cast<ComplexGemm>(found[2]);
    sgemv = reinterpret_cast<Gemv>(found[3]);
    invariant = every_product_invariant != 0;
    return nullptr;
}

EXPORT const char *mlx_sidecar_blas_kernels() { return mlx_sidecar::kernels(); }

EXPORT int mlx_sidecar_blas_use_kernels(const char *name) { return mlx_sidecar::use_kernels(name) ? 1 : 0; }

EXPORT void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc) {
    // OpenBLAS judges empty and invalid products, because its gemv ignores `beta` when k is 0.
    const bool plain = m > 0 && n > 0 && k > 0 && (order == kRowMajor || order == kColMajor) && known(trans_a) &&
                       known(trans_b);
    const Operand left{a, lda, trans_a != kNoTrans}, right{b, ldb, trans_b != kNoTrans};
    // Column-major storage is the transpose in row-major: C^T = op(B)^T op(A)^T.
    const Product product = order == kColMajor ? Product{n, m, k, alpha, right, left, beta, c, ldc}
                                               : Product{m, n, k, alpha, left, right, beta, c, ldc};
    if (plain && try_multiply(product)) return;
    sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

EXPORT void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a,
                        int lda, const double *b, int ldb, double beta, double *c, int ldc) {
    dgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

EXPORT void cblas_cgemm(int order, int trans_a, int trans_b, int m, int n, int k, const void *alpha, const void *a,
                        int lda, const void *b, int ldb, const void *beta, void *c, int ldc) {
    cgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
}
