// Products of float32 matrices in which the bits of an element do not depend on the rest of the product.
#pragma once

namespace mlx_sidecar {

// One operand; for real numbers a conjugate transpose is a transpose.
struct Operand {
    const float *data;
    int ld;
    bool transposed;
};

// C = alpha * op(A) @ op(B) + beta * C, all row-major: op(A) is [m, k], op(B) is [k, n]; m, n, k > 0.
struct Product {
    int m, n, k;
    float alpha;
    Operand a, b;
    float beta;
    float *c;
    int ldc;
};

// An element starts from beta * c (from 0 where beta is 0, and then c is not read) and adds (alpha * a[k]) * b[k] for
// k = 0, 1, 2 ..., each step one fused multiply-add. Its bits depend on nothing else: not on m and n, its position,
// transposition, leading dimensions, alignment or the width of the machine's vectors. A k where a or b is 0 and the
// other finite changes nothing, wherever it stands, but perhaps the sign of a sum that is 0. Only the baseline, for x86
// without FMA, rounds the multiplication as well. alpha = 0 means that A and B are not read.
// Threads may multiply at the same time; each keeps 0.5 MB of scratch.
void multiply(const Product &product);

// The kernels in use: "avx512", "avx2", "neon" or "baseline".
const char *kernels();

// Uses the kernels of that name from now on; false, and nothing changes, where this machine has none. For tests.
bool use_kernels(const char *name);

}  // namespace mlx_sidecar
