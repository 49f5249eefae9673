#include "prefix_eviction.hpp"

#include <tuple>

namespace mlx_sidecar {

void EvictionOrder::reserve(std::size_t count) {
    if (count > heap_.capacity()) heap_.reserve(std::max(count, 2 * heap_.capacity()));
}

void EvictionOrder::put(NodeId id) {
    if (nodes_[id].place == no_node) {
        nodes_[id].place = static_cast<NodeId>(heap_.size());
        heap_.push_back(id);
    }
    sift(static_cast<std::size_t>(nodes_[id].place), id);
}

void EvictionOrder::remove(NodeId id) {
    if (nodes_[id].place == no_node) return;
    const auto at = static_cast<std::size_t>(nodes_[id].place);
    const NodeId last = heap_.back();
    heap_.pop_back();
    nodes_[id].place = no_node;
    if (last != id) sift(at, last);
}

bool EvictionOrder::before(NodeId a, NodeId b) const {
    const Node &x = nodes_[a], &y = nodes_[b];
    return std::tie(x.used, y.depth, a) < std::tie(y.used, x.depth, b);  // the number only to make the order total
}

void EvictionOrder::place(std::size_t at, NodeId id) {
    heap_[at] = id;
    nodes_[id].place = static_cast<NodeId>(at);
}

// Moves the hole at `at` up or down to where `id` belongs.
void EvictionOrder::sift(std::size_t at, NodeId id) {
    while (at > 0 && before(id, heap_[(at - 1) / 2])) {
        place(at, heap_[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (std::size_t next = 2 * at + 1; next < heap_.size(); next = 2 * at + 1) {
        if (next + 1 < heap_.size() && before(heap_[next + 1], heap_[next])) ++next;
        if (!before(heap_[next], id)) break;
        place(at, heap_[next]);
        at = next;
    }
    place(at, id);
}

}  // namespace mlx_sidecar
