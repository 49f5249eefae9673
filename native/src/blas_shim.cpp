// A CBLAS that forwards to the OpenBLAS of the scipy-openblas32 wheel, whose symbols carry the prefix `scipy_`.
//
// mlx's wheel for Linux imports exactly three cblas functions (nm -D libmlx.so) and ships a reference BLAS for them.
// This library, loaded RTLD_GLOBAL before mlx, comes earlier in the lookup order, so mlx calls these instead.
// It links to no BLAS itself: the caller says at run time which library to forward to.
//
// OpenBLAS packs both operands before it multiplies, which for a few rows costs more than the product: such calls go
// to gemv, row by row (benchmarks/gemv.py).
#include "blas_shim.hpp"

#include <dlfcn.h>

#include <array>
#include <cstddef>

#define EXPORT __attribute__((visibility("default")))

namespace {

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

// A few rows, as in decoding for a few streams, are worth one gemv each; beyond four the packing pays for itself.
constexpr int kMostRows = 4;
// Up to about this many multiplications OpenBLAS has kernels of its own that do not pack.
constexpr long long kSmallProduct = 1'000'000;

bool known(int trans) { return trans == kNoTrans || trans == kTrans || trans == kConjTrans; }

// One operand of a row-major product. For real numbers ConjTrans is Trans.
struct Operand {
    const float *data;
    int ld;
    bool transposed;
};

// y[n] = alpha * x[k] * op(B)[k, n] + beta * y[n], all row-major: one row of a product.
void row_times_matrix(int n, int k, float alpha, const float *x, int incx, Operand b, float beta, float *y, int incy) {
    if (b.transposed) {
        sgemv(kRowMajor, kNoTrans, n, k, alpha, b.data, b.ld, x, incx, beta, y, incy);
    } else {
        sgemv(kRowMajor, kTrans, k, n, alpha, b.data, b.ld, x, incx, beta, y, incy);
    }
}

// Sends a row-major product of few rows, or of one column, to gemv; false when it is neither.
bool try_gemv(int m, int n, int k, float alpha, Operand a, Operand b, float beta, float *c, int ldc) {
    if (n == 1) {
        // A column of the product is a row of its transpose: c^T = b^T op(A)^T.
        const Operand a_turned{a.data, a.ld, !a.transposed};
        row_times_matrix(m, k, alpha, b.data, b.transposed ? 1 : b.ld, a_turned, beta, c, ldc);
        return true;
    }
    const bool few = m == 1 || (m <= kMostRows && 1LL * m * n * k > kSmallProduct);
    if (!few) return false;
    for (std::ptrdiff_t row = 0; row < m; ++row) {
        const float *x = a.data + (a.transposed ? row : row * a.ld);
        row_times_matrix(n, k, alpha, x, a.transposed ? a.ld : 1, b, beta, c + row * ldc, 1);
    }
    return true;
}

}  // namespace

extern "C" {

EXPORT const char *mlx_sidecar_blas_bind(void *openblas) {
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
    return nullptr;
}

EXPORT void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc) {
    // An empty or unlawful product is OpenBLAS's to judge; and its gemv forgets `beta` when k is 0.
    const bool plain = m > 0 && n > 0 && k > 0 && (order == kRowMajor || order == kColMajor) && known(trans_a) &&
                       known(trans_b);
    const Operand left{a, lda, trans_a != kNoTrans}, right{b, ldb, trans_b != kNoTrans};
    // Column-major storage is the transpose in row-major: C^T = op(B)^T op(A)^T.
    const bool turned = order == kColMajor;
    if (plain && try_gemv(turned ? n : m, turned ? m : n, k, alpha, turned ? right : left, turned ? left : right, beta,
                          c, ldc)) {
        return;
    }
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
