#include "prefix_nodes.hpp"

#include <limits>

namespace mlx_sidecar {
namespace {

constexpr unsigned largest_shift = 10;
constexpr std::size_t chunk_tokens = 1 << 16;

// As many slots to a chunk as 2^16 tokens fill, at most 1024 and at least one.
unsigned chunk_shift(std::size_t block) {
    unsigned shift = largest_shift;
    while (shift > 0 && block << shift > chunk_tokens) --shift;
    return shift;
}

}  // namespace

NodeSlab::NodeSlab(std::size_t block) : block_(block), shift_(chunk_shift(block)) {}

NodeId NodeSlab::make(Kind kind, NodeId parent, std::size_t depth, Tokens tokens) {
    const NodeId id = unused_slot();
    Node &node = *new (&(*this)[id]) Node{};
    node.parent = parent;
    node.depth = static_cast<std::uint32_t>(depth);
    node.count = static_cast<std::uint16_t>(tokens.count);
    node.kind = kind;
    std::copy_n(tokens.data, tokens.count, &tokens_[chunk(id)][slot(id) * block_]);
    return id;
}

void NodeSlab::release(NodeId id) {
    // A chain is released from its end, so that the next chain gets its numbers in rising order: neighbours again.
    (*this)[id].kind = Kind::unused;
    (*this)[id].parent = unused_;
    unused_ = id;
}

NodeId NodeSlab::unused_slot() {
    if (unused_ != no_node) {
        const NodeId id = unused_;
        unused_ = (*this)[id].parent;
        return id;
    }
    if (touched_ == slots()) grow();
    return static_cast<NodeId>(touched_++);
}

void NodeSlab::grow() {
    const std::size_t count = std::size_t{1} << shift_;
    if (slots() + count > static_cast<std::size_t>(std::numeric_limits<NodeId>::max())) throw std::bad_alloc();
    void *room = ::operator new(count * sizeof(Node), std::align_val_t{alignof(Node)});
    std::unique_ptr<Node[], Room> nodes(static_cast<Node *>(room));
    std::unique_ptr<std::int32_t[]> tokens(new std::int32_t[count * block_]);  // not cleared
    tokens_.push_back(std::move(tokens));
    try {
        nodes_.push_back(std::move(nodes));
    } catch (...) {
        tokens_.pop_back();
        throw;
    }
}

bool NodeSlab::in_use(std::int64_t number) const {
    return number >= 0 && static_cast<std::uint64_t>(number) < touched_ &&
           (*this)[static_cast<NodeId>(number)].kind != Kind::unused;
}

std::size_t NodeSlab::nbytes() const {
    const std::size_t vectors = nodes_.capacity() * sizeof nodes_[0] + tokens_.capacity() * sizeof tokens_[0];
    return vectors + slots() * (sizeof(Node) + block_ * sizeof(std::int32_t));
}

}  // namespace mlx_sidecar
