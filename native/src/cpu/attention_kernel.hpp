// The kernels of attention.hpp for the vectors of the file that includes this one.
//
// A tile is some tokens with all heads that share keys: its rows meet a block of keys and values together. Blocks form
// segments of 512 keys at absolute places. A row's softmax runs over the blocks of a segment, then segments are merged in
// order, whether or not one thread did them all. What a row does with a block depends on its own first and last key only.
#pragma once

#include "attention.hpp"
#include "attention_softmax.hpp"

namespace mlx_sidecar::cpu {
namespace {

constexpr Index kSegmentBlocks = 8;
constexpr Index kMostRows = 48;      // of a tile: what its rows need stays in the cache beside a block
constexpr Index kEnoughShares = 16;  // threads are few: with so many shares keys need not be divided

inline Index least(Index a, Index b) { return a < b ? a : b; }
inline Index most_of(Index a, Index b) { return a > b ? a : b; }

// The keys of a block that a token sees: first to last - 1; none if last <= first.
struct Span {
    Index first, last;
};

inline Index first_key(const Attention &a, Index token) {
    return a.window == 0 ? 0 : most_of(0, a.position + token + 1 - a.window);
}

inline Span seen(const Attention &a, Index token, Index block) {
    const Index start = block * kBlockTokens;
    return {most_of(0, first_key(a, token) - start), least(kBlockTokens, a.position + token + 1 - start)};
}

inline Index segment_of(Index key) { return key / (kSegmentBlocks * kBlockTokens); }

// How an attention is cut.
struct Plan {
    Index group, tile_tokens, tiles, first_segment, segments;
    bool divisible;  // by segments

    explicit Plan(const Attention &a)
        : group(a.heads / a.key_heads),
          tile_tokens(most_of(1, kMostRows / group)),
          tiles((a.tokens + tile_tokens - 1) / tile_tokens),
          first_segment(segment_of(first_key(a, 0))),
          segments(segment_of(a.position + a.tokens - 1) - first_segment + 1),
          divisible(segments > 1 && a.key_heads * tiles < kEnoughShares) {}

    Index rows() const { return tile_tokens * group; }
};

// Some tokens of an attention with the heads of one head of keys; rows are [tokens, group].
struct Tile {
    const Attention &a;
    Index head, group, token, tokens;

    Index rows() const { return tokens * group; }
};

// Shares are [key_heads, tiles, segments]; early tiles, which see fewer keys, alternate with late ones, so that equally
// many shares are about as much work.
inline Tile tile_of(const Attention &a, const Plan &plan, Index share) {
    const Index place = share % plan.tiles, tile = place % 2 == 0 ? place / 2 : plan.tiles - 1 - place / 2;
    const Index token = tile * plan.tile_tokens;
    return {a, share / plan.tiles, plan.group, token, least(plan.tile_tokens, a.tokens - token)};
}

// queries * scale, [rows, size]
inline void take_queries(const Tile &t, float *queries) {
    const Index floats = t.group * t.a.size;
    for (Index token = t.token; token < t.token + t.tokens; ++token, queries += floats) {
        const float *from = t.a.queries + token * t.a.query_stride + t.head * floats;
        over_row(floats, [&](Index at, auto zero) {
            using V = decltype(zero);
            (V::load(from + at) * V::all(t.a.scale)).store(queries + at);
        });
    }
}

inline void cap_scores(float *scores, Index columns, float cap) {
    for (Index at = 0; at < columns; at += Wide::kLanes) {
        (tanh(Wide::load(scores + at) * Wide::all(1.0F / cap)) * Wide::all(cap)).store(scores + at);
    }
}

// A block of keys or values and what is read next, if that is worth asking for.
template <typename Number>
struct Source {
    const Number *data, *next;
};

// Rows [tokens, group] meet a block of which every token sees some keys.
struct Meeting {
    const Tile &tile;
    Index block, token, tokens;  // tokens of the tile
    const float *queries;
    float *scores;  // [rows, kBlockTokens]; rows of these tokens, as in queries and state
    State state;

    Span span(Index i) const { return seen(tile.a, tile.token + token + i, block); }
    Index rows() const { return tokens * tile.group; }

    template <typename Number>
    void score(Source<Number> keys) const {
        const Index size = tile.a.size, columns = (span(tokens - 1).last + 15) / 16 * 16;
        multiply<Number>({queries, size, keys.data, kBlockTokens, size, scores, kBlockTokens, true, keys.next}, rows(),
                         columns);
        for (Index i = 0, row = 0; i < tokens; ++i) {
            const Span own = span(i);
            for (Index j = 0; j < tile.group; ++j, ++row) {
                float *const line = scores + row * kBlockTokens;
                if (tile.a.cap != 0.0F) cap_scores(line, columns, tile.a.cap);
                for (Index k = 0; k < own.first; ++k) line[k] = kNoScore;
                for (Index k = own.last; k < columns; ++k) line[k] = kNoScore;
                weigh(line, columns, state, row, size);
            }
        }
    }

