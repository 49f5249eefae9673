// The order in which nodes give up their payloads in ram: a binary heap that knows the place of each node in it.
#pragma once

#include <vector>

#include "prefix_nodes.hpp"

namespace mlx_sidecar {

// The least recently used first; of equally old ones the deepest. Every change takes O(log n) steps.
class EvictionOrder {
public:
    explicit EvictionOrder(NodeSlab &nodes) : nodes_(nodes) {}

    // Room for this many nodes; afterwards `put` does not throw.
    void reserve(std::size_t count);

    // Puts a node where it belongs now, whether it was in before or not.
    void put(NodeId id);
    void remove(NodeId id);
    NodeId first() const { return heap_.empty() ? no_node : heap_.front(); }

    std::size_t nbytes() const { return heap_.capacity() * sizeof(NodeId); }

private:
    bool before(NodeId a, NodeId b) const;
    void place(std::size_t at, NodeId id);
    void sift(std::size_t at, NodeId id);

    NodeSlab &nodes_;
    std::vector<NodeId> heap_;
};

}  // namespace mlx_sidecar
