// Keys and values of all rows, in counted blocks of 64 tokens that rows and the prefix cache share.
#pragma once

#include <cstddef>
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
    Format format = Format::f32;  // or f16
    Index window = 0, key_heads = 0, size = 0;
    std::vector<Index> layers;  // their numbers

    Index members() const { return 2 * static_cast<Index>(layers.size()); }  // keys and values of each layer
    Index part_bytes() const { return size * kBlockTokens * (format == Format::f16 ? 2 : 4); }  // of a member and a head
    Index layer_bytes() const { return 2 * key_heads * part_bytes(); }
    Index block_bytes() const { return static_cast<Index>(layers.size()) * layer_bytes(); }
};

// Bytes of all blocks and buffers of this process.
Index allocated_bytes();
void count_allocated(Index bytes);

class Block {
public:
    // `slab` is not full, or null: the heap then. Throws std::bad_alloc.
    Block(Index bytes, std::shared_ptr<Slab> slab);
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;
    ~Block();

private:
    const std::shared_ptr<Slab> slab_;

public:
    std::byte *const data;
    const Index bytes;
    bool shared = false;  // others read it: it is copied before anything is written
};

using BlockRef = std::shared_ptr<Block>;

// Makes blocks of one size.
class BlockMaker {
public:
    explicit BlockMaker(Index bytes) : bytes_(bytes) {}
    BlockRef make();  // throws std::bad_alloc

private:
    Index bytes_;
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

    // Copies members first to last of tokens from to to: [last - first, heads, to - from, size], in the kind's format.
    void read(Index first, Index last, Index from, Index to, void *entries) const;
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
    // `format`: f32, or f16 to which keys and values are rounded.
    Cache(const Spec &spec, Format format);

    Format format() const { return format_; }
    const std::vector<std::shared_ptr<const Kind>> &kinds() const { return kinds_; }
    // The place of a layer's part in its kind's blocks, in bytes.
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
    // The same for tokens from elsewhere: entries [2 * layers, heads, stop - start, size], keys and values by turns, in the
    // kind's format.
    void put(Index number, int kind, Index start, Index stop, const void *entries);
    // Sets the length of a row to that of the tokens it was given.
    void begin_at(Index number, Index length);

private:
    Row &at(Index number);
    Chain &chain(Index number, int kind);
    Block &writable(Chain &chain, int kind, Index block);

    const Format format_;
    std::vector<std::shared_ptr<const Kind>> kinds_;
    std::vector<BlockMaker> makers_;  // by kind
    std::vector<Index> offsets_;
    std::unordered_map<Index, Row> rows_;
};

}  // namespace mlx_sidecar::cpu
