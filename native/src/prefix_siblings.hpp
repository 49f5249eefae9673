// The children of one node, ordered by their tokens: a treap whose links lie in the nodes, so that it allocates nothing.
#pragma once

#include <vector>

#include "prefix_nodes.hpp"

namespace mlx_sidecar {

// A run of tokens shares most with one of the two that stand beside it in the order.
struct Neighbours {
    NodeId below = no_node;  // the last that is not behind the key
    NodeId above = no_node;  // the first behind it; not looked for where `below` is equal
    bool equal = false;      // `below` is the key itself
};

// `top` is the member `child` of the parent. Every call takes O(log n) comparisons of n children, except `list`.
class Siblings {
public:
    explicit Siblings(NodeSlab &nodes) : nodes_(nodes) {}

    void add(NodeId &top, NodeId added);
    void remove(NodeId &top, NodeId removed);

    Neighbours around(NodeId top, Tokens key) const;

    // The longest whose tokens are the key's first ones, or all of it. `beside` is what `around` says of the same key.
    NodeId longest_prefix(NodeId top, Tokens key, Neighbours beside) const;

    std::vector<NodeId> list(NodeId top) const;

private:
    NodeSlab &nodes_;
};

}  // namespace mlx_sidecar
