// A CBLAS that forwards to the OpenBLAS of the scipy-openblas32 wheel, whose symbols carry the prefix `scipy_`.
//
// mlx's wheel for Linux imports exactly three cblas functions (nm -D libmlx.so) and ships a reference BLAS for them.
// This library, loaded RTLD_GLOBAL before mlx, comes earlier in the lookup order, so mlx calls these instead.
// It links to no BLAS itself: the caller says at run time which library to forward to.
//
// OpenBLAS packs both operands before it multiplies, which for one row or one column costs more than the product:
// such calls go to gemv (benchmarks/blas.py, decode).
#include "blas_shim.hpp"

#include <dlfcn.h>

#include <array>
#include <utility>

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

// Sends a row-major product with one row or one column to gemv; false when it is neither.
bool try_gemv(int m, int n, int k, float alpha, Operand a, Operand b, float beta, float *c, int ldc) {
    if (m == 1) {
        row_times_matrix(n, k, alpha, a.data, a.transposed ? a.ld : 1, b, beta, c, 1);
        return true;
    }
    if (n == 1) {
        // A column of the product is a row of its transpose: c^T = b^T op(A)^T.
        const Operand a_turned{a.data, a.ld, !a.transposed};
        row_times_matrix(m, k, alpha, b.data, b.transposed ? 1 : b.ld, a_turned, beta, c, ldc);
        return true;
    }
    return false;
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
    const bool one = m == 1 || n == 1;
    // An empty or unlawful product is OpenBLAS's to judge; and its gemv forgets `beta` when k is 0.
    const bool plain = m > 0 && n > 0 && k > 0 && (order == kRowMajor || order == kColMajor) && known(trans_a) &&
                       known(trans_b);
    if (one && plain) {
        Operand left{a, lda, trans_a != kNoTrans}, right{b, ldb, trans_b != kNoTrans};
        if (order == kColMajor) {
            // Column-major storage is the transpose in row-major: C^T = op(B)^T op(A)^T.
            std::swap(left, right);
            std::swap(m, n);
        }
        if (try_gemv(m, n, k, alpha, left, right, beta, c, ldc)) return;
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
