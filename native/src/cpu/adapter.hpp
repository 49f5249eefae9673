// A low-rank adapter: what rows that use it add to the outputs of some projections.
#pragma once

#include <unordered_map>
#include <vector>

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

// y += (x A^T) B^T: A [rank, columns] and B [rows, rank] of float32. The scale is in B.
struct LowRank {
    Matrix a, b;
};

class Adapter {
public:
    Adapter() = default;
    ~Adapter();
    Adapter(const Adapter &) = delete;
    Adapter &operator=(const Adapter &) = delete;

    // Copies the pair of the projection of this number. Throws std::invalid_argument where rank or columns cannot be
    // multiplied, or the projection has a pair.
    void add(int number, Index rank, Index columns, Index rows, const float *a, const float *b);
    // Null where the projection stays as it is.
    const LowRank *find(int number) const;
    Index nbytes() const { return floats_ * static_cast<Index>(sizeof(float)); }

private:
    std::vector<std::vector<float>> weights_;
    std::unordered_map<int, LowRank> pairs_;
    Index floats_ = 0;
};

}  // namespace mlx_sidecar::cpu
