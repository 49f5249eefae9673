// The same kernels compiled for several instruction sets. Each computes C = alpha * op(A) @ op(B), added to what C holds
// unless beta is 0: scaling C is not theirs.
#pragma once

#include "products.hpp"

namespace mlx_sidecar {

void multiply_avx512(const Product &product);
void multiply_avx2(const Product &product);
void multiply_baseline(const Product &product);

}  // namespace mlx_sidecar
