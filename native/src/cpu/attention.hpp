// Attention of tokens to the keys and values of their sequence, which lie in blocks of 64 tokens at absolute places. The
// result for a token depends on its own query, keys and values only, not on what else is computed or by how many threads.
#pragma once

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

constexpr Index kBlockTokens = 64;

// One layer's part of a block is, for each head of keys, [size, 64] keys (a column is a token) and then [64, size]
// values (a row is a token): `heads * 2 * size * 64` numbers, aligned to 64 bytes. They are f32, or f16 to which keys and
// values are rounded when they are stored; sums are float32 in any case.
struct Attention {
    const float *queries;  // [tokens, heads, size], tokens `query_stride` floats apart, positions rotated
    Index tokens, query_stride;
    Index heads, key_heads, size;  // heads is a multiple of key_heads; size is a multiple of 8
    Format format;                 // of the blocks: f32 or f16
    const void *const *blocks;     // blocks[b]: this layer's part of the block of tokens 64 b to 64 b + 63
    Index position;                // of the first token here; it sees keys 0 to `position`
    Index window;                  // a token sees this many newest keys, its own included; 0: all. Older blocks may be null
    float scale;                   // of scores
    float cap;                     // scores s become cap * tanh(s / cap); 0: they stay
    float *out;                    // [tokens, heads, size], tokens `out_stride` floats apart
    Index out_stride;
    float *partials = nullptr;     // null, or `partial_floats` of them: threads may then share the keys of a token
    const void *after = nullptr;   // null, or a part of a block that is read next, and fetched ahead
};

struct AttentionKernels {
    // Stores keys and values [key_heads, size] of one token at `place` (0 to 63) of a layer's part of a block.
    void (*store)(Format, void *block, Index place, Index key_heads, Index size, const float *keys, const float *values);
    // Floats of `partials` with which there are more shares; 0 if there are enough anyway, or cannot be more. They change
    // nothing in the results.
    Index (*partial_floats)(const Attention &);
    // Shares of work of an attention that threads may do in any order.
    Index (*shares)(const Attention &);
    // Floats of scratch that each thread needs. Scratch and partials are aligned to 64 bytes.
    Index (*scratch_floats)(const Attention &);
    void (*attend)(const Attention &, Index first_share, Index last_share, float *scratch);
    // Where there are partials, `out` is written here, after all shares.
    void (*merge)(const Attention &, float *scratch);
};

}  // namespace mlx_sidecar::cpu
