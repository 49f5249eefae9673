// The kernels of linear.hpp for the vectors of the file that includes this one.
#pragma once

#include "linear_arrange.hpp"
#include "linear_tiles.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Rows whose scales are converted at once.
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

// Rows of tiles of expanded weights.
constexpr int kTileWides = kWideRegisters == 32 ? 4 : 3;
constexpr Index kTileRows = kTileWides * kWideRows;
// Expanded rows should stay in the second-level cache.
constexpr Index kExpandedBytes = 192 * 1024;

inline Index expanded_rows(const Matrix &m, Index tokens) {
    const Index most = tokens < 32 ? kTileRows : 32 / kTileRows * kTileRows;
    const Index fitting = kExpandedBytes / (4 * m.columns) / kTileRows * kTileRows;
    return fitting < kTileRows ? kTileRows : fitting < most ? fitting : most;
}

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
    }
    // kWideRows rows from `row` on, or one, if `rows` is 1.
    StoredRows at(const Matrix &m, Index row, Index rows, Index step_columns) const {
        const Index bytes = row_bytes(m), offset = (row - first_row) * groups;
        StoredRows made{static_cast<const char *>(m.weight) + row * bytes, rows > 1 ? bytes : 0};
        if (groups == 0) return made;
        made.scales = scales + offset;
        made.biases = biases + offset;
        made.scale_stride = rows > 1 ? groups : 0;
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

template <typename Weights, int P>
inline void tile_rows(const Product &p, const Scales &scales, Index row, Index rows, StoredRows (&tile)[P]) {
    for (int i = 0; i < P; ++i) {
        const Index left = rows - i * kWideRows;
        tile[i] = scales.at(p.matrix, row + i * kWideRows, left < kWideRows ? left : kWideRows, 8 * Weights::kVectors);
    }
}

template <typename Weights, int N>
inline void multiply_few(const Product &p, Index first, Index last) {
    constexpr int P = kWideRegisters == 32 ? (N <= 4 ? 4 : 2) : (N <= 2 ? 4 : 3);
    const Index steps = p.matrix.columns / (8 * Weights::kVectors);
    Scales scales(p.matrix, p.scratch, kRowStep);
    for (Index row = first; row < last; row += kRowStep) {
        const Index end = row + kRowStep < last ? row + kRowStep : last;
        scales.load(p.matrix, row, end - row);
        for_tiles<P>(row, end, [&](auto wides, Index at, Index rows) {
            StoredRows tile[wides.value];
            tile_rows<Weights>(p, scales, at, rows, tile);
            multiply_stored<Weights, wides.value, N>(tile, steps, p.x, {p.out + at, p.out_stride, rows});
        });
    }
}

template <typename Weights>
inline void multiply_many(const Product &p, Index first, Index last) {
    const Index columns = p.matrix.columns, chunk = expanded_rows(p.matrix, p.tokens);
    const TokenBlocks blocks = TokenBlocks::of(p.tokens);
    float *const expanded = p.scratch + Scales::floats(p.matrix, chunk);
    Scales scales(p.matrix, p.scratch, chunk);
    for (Index row = first; row < last; row += chunk) {
        const Index end = row + chunk < last ? row + chunk : last;
        scales.load(p.matrix, row, end - row);
        for_tiles<kTileWides>(row, end, [&](auto wides, Index at, Index rows) {
            StoredRows tile[wides.value];
            tile_rows<Weights>(p, scales, at, rows, tile);
            expand<Weights, wides.value>(tile, columns / (8 * Weights::kVectors), expanded + (at - row) * columns);
        });
        for (Index block = 0; block < blocks.count; ++block) {
            const Index token = blocks.first(block);
            with_count<kTileTokens>(blocks.size(block), [&](auto tokens) {
                for_tiles<kTileWides>(row, end, [&](auto wides, Index at, Index rows) {
                    multiply_expanded<wides.value, tokens.value>(
                        expanded + (at - row) * columns, columns / 8, p.x + token * columns,
                        {p.out + token * p.out_stride + at, p.out_stride, rows});
                });
            });
        }
    }
}

template <typename Weights>
inline void multiply_as(const Product &p, Index first, Index last) {
    if (p.tokens > kStoredTokens) return multiply_many<Weights>(p, first, last);
    with_count<kStoredTokens>(p.tokens, [&](auto tokens) { multiply_few<Weights, tokens.value>(p, first, last); });
}

inline Index arranged_floats(const Matrix &m, Arithmetic, Index tokens) { return tokens * m.columns; }

inline void arrange(const Matrix &m, Arithmetic, const Activations &x, float *arranged) {
    arrange_floats(m.format, x, arranged);
}

inline Index scratch_floats(const Matrix &m, Arithmetic, Index tokens) {
    if (tokens <= kStoredTokens) return Scales::floats(m, kRowStep);
    const Index rows = expanded_rows(m, tokens);
    // A last, single row is expanded as if there were kWideRows.
    return Scales::floats(m, rows) + (rows + kWideRows - 1) * m.columns;
}

inline void multiply(const Matrix &m, Arithmetic, const float *arranged, Index tokens, Index first, Index last,
                     float *out, Index out_stride, float *scratch) {
    const Product p{m, arranged, tokens, out, out_stride, scratch};
    switch (m.format) {
        case Format::f32: return multiply_as<F32>(p, first, last);
        case Format::f16: return multiply_as<F16>(p, first, last);
        case Format::bf16: return multiply_as<BF16>(p, first, last);
        case Format::q4: return m.group == 32 ? multiply_as<Q4Halves>(p, first, last) : multiply_as<Q4>(p, first, last);
        case Format::q8: return multiply_as<Q8>(p, first, last);
    }
}

// A token's embedding, for example: in the order of the columns, unlike `expand`.
inline void expand_row(const Matrix &m, Index row, float *out) {
    const char *from = static_cast<const char *>(m.weight) + row * row_bytes(m);
    if (!is_quantised(m)) return to_float32(m.format, from, 0, m.columns, out);
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(from);
    for (Index group = 0; group < groups_of(m); ++group) {
        float scale, bias, numbers[8];
        to_float32(m.scale_format, m.scales, row * groups_of(m) + group, 1, &scale);
        to_float32(m.scale_format, m.biases, row * groups_of(m) + group, 1, &bias);
        for (Index c = group * m.group; c < (group + 1) * m.group; c += 8) {
            for (Index i = 0; i < 8; ++i) {
                numbers[i] = m.format == Format::q8 ? bytes[c + i] : bytes[(c + i) / 2] >> (i % 2 * 4) & 15;
            }
            fma(Eight::load(numbers), Eight::all(scale), Eight::all(bias)).store(out + c);
        }
    }
}

constexpr LinearKernels kLinearKernels{arranged_floats, arrange, scratch_floats, multiply, expand_row, kRowStep};

}  // namespace
}  // namespace mlx_sidecar::cpu
