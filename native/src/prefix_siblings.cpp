#include "prefix_siblings.hpp"

namespace mlx_sidecar {
namespace {

// The heap order of the treap. Numbers are handed out in turn, so they are mixed; the mixing is one to one: no ties.
std::uint32_t rank(NodeId id) {
    auto bits = static_cast<std::uint32_t>(id);
    bits = (bits ^ (bits >> 16)) * 0x85ebca6bU;
    bits = (bits ^ (bits >> 13)) * 0xc2b2ae35U;
    return bits ^ (bits >> 16);
}

}  // namespace

void Siblings::add(NodeId &top, NodeId added) {
    const Tokens key = nodes_.tokens(added);
    const auto before = [&](NodeId other) { return compare(key, nodes_.tokens(other)) < 0; };
    NodeId *place = &top;
    while (*place != no_node && rank(*place) > rank(added)) {
        place = before(*place) ? &nodes_[*place].left : &nodes_[*place].right;
    }
    // The subtree at that place is cut in two around the new one.
    NodeId rest = *place;
    *place = added;
    NodeId *below = &nodes_[added].left, *above = &nodes_[added].right;
    while (rest != no_node) {
        NodeId *&side = before(rest) ? above : below;
        *side = rest;
        side = &side == &above ? &nodes_[rest].left : &nodes_[rest].right;
        rest = *side;
    }
    *below = *above = no_node;
}

void Siblings::remove(NodeId &top, NodeId removed) {
    const Tokens key = nodes_.tokens(removed);
    NodeId *place = &top;
    while (*place != removed) {
        place = compare(key, nodes_.tokens(*place)) < 0 ? &nodes_[*place].left : &nodes_[*place].right;
    }
    NodeId below = nodes_[removed].left, above = nodes_[removed].right;
    while (below != no_node && above != no_node) {
        const bool lower = rank(below) > rank(above);
        *place = lower ? below : above;
        place = lower ? &nodes_[below].right : &nodes_[above].left;
        (lower ? below : above) = *place;
    }
    *place = below != no_node ? below : above;
}

Neighbours Siblings::around(NodeId top, Tokens key) const {
    Neighbours found;
    while (top != no_node) {
        const int order = compare(key, nodes_.tokens(top));
        if (order == 0) return {top, no_node, true};
        (order < 0 ? found.above : found.below) = top;
        top = order < 0 ? nodes_[top].left : nodes_[top].right;
    }
    return found;
}

NodeId Siblings::longest_prefix(NodeId top, Tokens key, Neighbours beside) const {
    while (!beside.equal && beside.below != no_node) {
        // No prefix of the key is longer than what it shares with its neighbour, for it stands before both.
        key = key.first(in_common(key, nodes_.tokens(beside.below)));
        if (key.count == nodes_[beside.below].count) break;
        beside = around(top, key);
    }
    return beside.below;
}

std::vector<NodeId> Siblings::list(NodeId top) const {
    std::vector<NodeId> all, waiting;
    while (top != no_node || !waiting.empty()) {
        for (; top != no_node; top = nodes_[top].left) waiting.push_back(top);
        all.push_back(waiting.back());
        waiting.pop_back();
        top = nodes_[all.back()].right;
    }
    return all;
}

}  // namespace mlx_sidecar