    // Adds the values of keys first to last - 1 to the sums of tokens from `i`.
    template <typename Number>
    void add(Source<Number> values, Index i, Index count, Span keys) const {
        const Index size = tile.a.size, row = i * tile.group;
        if (keys.first >= keys.last) return;
        multiply<Number>({scores + row * kBlockTokens + keys.first, kBlockTokens, values.data + keys.first * size, size,
                          keys.last - keys.first, state.sums + row * size, size, false, values.next},
                         count * tile.group, size);
    }

    // A key that a row does not see is left out, because its value may be NaN. The few tokens of a register tile do the
    // keys they share together, and those before and after by themselves.
    template <typename Number>
    void add_values(Source<Number> values) const {
        const Span early = span(0), late = span(tokens - 1);
        if (early.last == kBlockTokens && late.first == 0) return add(values, 0, tokens, late);
        const Index step = most_of(1, kTileQueries / tile.group);
        for (Index i = 0; i < tokens; i += step) {
            const Index end = least(tokens, i + step);
            const Span common{span(end - 1).first, span(i).last};
            if (common.first >= common.last) {
                for (Index j = i; j < end; ++j) add(values, j, 1, span(j));
                continue;
            }
            for (Index j = i; j < end; ++j) add(values, j, 1, {span(j).first, common.first});
            add(values, i, end - i, common);
            for (Index j = i; j < end; ++j) add(values, j, 1, {common.last, span(j).last});
        }
    }
};

// Of a tile's tokens, those that see keys from `first` to `last`.
inline Span tokens_seeing(const Tile &t, Index first, Index last) {
    Span tokens{0, t.tokens};
    while (tokens.first < t.tokens && t.a.position + t.token + tokens.first < first) ++tokens.first;
    while (tokens.last > tokens.first && first_key(t.a, t.token + tokens.last - 1) > last) --tokens.last;
    return tokens;
}

// The keys of a head in a block; its values lie behind them.
template <typename Number>
inline const Number *head_keys(const Attention &a, Index block, Index head) {
    return static_cast<const Number *>(a.blocks[block]) + head * 2 * kBlockTokens * a.size;
}

// The keys that are read after those of a block: of the tile's next block, or of the next head, or after this attention.
template <typename Number>
inline const Number *next_keys(const Tile &t, Index block, Index last_block) {
    if (block < last_block) return head_keys<Number>(t.a, block + 1, t.head);
    if (t.tokens < t.a.tokens) return nullptr;
    if (t.head + 1 == t.a.key_heads) return static_cast<const Number *>(t.a.after);
    return head_keys<Number>(t.a, first_key(t.a, t.token) / kBlockTokens, t.head + 1);
}

// The state of a tile after one segment.
template <typename Number>
inline void do_segment(const Tile &t, Index segment, const float *queries, float *scores, const State &state) {
    const Index size = t.a.size, last_key = t.a.position + t.token + t.tokens - 1, part = kBlockTokens * size;
    const Index first = most_of(first_key(t.a, t.token) / kBlockTokens, segment * kSegmentBlocks);
    const Index last = least(last_key / kBlockTokens, (segment + 1) * kSegmentBlocks - 1);
    clear(state, t.rows(), size);
    for (Index block = first; block <= last; ++block) {
        const Span tokens = tokens_seeing(t, block * kBlockTokens, (block + 1) * kBlockTokens - 1);
        if (tokens.first >= tokens.last) continue;
        const Number *const keys = head_keys<Number>(t.a, block, t.head);
        const Number *const next = next_keys<Number>(t, block, last_key / kBlockTokens);
        const Index row = tokens.first * t.group;
        const Meeting meeting{t, block, tokens.first, tokens.last - tokens.first, queries + row * size,
                              scores + row * kBlockTokens,
                              {state.most + row, state.totals + row * kTotals, state.sums + row * size}};
        meeting.score<Number>({keys, next});
        meeting.add_values<Number>({keys + part, next == nullptr ? nullptr : next + part});
    }
}

inline void merge_segment(const Tile &t, Index segment, const State &into, const State &next) {
    const Index keys = kSegmentBlocks * kBlockTokens;
    const Span tokens = tokens_seeing(t, segment * keys, (segment + 1) * keys - 1);
    for (Index row = tokens.first * t.group; row < tokens.last * t.group; ++row) merge_row(into, next, row, t.a.size);
}

inline void finish(const Tile &t, const State &state) {
    for (Index row = 0; row < t.rows(); ++row) {
        float *const token = t.a.out + (t.token + row / t.group) * t.a.out_stride;
        finish_row(state, row, t.a.size, token + (t.head * t.group + row % t.group) * t.a.size);
    }
}

inline void write(Eight eight, float *to) { eight.store(to); }
inline void write(Eight eight, Half *to) { eight.store_f16(to); }

template <typename Number>
inline void store_as(Number *block, Index place, Index key_heads, Index size, const float *keys, const float *values) {
    for (Index head = 0; head < key_heads; ++head, block += 2 * size * kBlockTokens, keys += size, values += size) {
        Number *const own = block + size * kBlockTokens + place * size;
        for (Index i = 0; i < size; i += Eight::kLanes) {
            Number eight[Eight::kLanes];
            write(Eight::load(keys + i), eight);
            for (int lane = 0; lane < Eight::kLanes; ++lane) block[(i + lane) * kBlockTokens + place] = eight[lane];
            write(Eight::load(values + i), own + i);
        }
    }
}

inline void store(Format format, void *block, Index place, Index key_heads, Index size, const float *keys,
                  const float *values) {
    if (format == Format::f16) return store_as(static_cast<Half *>(block), place, key_heads, size, keys, values);
    store_as(static_cast<float *>(block), place, key_heads, size, keys, values);
}

inline Index partial_floats(const Attention &a) {
    const Plan plan(a);
    if (!plan.divisible) return 0;
    return a.key_heads * plan.tiles * plan.segments * state_floats(plan.rows(), a.size);
}

inline bool divided(const Attention &a, const Plan &plan) { return a.partials != nullptr && plan.divisible; }

inline Index shares(const Attention &a) {
    const Plan plan(a);
    return a.key_heads * plan.tiles * (divided(a, plan) ? plan.segments : 1);
}

inline Index scratch_floats(const Attention &a) {
    const Plan plan(a);
    return plan.rows() * (a.size + kBlockTokens) + 2 * state_floats(plan.rows(), a.size);
}

inline State partial(const Attention &a, const Plan &plan, Index share) {
    return state_at(a.partials + share * state_floats(plan.rows(), a.size), plan.rows(), a.size);
}

template <typename Number>
inline void attend_to(const Attention &a, Index first_share, Index last_share, float *scratch) {
    const Plan plan(a);
    float *const scores = scratch, *const queries = scores + plan.rows() * kBlockTokens;
    float *const states = queries + plan.rows() * a.size;
    const State own = state_at(states, plan.rows(), a.size);
    const State whole = state_at(states + state_floats(plan.rows(), a.size), plan.rows(), a.size);
    for (Index share = first_share; share < last_share; ++share) {
        if (divided(a, plan)) {
            const Tile tile = tile_of(a, plan, share / plan.segments);
            take_queries(tile, queries);
            const Index segment = plan.first_segment + share % plan.segments;
            do_segment<Number>(tile, segment, queries, scores, partial(a, plan, share));
            continue;
        }
        const Tile tile = tile_of(a, plan, share);
        take_queries(tile, queries);
        clear(whole, tile.rows(), a.size);
        const Index last_segment = segment_of(a.position + tile.token + tile.tokens - 1);
        for (Index segment = segment_of(first_key(a, tile.token)); segment <= last_segment; ++segment) {
            do_segment<Number>(tile, segment, queries, scores, own);
            merge_segment(tile, segment, whole, own);
        }
        finish(tile, whole);
    }
}

inline void attend(const Attention &a, Index first_share, Index last_share, float *scratch) {
    if (a.format == Format::f16) return attend_to<Half>(a, first_share, last_share, scratch);
    attend_to<float>(a, first_share, last_share, scratch);
}

inline void merge(const Attention &a, float *scratch) {
    const Plan plan(a);
    if (!divided(a, plan)) return;
    const State whole = state_at(scratch, plan.rows(), a.size);
    for (Index share = 0; share < a.key_heads * plan.tiles; ++share) {
        const Tile tile = tile_of(a, plan, share);
        clear(whole, tile.rows(), a.size);
        for (Index i = 0; i < plan.segments; ++i) {
            merge_segment(tile, plan.first_segment + i, whole, partial(a, plan, share * plan.segments + i));
        }
        finish(tile, whole);
    }
}

constexpr AttentionKernels kAttentionKernels{store, partial_floats, shares, scratch_floats, attend, merge};

}  // namespace
}  // namespace mlx_sidecar::cpu
