// Keys and values of all rows, in counted blocks of 64 tokens that rows and the prefix cache share.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "adapter.hpp"
#include "attention.hpp"
#include "pages.hpp"
#include "spec.hpp"

namespace mlx_sidecar::cpu {

// Layers that see equally far have their keys and values in the same blocks, one layer after the other.
struct Kind {
    Index window = 0, key_heads = 0, size = 0;
    std::vector<Index> layers;  // their numbers

    Index members() const { return 2 * static_cast<Index>(layers.size()); }  // keys and values of each layer
    Index layer_floats() const { return 2 * key_heads * size * kBlockTokens; }
    Index block_floats() const { return static_cast<Index>(layers.size()) * layer_floats(); }
};

// Bytes of all blocks and buffers of this process.
Index allocated_bytes();
void count_allocated(Index bytes);

class Block {
public:
    // `slab` is not full, or null: the heap then. Throws std::bad_alloc.
    Block(Index floats, std::shared_ptr<Slab> slab);
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;
    ~Block();

private:
    const std::shared_ptr<Slab> slab_;

public:
    float *const data;
    const Index floats;
    bool shared = false;  // others read it: it is copied before anything is written
};

using BlockRef = std::shared_ptr<Block>;

// Makes blocks of one size.
class BlockMaker {
public:
    explicit BlockMaker(Index floats) : floats_(floats) {}
    BlockRef make();  // throws std::bad_alloc

private:
    Index floats_;
    std::shared_ptr<Slab> slab_;
};

// Consecutive blocks of one kind, by which something else than a row holds on to tokens. It outlives its cache, and any
// thread may read it, because nobody writes to tokens before `stop` any more.
struct Blocks {
    std::shared_ptr<const Kind> kind;
    int number;  // of the kind
    Index first_block;
    Index start, stop;  // tokens
    std::vector<BlockRef> blocks;

    // Copies members first to last of tokens from to to: [last - first, heads, to - from, size].
    void read(Index first, Index last, Index from, Index to, float *entries) const;
};

// The tokens of one kind in a row: blocks[b] is null for those that the window has left behind.
struct Chain {
    Index first = 0;  // the first token whose keys and values are there
    std::vector<BlockRef> blocks;
};

struct Row {
    Index length = 0;
    Index floor = 0;  // `length` before the last part, to which it can be truncated where a layer has a window
    std::vector<Chain> chains;  // by kind
    std::shared_ptr<const Adapter> adapter;  // null: none
};

// For one thread at a time; it never touches tokens that a step is computing. Rows are numbered by the caller; a number
// that is not known, or known where a new one is made, is a std::invalid_argument.
class Cache {
public:
    explicit Cache(const Spec &spec);

    const std::vector<std::shared_ptr<const Kind>> &kinds() const { return kinds_; }
    // The place of a layer's part in its kind's blocks.
    Index layer_offset(Index layer) const { return offsets_[static_cast<std::size_t>(layer)]; }

    void open(Index row);
    // Lets the tokens to come of a row be computed with `adapter`.
    void adapt(Index row, std::shared_ptr<const Adapter> adapter);
    void close(Index row);
    void clear() { rows_.clear(); }
    const Row &row(Index number) const;

    // Makes room for `tokens` more, and lets go of what windows have left behind. Returns the row as it was before.
    Row &extend(Index number, Index tokens);
    // Drops the newest tokens. False, and nothing changes, if these are not of the last part.
    bool truncate(Index number, Index length);

    // The blocks of tokens start to stop, as far as they are there; from then on shared. `start` begins a block, and all
    // these tokens have been computed.
    Blocks capture(Index number, int kind, Index start, Index stop) const;
    // Lets a row begin with tokens that are held; those of a kind come in order, and without gaps. False, and nothing
    // changes, if they are of a cache with other kinds.
    bool adopt(Index number, const Blocks &blocks, Index start, Index stop);
    // The same for tokens from elsewhere: entries [2 * layers, heads, stop - start, size], keys and values by turns.
    void put(Index number, int kind, Index start, Index stop, const float *entries);
    // Sets the length of a row to that of the tokens it was given.
    void begin_at(Index number, Index length);

private:
    Row &at(Index number);
    Chain &chain(Index number, int kind);
    Block &writable(Chain &chain, int kind, Index block);

    std::vector<std::shared_ptr<const Kind>> kinds_;
    std::vector<BlockMaker> makers_;  // by kind
    std::vector<Index> offsets_;
    std::unordered_map<Index, Row> rows_;
};

}  // namespace mlx_sidecar::cpu
