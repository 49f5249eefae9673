// Keys and values of all rows, in counted blocks of 64 tokens that rows and the prefix cache share.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "attention.hpp"
#include "spec.hpp"

namespace mlx_sidecar::cpu {

// Layers that see equally far have their keys and values in the same blocks, one layer after the other.
struct Kind {
    Index window = 0, key_heads = 0, size = 0;
    std::vector<Index> layers;  // their numbers

    Index layer_floats() const { return 2 * key_heads * size * kBlockTokens; }
    Index block_floats() const { return static_cast<Index>(layers.size()) * layer_floats(); }
};

class Block {
public:
    explicit Block(Index floats);  // throws std::bad_alloc
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;
    ~Block();

    float *const data;
    const Index floats;
    bool shared = false;  // others read it: it is copied before anything is written
};

using BlockRef = std::shared_ptr<Block>;

// Consecutive blocks of one kind, by which something else than a row holds on to tokens.
struct Blocks {
    int kind;
    Index first_block;
    Index start, stop;  // tokens
    std::vector<BlockRef> blocks;
};

// The tokens of one kind in a row: blocks[b] is null for those that the window has left behind.
struct Chain {
    Index first = 0;  // the first token whose keys and values are there
    std::vector<BlockRef> blocks;
};

struct Row {
    Index length = 0;
    Index floor = 0;  // `length` before the last part, to which it can be truncated
    std::vector<Chain> chains;  // by kind
};

// Only one thread calls it. Rows are numbered by the caller; a number that is not known, or known where a new one is
// made, is a std::invalid_argument.
class Cache {
public:
    explicit Cache(const Spec &spec);

    const std::vector<Kind> &kinds() const { return kinds_; }
    // The place of a layer's part in its kind's blocks.
    Index layer_offset(Index layer) const { return offsets_[static_cast<std::size_t>(layer)]; }

    void open(Index row);
    void close(Index row);
    void clear() { rows_.clear(); }
    const Row &row(Index number) const;

    // Makes room for `tokens` more, and lets go of what windows have left behind. Returns the row as it was before.
    Row &extend(Index number, Index tokens);
    // Drops the newest tokens. False, and nothing changes, if these are not of the last part.
    bool truncate(Index number, Index length);

    // The blocks of tokens start to stop, as far as they are there; from then on shared. `start` begins a block.
    Blocks capture(Index number, int kind, Index start, Index stop) const;
    // Lets a row begin with tokens that are held; those of a kind come in order, and without gaps.
    void adopt(Index number, const Blocks &blocks, Index start, Index stop);
    // The same for tokens from elsewhere: entries [2 * layers, heads, stop - start, size], keys and values by turns.
    void put(Index number, int kind, Index start, Index stop, const float *entries);
    // Sets the length of a row to that of the tokens it was given.
    void begin_at(Index number, Index length);

    // entries [last - first, heads, stop - start, size] of `blocks`: members first to last, keys and values by turns.
    void get(const Blocks &blocks, Index first, Index last, Index start, Index stop, float *entries) const;

private:
    Row &at(Index number);
    Chain &chain(Index number, int kind);
    Block &writable(Chain &chain, const Kind &kind, Index block) const;

    std::vector<Kind> kinds_;
    std::vector<Index> offsets_;
    std::unordered_map<Index, Row> rows_;
};

}  // namespace mlx_sidecar::cpu
