#include "prefix_index.hpp"

#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

namespace mlx_sidecar {
namespace {

std::size_t checked_block(std::int64_t block) {
    if (block < 1 || block > 65535) throw std::invalid_argument("block must be 1 to 65535, not " + std::to_string(block));
    return static_cast<std::size_t>(block);
}

void check_count(Tokens tokens) {
    if (tokens.count > std::numeric_limits<std::uint32_t>::max()) throw std::invalid_argument("too many tokens");
}

}  // namespace

PrefixIndex::PrefixIndex(std::int64_t block) : block_(checked_block(block)), nodes_(block_) {}

NodeId PrefixIndex::root() { return nodes_.make(Kind::root, no_node, 0, {nullptr, 0}); }

// Looking up

Match PrefixIndex::find(std::int64_t root, Tokens tokens, bool touch) {
    NodeId at = known(root, Kind::root);
    check_count(tokens);
    if (touch) ++clock_;
    Match match;
    while (match.common < tokens.count && nodes_[at].child != no_node) {
        const Tokens rest = tokens.part(match.common, block_);
        const Neighbours beside = siblings_.around(nodes_[at].child, rest);
        at = siblings_.longest_prefix(nodes_[at].child, rest, beside);
        if (at != no_node) step(at, touch, match);
        const std::size_t matched = at == no_node ? 0 : nodes_[at].count;
        if (matched < rest.count) {  // a leaf or nothing: another may go further, though not to its own end
            find_tail(rest, beside, matched, touch, match);
            break;
        }
    }
    return match;
}

void PrefixIndex::step(NodeId to, bool touch, Match &match) {
    const Node &node = nodes_[to];
    match.common += node.count;
    match.steps.push_back({to, static_cast<std::uint32_t>(match.common), {node.payload[ram], node.payload[disk]}});
    if (touch) mark(to);
}

void PrefixIndex::find_tail(Tokens rest, Neighbours beside, std::size_t matched, bool touch, Match &match) {
    std::size_t longest = matched;
    for (const NodeId id : {beside.below, beside.above}) {
        const std::size_t shared = id == no_node ? 0 : in_common(rest, nodes_.tokens(id));
        if (shared > longest) std::tie(longest, match.tail) = std::pair(shared, id);
    }
    if (longest == matched) return;
    match.common += longest - matched;
    for (const Tier tier : {ram, disk}) match.tail_payload[tier] = nodes_[match.tail].payload[tier];
    if (touch) mark(match.tail);
}

NodeId PrefixIndex::end_of(NodeId root, Tokens tokens) const {
    NodeId at = root;
    for (std::size_t from = 0; from < tokens.count; from += block_) {
        const Neighbours beside = siblings_.around(nodes_[at].child, tokens.part(from, block_));
        if (!beside.equal) throw std::invalid_argument("the tokens before start are not known");
        at = beside.below;
    }
    return at;
}

// Putting in

Inserted PrefixIndex::insert(std::int64_t root, Tokens tokens, std::int64_t start, std::int64_t stop, Payload payload,
                             Tier tier, bool exact) {
    const NodeId top = known(root, Kind::root);
    check_count(tokens);
    if (start < 0 || start > stop || stop > static_cast<std::int64_t>(tokens.count)) {
        throw std::invalid_argument("start and stop must be in order and within the tokens");
    }
    if (start % static_cast<std::int64_t>(block_) != 0) throw std::invalid_argument("start must be that of a block");
    if (payload < 0) throw std::invalid_argument("a payload is a number from 0 on");

    Inserted inserted;
    NodeId at = end_of(top, tokens.first(static_cast<std::size_t>(start)));
    if (tier == ram) ++clock_;
    const Tokens wanted = tokens.first(static_cast<std::size_t>(stop));
    for (auto from = static_cast<std::size_t>(start); from < wanted.count; from += block_) {
        const Tokens run = wanted.part(from, block_);
        const Neighbours beside = siblings_.around(nodes_[at].child, run);
        const bool covered = !beside.equal && !exact && run.count < block_ && beside.above != no_node &&
                             in_common(run, nodes_.tokens(beside.above)) == run.count;
        at = beside.equal ? beside.below : covered ? beside.above : make(at, run, exact, inserted);
        if (tier == ram) mark(at);
        const bool last = from + block_ >= wanted.count;
        if (!covered && (give(at, tier, payload) || (exact && last && trade(at, tier, payload, inserted)))) {
            ++inserted.count;
        }
    }
    inserted.last = at;
    return inserted;
}

NodeId PrefixIndex::make(NodeId parent, Tokens tokens, bool exact, Inserted &inserted) {
    order_.reserve(count_ + 1);
    const NodeId id = nodes_.make(Kind::block, parent, nodes_[parent].depth + nodes_[parent].count, tokens);
    nodes_[id].used = clock_;
    ++count_;
    if (!exact) supersede(parent, tokens, inserted);
    siblings_.add(nodes_[parent].child, id);
    return id;
}

// The leaves that the tokens extend, from the longest down.
void PrefixIndex::supersede(NodeId parent, Tokens tokens, Inserted &inserted) {
    for (Tokens key = tokens.first(tokens.count - 1); key.count > 0;) {
        const NodeId top = nodes_[parent].child;
        const NodeId leaf = siblings_.longest_prefix(top, key, siblings_.around(top, key));
        if (leaf == no_node) return;
        key = key.first(nodes_[leaf].count - std::size_t{1});
        if (nodes_[leaf].holds > 0) continue;
        for (const Tier tier : {ram, disk}) {
            if (const Payload freed = take(leaf, tier); freed != no_payload) inserted.freed[tier].push_back(freed);
        }
        remove(leaf);
    }
}

bool PrefixIndex::give(NodeId id, Tier tier, Payload payload) {
    if (nodes_[id].payload[tier] != no_payload) return false;
    nodes_[id].payload[tier] = payload;
    ++blocks_[tier];
    if (tier == ram) {
        ++nodes_[nodes_[id].parent].ram_children;
        settle(nodes_[id].parent);
        settle(id);
    }
    return true;
}

// The payload that it has gives way, unless it is held.
bool PrefixIndex::trade(NodeId id, Tier tier, Payload payload, Inserted &inserted) {
    if (nodes_[id].holds > 0) return false;
    inserted.freed[tier].push_back(std::exchange(nodes_[id].payload[tier], payload));
    return true;
}

void PrefixIndex::mark(NodeId id) {
    nodes_[id].used = clock_;
    if (nodes_[id].place != no_node) order_.put(id);
}

// Brings the order of eviction up to date after a change of this node.
void PrefixIndex::settle(NodeId id) {
    const Node &node = nodes_[id];
    if (node.payload[ram] != no_payload && node.holds == 0 && node.ram_children == 0) {
        order_.put(id);
    } else {
        order_.remove(id);
    }
}

// Holding

void PrefixIndex::hold(const std::vector<std::int64_t> &numbers) {
    for (const std::int64_t number : numbers) known(number, Kind::block);
    for (const std::int64_t number : numbers) {
        const auto id = static_cast<NodeId>(number);
        ++nodes_[id].holds;
        settle(id);
    }
}

void PrefixIndex::let_go(const std::vector<std::int64_t> &numbers) {
    for (const std::int64_t number : numbers) known(number, Kind::block);
    for (std::size_t done = 0; done < numbers.size(); ++done) {
        const auto id = static_cast<NodeId>(numbers[done]);
        if (nodes_[id].holds-- > 0) continue;
        for (++done; done > 0; --done) ++nodes_[static_cast<NodeId>(numbers[done - 1])].holds;
        throw std::invalid_argument("node " + std::to_string(id) + " is not held as often as it is let go");
    }
    for (const std::int64_t number : numbers) {
        if (!nodes_.in_use(number)) continue;  // went with one before it
        settle(static_cast<NodeId>(number));
        prune(static_cast<NodeId>(number));
    }
}

// Taking out

Payload PrefixIndex::evict() {
    const NodeId id = order_.first();
    if (id == no_node) return no_payload;
    const Payload payload = take(id, ram);
    prune(id);
    return payload;
}

void PrefixIndex::forget(std::int64_t number, Tier tier) {
    const NodeId id = known(number, Kind::block);
    take(id, tier);
    prune(id);
}

std::vector<Payload> PrefixIndex::clear(std::int64_t root, Tier tier) {
    std::vector<NodeId> all = below(known(root, Kind::root));
    std::vector<Payload> taken;
    for (const NodeId id : all) {
        if (const Payload payload = take(id, tier); payload != no_payload) taken.push_back(payload);
    }
    for (auto id = all.rbegin(); id != all.rend(); ++id) {
        if (empty(*id)) remove(*id);
    }
    return taken;
}

void PrefixIndex::drop(std::int64_t root) {
    const NodeId top = known(root, Kind::root);
    const std::vector<NodeId> all = below(top);
    for (auto id = all.rbegin(); id != all.rend(); ++id) {
        for (const Tier tier : {ram, disk}) take(*id, tier);
        nodes_.release(*id);
    }
    count_ -= all.size();
    nodes_.release(top);
}

Payload PrefixIndex::take(NodeId id, Tier tier) {
    const Payload taken = std::exchange(nodes_[id].payload[tier], no_payload);
    if (taken == no_payload) return no_payload;
    --blocks_[tier];
    if (tier == ram) {
        --nodes_[nodes_[id].parent].ram_children;
        settle(id);
        settle(nodes_[id].parent);
    }
    return taken;
}

// Removes a node that nothing needs any more, and so on upwards.
void PrefixIndex::prune(NodeId id) {
    while (empty(id)) id = remove(id);
}

bool PrefixIndex::empty(NodeId id) const {
    const Node &node = nodes_[id];
    return node.kind == Kind::block && node.child == no_node && node.holds == 0 && node.payload[ram] == no_payload &&
           node.payload[disk] == no_payload;
}

NodeId PrefixIndex::remove(NodeId id) {
    const NodeId parent = nodes_[id].parent;
    siblings_.remove(nodes_[parent].child, id);
    nodes_.release(id);
    --count_;
    return parent;
}

// Looking at nodes

std::vector<std::int32_t> PrefixIndex::tokens(std::int64_t number) const {
    const Tokens own = nodes_.tokens(known(number));
    return {own.data, own.data + own.count};
}

std::vector<std::int32_t> PrefixIndex::path(std::int64_t number) const {
    NodeId id = known(number);
    std::vector<std::int32_t> all(nodes_[id].depth + nodes_[id].count);
    for (; id != no_node; id = nodes_[id].parent) {
        const Tokens own = nodes_.tokens(id);
        std::copy_n(own.data, own.count, all.begin() + nodes_[id].depth);
    }
    return all;
}

NodeId PrefixIndex::parent(std::int64_t number) const { return nodes_[known(number)].parent; }

std::vector<NodeId> PrefixIndex::children(std::int64_t number) const {
    return siblings_.list(nodes_[known(number)].child);
}

std::size_t PrefixIndex::depth(std::int64_t number) const { return nodes_[known(number)].depth; }

std::size_t PrefixIndex::nbytes() const { return sizeof *this + nodes_.nbytes() + order_.nbytes(); }

// All nodes below this one, each behind its parent.
std::vector<NodeId> PrefixIndex::below(NodeId root) const {
    std::vector<NodeId> all;
    std::vector<NodeId> waiting = {nodes_[root].child};
    while (!waiting.empty()) {
        const NodeId id = waiting.back();
        waiting.pop_back();
        if (id == no_node) continue;
        all.push_back(id);
        for (const NodeId next : {nodes_[id].right, nodes_[id].left, nodes_[id].child}) waiting.push_back(next);
    }
    return all;
}

NodeId PrefixIndex::known(std::int64_t number) const {
    if (!nodes_.in_use(number)) throw std::invalid_argument("there is no node " + std::to_string(number));
    return static_cast<NodeId>(number);
}

NodeId PrefixIndex::known(std::int64_t number, Kind kind) const {
    const NodeId id = known(number);
    if (nodes_[id].kind == kind) return id;
    throw std::invalid_argument("node " + std::to_string(number) + (kind == Kind::root ? " is not a root" : " is a root"));
}

}  // namespace mlx_sidecar
