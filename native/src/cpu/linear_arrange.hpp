// The order in which the kernels read activations: blocks of tokens, in each [vector of a row][token][8], where the
// columns of a vector are those of the weights' format.
#pragma once

#include "linear_formats.hpp"

namespace mlx_sidecar::cpu {
namespace {

// Up to this many tokens are multiplied with weights as they are stored; for more, rows are expanded first.
constexpr Index kStoredTokens = kWideRegisters == 32 ? 8 : 3;
// Tokens of a tile of expanded rows.
constexpr Index kTileTokens = kWideRegisters == 32 ? 6 : 4;

// Cuts tokens into blocks of almost equal size.
struct TokenBlocks {
    Index tokens, count;

    static TokenBlocks of(Index tokens) {
        return {tokens, tokens <= kStoredTokens ? 1 : (tokens + kTileTokens - 1) / kTileTokens};
    }
    Index first(Index block) const { return block * tokens / count; }
    Index size(Index block) const { return first(block + 1) - first(block); }
};

// One row; vectors go `stride` floats apart.
inline void arrange_row(Format format, const float *x, Index columns, float *to, Index stride) {
    switch (format) {
        case Format::q4:
            for (Index c = 0; c < columns; c += 64, to += 8 * stride) transpose(x + c, to, stride);
            return;
        case Format::bf16:
            for (Index c = 0; c < columns; c += 16, to += 2 * stride) {
                for (Index i = 0; i < 8; ++i) {
                    to[i] = x[c + 2 * i];
                    to[stride + i] = x[c + 2 * i + 1];
                }
            }
            return;
        case Format::q8:
            for (Index c = 0; c < columns; c += 32, to += 4 * stride) {
                for (Index i = 0; i < 8; ++i) {
                    for (Index v = 0; v < 4; ++v) to[v * stride + i] = x[c + 4 * v + i % 4 + i / 4 * 16];
                }
            }
            return;
        default:
            for (Index c = 0; c < columns; c += 8, to += stride) Eight::load(x + c).store(to);
    }
}

inline void arrange_floats(Format format, const Activations &x, float *arranged) {
    const TokenBlocks blocks = TokenBlocks::of(x.tokens);
    for (Index block = 0; block < blocks.count; ++block) {
        const Index first = blocks.first(block), size = blocks.size(block);
        for (Index t = 0; t < size; ++t) {
            arrange_row(format, x.data + (first + t) * x.stride, x.columns, arranged + first * x.columns + 8 * t, 8 * size);
        }
    }
}

}  // namespace
}  // namespace mlx_sidecar::cpu
