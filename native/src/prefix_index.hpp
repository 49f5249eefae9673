// The prefix index: which prompts are known, block by block, and where their KV lies (payloads of the caller, by tier).
//
// A node is a block of tokens, the exact ones: nothing is hashed, so nothing collides. A node that ends a prompt may be
// partial; it has no children. Not for several threads at once: prefix_module.cpp has the lock.
#pragma once

#include <cstdint>
#include <vector>

#include "prefix_eviction.hpp"
#include "prefix_nodes.hpp"
#include "prefix_siblings.hpp"

namespace mlx_sidecar {

// One node of a match.
struct Step {
    NodeId node;
    std::uint32_t end;  // tokens up to its end
    Payload payload[2];
};

struct Match {
    std::vector<Step> steps;  // the nodes whose tokens all match, from the first block on
    NodeId tail = no_node;    // below them, the one that matches furthest but not entirely
    Payload tail_payload[2] = {no_payload, no_payload};
    std::size_t common = 0;  // tokens of steps and the common ones of tail
};

struct Inserted {
    std::size_t count = 0;          // nodes that took the payload
    NodeId last = no_node;          // where the path ends
    std::vector<Payload> freed[2];  // payloads that superseded leaves gave up, by tier
};

// The numbers of nodes are checked: a wrong one throws std::invalid_argument, and nothing has changed.
class PrefixIndex {
public:
    // Throws std::invalid_argument unless 1 <= block <= 65535.
    explicit PrefixIndex(std::int64_t block);
    PrefixIndex(const PrefixIndex &) = delete;
    PrefixIndex &operator=(const PrefixIndex &) = delete;

    NodeId root();
    Match find(std::int64_t root, Tokens tokens, bool touch);

    // Gives the blocks of tokens[start:stop] the payload. Throws std::invalid_argument for bounds that make no sense
    // and where the blocks of tokens[:start] are not all known.
    Inserted insert(std::int64_t root, Tokens tokens, std::int64_t start, std::int64_t stop, Payload payload, Tier tier,
                    bool exact);

    void hold(const std::vector<std::int64_t> &numbers);
    void let_go(const std::vector<std::int64_t> &numbers);

    Payload evict();
    void forget(std::int64_t number, Tier tier);
    std::vector<Payload> clear(std::int64_t root, Tier tier);
    void drop(std::int64_t root);

    std::vector<std::int32_t> tokens(std::int64_t number) const;
    std::vector<std::int32_t> path(std::int64_t number) const;
    NodeId parent(std::int64_t number) const;
    std::vector<NodeId> children(std::int64_t number) const;
    std::size_t depth(std::int64_t number) const;

    std::size_t count() const { return count_; }
    std::size_t blocks(Tier tier) const { return blocks_[tier]; }
    std::size_t nbytes() const;

private:
    NodeId known(std::int64_t number) const;
    NodeId known(std::int64_t number, Kind kind) const;

    NodeId end_of(NodeId root, Tokens tokens) const;
    void step(NodeId to, bool touch, Match &match);
    void find_tail(Tokens rest, Neighbours beside, std::size_t matched, bool touch, Match &match);
    NodeId make(NodeId parent, Tokens tokens, bool exact, Inserted &inserted);
    void supersede(NodeId parent, Tokens tokens, Inserted &inserted);
    std::vector<NodeId> below(NodeId root) const;

    bool give(NodeId id, Tier tier, Payload payload);
    bool trade(NodeId id, Tier tier, Payload payload, Inserted &inserted);
    Payload take(NodeId id, Tier tier);
    void settle(NodeId id);
    void mark(NodeId id);
    bool empty(NodeId id) const;
    NodeId remove(NodeId id);
    void prune(NodeId id);

    std::size_t block_;
    NodeSlab nodes_;
    Siblings siblings_{nodes_};
    EvictionOrder order_{nodes_};
    std::uint64_t clock_ = 0;  // a tick for every find that touches and every insert into ram
    std::size_t count_ = 0;
    std::size_t blocks_[2] = {0, 0};
};

}  // namespace mlx_sidecar
