// One product's walk over rows of weights: their scales as float32, and tiles of rows.
#pragma once

#include "linear_tiles.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Rows whose scales are converted at once, for few tokens.
constexpr Index kRowStep = 8;

// One product with rows of a matrix, and the thread's scratch.
struct Product {
    const Matrix &matrix;
    const float *x;
    Index tokens;
    float *out;
    Index out_stride;
    float *scratch;
};

// Scales and biases of rows as float32, in scratch.
struct Scales {
    float *scales, *biases;
    Index groups, first_row = 0;

    Scales(const Matrix &m, float *scratch, Index rows)
        : scales(scratch), biases(scratch + rows * groups_of(m)), groups(groups_of(m)) {}
    static Index floats(const Matrix &m, Index rows) { return (2 * rows * groups_of(m) + 15) / 16 * 16; }

    void load(const Matrix &m, Index row, Index rows) {
        first_row = row;
        if (groups == 0) return;
        to_float32(m.scale_format, m.scales, row * groups, rows * groups, scales);
        to_float32(m.scale_format, m.biases, row * groups, rows * groups, biases);
        // Between these rows and the next ones the hardware's own prefetching forgets where it was.
        const Index bytes = rows * groups * (m.scale_format == Format::f32 ? 4 : 2), first = row * bytes / rows;
        for (Index at = first + bytes; at < first + 2 * bytes; at += 64) {
            __builtin_prefetch(static_cast<const char *>(m.scales) + at, 0, kSecondCache);
            __builtin_prefetch(static_cast<const char *>(m.biases) + at, 0, kSecondCache);
        }
    }
    // The rows from `row` on.
    StoredRows at(const Matrix &m, Index row, Index rows, Index step_columns) const {
        const Index bytes = row_bytes(m), offset = (row - first_row) * groups;
        StoredRows made{static_cast<const char *>(m.weight) + row * bytes, rows > 1 ? bytes : 0};
        if (groups == 0) return made;
        made.scales = scales + offset;
        made.biases = biases + offset;
        made.scale_stride = rows > 1 ? groups : 0;
        plan_fetching(made, rows, bytes, step_columns * bytes / m.columns);
        while (step_columns << made.steps_log2 < m.group) ++made.steps_log2;
        return made;
    }
};

// Calls f(Count<wides>, first row, rows) for tiles that cover rows, the last of them perhaps with fewer rows.
template <int P, typename F>
inline void for_tiles(Index first, Index last, F f) {
    Index row = first;
    for (; row + P * kWideRows <= last; row += P * kWideRows) f(Count<P>{}, row, Index{P * kWideRows});
    for (; row < last; row += kWideRows) f(Count<1>{}, row, last - row < kWideRows ? last - row : Index{kWideRows});
}

// Calls f(Count<wides>, rows of a tile, its target) for all rows; a step of the format has `step_columns`.
template <int P, typename F>
inline void for_stored_rows(const Product &p, Index first, Index last, Index step_columns, F f) {
    Scales scales(p.matrix, p.scratch, kRowStep);
    for (Index row = first; row < last; row += kRowStep) {
        const Index end = row + kRowStep < last ? row + kRowStep : last;
        scales.load(p.matrix, row, end - row);
        for_tiles<P>(row, end, [&](auto wides, Index at, Index rows) {
            f(wides, scales.at(p.matrix, at, rows, step_columns), Target{p.out + at, p.out_stride, rows});
        });
    }
}

}  // namespace
}  // namespace mlx_sidecar::cpu
