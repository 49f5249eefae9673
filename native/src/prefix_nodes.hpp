// The memory of the prefix index's nodes: numbered slots in chunks that never move, neighbours' tokens side by side.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace mlx_sidecar {

using NodeId = std::int32_t;
constexpr NodeId no_node = -1;

using Payload = std::int64_t;
constexpr Payload no_payload = -1;

// A run of tokens, not owned.
struct Tokens {
    const std::int32_t *data;
    std::size_t count;

    Tokens part(std::size_t from, std::size_t most) const { return {data + from, std::min(most, count - from)}; }
    Tokens first(std::size_t most) const { return {data, std::min(most, count)}; }
};

// Negative, 0 or positive, as a total order in which a run comes right behind its own prefixes. The order of two tokens
// is that of their bytes: any order serves, and this one is memcmp.
inline int compare(Tokens a, Tokens b) {
    const std::size_t shorter = std::min(a.count, b.count);
    const int order = shorter == 0 ? 0 : std::memcmp(a.data, b.data, shorter * sizeof *a.data);
    return order != 0 ? order : (a.count > b.count) - (a.count < b.count);
}

// How many tokens both begin with.
inline std::size_t in_common(Tokens a, Tokens b) {
    const std::int32_t *end = a.data + std::min(a.count, b.count);
    return static_cast<std::size_t>(std::mismatch(a.data, end, b.data).first - a.data);
}

enum Tier : std::uint8_t { ram, disk };
enum class Kind : std::uint8_t { unused, root, block };

// One cache line: a lookup reads as many of these as the prompt has blocks.
struct alignas(64) Node {
    Payload payload[2] = {no_payload, no_payload};  // by tier
    std::uint64_t used = 0;                         // the tick of the last use
    NodeId parent = no_node;                        // of an unused slot: the next unused one
    NodeId child = no_node;                         // the top of the children's tree
    NodeId left = no_node, right = no_node;         // in the tree of its siblings: prefix_siblings.hpp
    std::uint32_t depth = 0;                        // tokens before it
    std::uint32_t holds = 0;
    std::uint32_t ram_children = 0;  // children with a payload in ram
    NodeId place = no_node;          // in the order of eviction: prefix_eviction.hpp
    std::uint16_t count = 0;         // tokens in it
    Kind kind = Kind::unused;
};

class NodeSlab {
public:
    // Nodes of up to `block` tokens.
    explicit NodeSlab(std::size_t block);

    // An unused slot made into a node with these tokens. May throw std::bad_alloc; then nothing has changed.
    NodeId make(Kind kind, NodeId parent, std::size_t depth, Tokens tokens);
    void release(NodeId id);

    Node &operator[](NodeId id) { return nodes_[chunk(id)][slot(id)]; }
    const Node &operator[](NodeId id) const { return nodes_[chunk(id)][slot(id)]; }
    Tokens tokens(NodeId id) const { return {&tokens_[chunk(id)][slot(id) * block_], (*this)[id].count}; }

    // Whether this is the number of a node that is in use.
    bool in_use(std::int64_t number) const;

    std::size_t slots() const { return nodes_.size() << shift_; }
    std::size_t nbytes() const;

private:
    std::size_t chunk(NodeId id) const { return static_cast<std::size_t>(id) >> shift_; }
    std::size_t slot(NodeId id) const { return static_cast<std::size_t>(id) & ((std::size_t{1} << shift_) - 1); }
    NodeId unused_slot();
    void grow();

    // Room for nodes that are made when they are first used: a chunk's pages are paid for one at a time.
    struct Room {
        void operator()(Node *nodes) const { ::operator delete(nodes, std::align_val_t{alignof(Node)}); }
    };

    std::size_t block_;
    unsigned shift_;  // a chunk has 2^shift slots
    std::vector<std::unique_ptr<Node[], Room>> nodes_;
    std::vector<std::unique_ptr<std::int32_t[]>> tokens_;
    NodeId unused_ = no_node;  // the last one released, then by `parent`
    std::size_t touched_ = 0;  // slots from here on were never used
};

}  // namespace mlx_sidecar
