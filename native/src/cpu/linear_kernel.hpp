// The kernels of linear.hpp for the vectors of the file that includes this one.
#pragma once

#include "linear_arrange.hpp"
#include "linear_fast.hpp"
#include "linear_int8.hpp"
#include "linear_rows.hpp"

namespace mlx_sidecar::cpu {
namespace {

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

// Rows whose scales are converted at once, whole chunks of expanded rows: of few rows it takes as long as expanding them.
inline Index scaled_rows(Index chunk) { return chunk < 24 ? 24 / chunk * chunk : chunk; }

template <typename Weights, int N>
inline void multiply_few(const Product &p, Index first, Index last) {
    // As many rows as fill the registers; of weights that memory delivers too slowly for it to matter, four at once.
    constexpr bool kWaits = N == 1 && Weights::kVectors <= 2;
    constexpr int P = kWideRegisters == 32 ? (N <= 4 && !kWaits ? 4 : 2) : (N <= 2 ? 4 : 3);
    constexpr Index kColumns = 8 * Weights::kVectors;
    for_stored_rows<P>(p, first, last, kColumns, [&](auto wides, const StoredRows &rows, Target out) {
        multiply_stored<Weights, wides.value, N>(rows, p.matrix.columns / kColumns, p.x, out);
    });
}

template <typename Weights>
inline void multiply_many(const Product &p, Index first, Index last) {
    const Index columns = p.matrix.columns, chunk = expanded_rows(p.matrix, p.tokens);
    const TokenBlocks blocks = TokenBlocks::of(p.tokens);
    const Index scaled = scaled_rows(chunk);
    float *const expanded = p.scratch + Scales::floats(p.matrix, scaled);
    Scales scales(p.matrix, p.scratch, scaled);
    for (Index row = first, scaled_end = first; row < last; row += chunk) {
        if (row == scaled_end) {
            scaled_end = row + scaled < last ? row + scaled : last;
            scales.load(p.matrix, row, scaled_end - row);
        }
        const Index end = row + chunk < last ? row + chunk : last;
        for_tiles<kTileWides>(row, end, [&](auto wides, Index at, Index rows) {
            const StoredRows tile = scales.at(p.matrix, at, rows, 8 * Weights::kVectors);
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

// The arithmetic that a product is done in: rounding and scales of sums are for few tokens of quantised weights only.
inline Arithmetic arithmetic_of(const Matrix &m, Arithmetic asked, Index tokens) {
    const Index most = asked == Arithmetic::int8 ? kInt8Tokens : kFastTokens;
    return is_quantised(m) && tokens <= most ? asked : Arithmetic::exact;
}

inline Index arranged_floats(const Matrix &m, Arithmetic arithmetic, Index tokens) {
    const bool fast = arithmetic_of(m, arithmetic, tokens) == Arithmetic::fast;
    return tokens * (fast ? m.columns + (groups_of(m) + 7) / 8 * 8 : m.columns);
}

inline void arrange(const Matrix &m, Arithmetic arithmetic, const Activations &x, float *arranged) {
    switch (arithmetic_of(m, arithmetic, x.tokens)) {
        case Arithmetic::exact: return arrange_floats(m.format, x, arranged);
        case Arithmetic::fast: return arrange_fast(m, x, arranged);
        case Arithmetic::int8: return arrange_int8(m, x, arranged);
    }
}

inline Index scratch_floats(const Matrix &m, Arithmetic, Index tokens) {
    if (tokens <= kStoredTokens) return Scales::floats(m, kRowStep);
    // `int8` reads rows as they are stored for more tokens than `exact` does.
    const Index rows = expanded_rows(m, tokens);
    return Scales::floats(m, scaled_rows(rows)) + rows * m.columns;
}

inline void multiply_exact(const Product &p, Index first, Index last) {
    const bool small = p.matrix.group == 32;
    switch (p.matrix.format) {
        case Format::f32: return multiply_as<F32>(p, first, last);
        case Format::f16: return multiply_as<F16>(p, first, last);
        case Format::bf16: return multiply_as<BF16>(p, first, last);
        case Format::q4: return small ? multiply_as<Q4Halves>(p, first, last) : multiply_as<Q4>(p, first, last);
        case Format::q8: return small ? multiply_as<Q8<1>>(p, first, last) : multiply_as<Q8<2>>(p, first, last);
    }
}

inline void multiply(const Matrix &m, Arithmetic arithmetic, const float *arranged, Index tokens, Index first,
                     Index last, float *out, Index out_stride, float *scratch) {
    const Product p{m, arranged, tokens, out, out_stride, scratch};
    switch (arithmetic_of(m, arithmetic, tokens)) {
        case Arithmetic::exact: return multiply_exact(p, first, last);
        case Arithmetic::fast: return multiply_fast(p, first, last);
        case Arithmetic::int8: return multiply_int8(p, first, last);
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
