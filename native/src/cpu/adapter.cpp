#include "adapter.hpp"

#include <stdexcept>
#include <utility>

#include "cache.hpp"

namespace mlx_sidecar::cpu {
namespace {

Matrix matrix_of(const std::vector<float> &weights, Index rows, Index columns) {
    Matrix made;
    made.rows = rows;
    made.columns = columns;
    made.weight = weights.data();
    return made;
}

}  // namespace

Adapter::~Adapter() { count_allocated(-nbytes()); }

void Adapter::add(int number, Index rank, Index columns, Index rows, const float *a, const float *b) {
    const Index step = column_step(Format::f32);
    if (rank <= 0 || columns <= 0 || rows <= 0 || rank % step != 0 || columns % step != 0) {
        throw std::invalid_argument("a pair of matrices of so many columns cannot be multiplied");
    }
    if (pairs_.count(number) != 0) throw std::invalid_argument("the projection has a pair already");
    const Index before = nbytes();
    weights_.emplace_back(a, a + rank * columns);
    weights_.emplace_back(b, b + rows * rank);
    floats_ += rank * (columns + rows);
    count_allocated(nbytes() - before);
    const std::size_t last = weights_.size() - 1;
    // What the inner vectors own stays where it is while the outer one grows.
    pairs_[number] = LowRank{matrix_of(weights_[last - 1], rank, columns), matrix_of(weights_[last], rows, rank)};
}

const LowRank *Adapter::find(int number) const {
    const auto found = pairs_.find(number);
    return found == pairs_.end() ? nullptr : &found->second;
}

}  // namespace mlx_sidecar::cpu
